//! What has had its time: partitions and dead letters. The rules are the database's functions.

use crate::store::connection::Connection;
use crate::store::error::Error;

/// Makes the partitions of the inbox and the history ahead, and drops those of the inbox that
/// are older than `retention_days`. Safe to call at any time by any number of workers.
pub async fn maintain(connection: &mut Connection, retention_days: i32) -> Result<(), Error> {
    sqlx::query!(
        "select maintain_partitions($1, (now() at time zone 'utc')::date)",
        retention_days
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Dead letters that are forgotten in one transaction.
const LETTERS_MAX: i32 = 1_000;

/// Deletes some dead letters that were closed more than `retention_days` ago, with their audit, and
/// returns their number: zero when none is left.
pub async fn delete_expired_dead_letters(
    connection: &mut Connection,
    retention_days: i32,
) -> Result<u64, Error> {
    let gone = sqlx::query_scalar!(
        r#"select delete_expired_dead_letters($1, $2) as "gone!""#,
        retention_days,
        LETTERS_MAX,
    )
    .fetch_one(connection)
    .await?;
    Ok(u64::from(gone.unsigned_abs()))
}
