//! Partitions: made ahead, dropped when over. The rules are the database's function.

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
