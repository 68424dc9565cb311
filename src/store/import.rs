//! Merges a catalogue's orgs. Programs and tiers follow the same way.
//!
//! Statement triggers raise the catalogue's version even for no row, so nothing is written
//! where nothing differs.

use crate::store::connection::Connection;
use crate::store::error::Error;

/// What became of the rows of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Not there before.
    pub added: i64,
    /// There, with other contents.
    pub changed: i64,
    /// As given already.
    pub unchanged: i64,
}

/// Adds and changes orgs, by code. The caller begins and commits.
pub async fn orgs(
    connection: &mut Connection,
    codes: &[String],
    names: &[String],
    country_codes: &[String],
) -> Result<Counts, Error> {
    let counts = sqlx::query_as!(
        Counts,
        r#"select count(*) filter (where org.id is null) as "added!",
            count(*) filter (where (org.name, org.country_code) <> (given.name, given.country_code))
                as "changed!",
            count(*) filter (where (org.name, org.country_code) = (given.name, given.country_code))
                as "unchanged!"
        from unnest($1::text[], $2::text[], $3::text[]) given (code, name, country_code)
        left join org on org.code = given.code"#,
        codes,
        names,
        country_codes
    )
    .fetch_one(&mut *connection)
    .await?;
    if counts.added + counts.changed > 0 {
        sqlx::query!(
            "insert into org (code, name, country_code)
            select * from unnest($1::text[], $2::text[], $3::text[])
            on conflict (code) do update
            set name = excluded.name, country_code = excluded.country_code
            where (org.name, org.country_code) is distinct from (excluded.name, excluded.country_code)",
            codes,
            names,
            country_codes
        )
        .execute(connection)
        .await?;
    }
    Ok(counts)
}
