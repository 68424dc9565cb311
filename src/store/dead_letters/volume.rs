//! How much the archive holds, and how much of it is of publishers that may not publish here.

use std::collections::HashMap;

use crate::store::connection::Connection;
use crate::store::error::Error;

/// How many bytes all letters take, nearly.
pub async fn total(connection: &mut Connection) -> Result<i64, Error> {
    let total = sqlx::query_scalar!(
        r#"select coalesce(sum(bytes), 0)::bigint as "bytes!" from dead_letter_volume"#
    )
    .fetch_one(connection)
    .await?;
    Ok(total)
}

/// A publisher, empty where it is not known, and the reason why its letters died.
pub type Stranger = (String, String);

/// How many bytes the letters of these take, nearly.
pub async fn of_strangers(
    connection: &mut Connection,
    strangers: &[Stranger],
) -> Result<HashMap<Stranger, i64>, Error> {
    let (users, reasons): (Vec<String>, Vec<String>) = strangers.iter().cloned().unzip();
    let rows = sqlx::query!(
        "select user_id, reason, bytes from dead_letter_volume
        join unnest($1::text[], $2::text[]) as stranger (user_id, reason) using (user_id, reason)",
        &users,
        &reasons,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| ((row.user_id, row.reason), row.bytes)).collect())
}
