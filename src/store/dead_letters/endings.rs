//! Bulk jobs that are cancelled, and exports whose program is gone.

use uuid::Uuid;

use crate::store::connection::Connection;
use crate::store::error::Error;

/// What a request to cancel a bulk job has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancellation {
    /// It has ended, as no runner was heard of.
    Ended,
    /// Its runner ends it after the letters that it has in hand.
    Requested,
    /// It had ended before, or there is none.
    NotRunning,
}

/// Cancels a running bulk job: at once, if its runner was not heard of for `silent_s` seconds.
pub async fn cancel(
    connection: &mut Connection,
    id: Uuid,
    silent_s: i32,
) -> Result<Cancellation, Error> {
    let has_ended = sqlx::query_scalar!(
        r#"update bulk_job set cancel_requested = true,
            state = case when is_silent then 'cancelled' else state end,
            ended_at = case when is_silent then now() end
        from (select id, heartbeat_at is null or heartbeat_at < now() - make_interval(secs => $2::int) as is_silent
            from bulk_job where id = $1 and state = 'running' for update) running
        where bulk_job.id = running.id
        returning is_silent as "has_ended!""#,
        id,
        silent_s,
    )
    .fetch_optional(connection)
    .await?;
    Ok(match has_ended {
        Some(true) => Cancellation::Ended,
        Some(false) => Cancellation::Requested,
        None => Cancellation::NotRunning,
    })
}

/// Ends exports whose runner was not heard of for `silent_s` seconds: what they wrote is where they wrote
/// it, so no other runner can go on with them.
pub async fn end_silent_exports(connection: &mut Connection, silent_s: i32) -> Result<(), Error> {
    sqlx::query!(
        "update bulk_job set ended_at = now(),
            state = case when cancel_requested then 'cancelled' else 'failed' end,
            problem = case when cancel_requested then problem
                else 'its program ended before it was done: begin a new export' end
        where state = 'running' and kind = 'export'
            and (heartbeat_at is null or heartbeat_at < now() - make_interval(secs => $1::int))",
        silent_s,
    )
    .execute(connection)
    .await?;
    Ok(())
}
