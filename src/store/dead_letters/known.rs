//! What a filter can name: a word that nothing has is a typing error, not an empty answer.

use crate::store::connection::Connection;
use crate::store::error::Error;
use crate::store::text::replace_nul;

/// Reasons that are told at most: the broker's may be any.
const REASONS_MAX: i64 = 50;

/// The reasons of letters that are or were in the archive.
pub async fn reasons(connection: &mut Connection) -> Result<Vec<String>, Error> {
    let reasons = sqlx::query_scalar!(
        "select distinct reason from dead_letter_group order by reason limit $1",
        REASONS_MAX,
    )
    .fetch_all(connection)
    .await?;
    Ok(reasons)
}

/// Whether there is or was such a group.
pub async fn has_group(connection: &mut Connection, fingerprint: &str) -> Result<bool, Error> {
    let has = sqlx::query_scalar!(
        r#"select exists (select from dead_letter_group where fingerprint = $1) as "has!""#,
        replace_nul(fingerprint),
    )
    .fetch_one(connection)
    .await?;
    Ok(has)
}

/// Whether the database knows the lane, or a letter died there.
pub async fn has_lane(connection: &mut Connection, lane: &str) -> Result<bool, Error> {
    let has = sqlx::query_scalar!(
        r#"select exists (select from lane where name = $1)
            or exists (select from dead_letter where lane = $1) as "has!""#,
        replace_nul(lane),
    )
    .fetch_one(connection)
    .await?;
    Ok(has)
}

/// Whether the catalogue has the org, or a letter names it.
pub async fn has_org(connection: &mut Connection, code: &str) -> Result<bool, Error> {
    let has = sqlx::query_scalar!(
        r#"select exists (select from org where code = $1)
            or exists (select from dead_letter where org_code = $1) as "has!""#,
        replace_nul(code),
    )
    .fetch_one(connection)
    .await?;
    Ok(has)
}
