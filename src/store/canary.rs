//! The canary's committed row: that the database takes a statement does not say that it commits.

use crate::store::connection::Connection;
use crate::store::error::Error;

/// Commits that the canary of `lane` has passed at `worker`.
pub async fn record(connection: &mut Connection, lane: &str, worker: &str) -> Result<(), Error> {
    sqlx::query!(
        "insert into canary (lane, worker) values ($1, $2)
         on conflict (lane) do update set worker = excluded.worker, passed_at = now()",
        lane,
        worker,
    )
    .execute(connection)
    .await?;
    Ok(())
}
