//! How often a delivery was tried, kept where a crash of the process can't lose it.

use std::collections::HashMap;

use sqlx::Connection as _;
use uuid::Uuid;

use crate::store::connection::Connection;
use crate::store::error::Error;
use crate::store::fence::{self, Fence};

/// The attempts counted for `ids` so far; those never tried are absent.
pub async fn read(
    connection: &mut Connection,
    lane: &str,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, i32>, Error> {
    let rows = sqlx::query!(
        "select delivery_id, attempts from delivery_attempt where lane = $1 and delivery_id = any($2)",
        lane,
        ids,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.delivery_id, row.attempts)).collect())
}

/// Adds an attempt for each of `ids`, and returns how many that makes. Only the lane's holder
/// may: the last attempt decides that a command is given up, and nobody else must apply it then.
pub async fn count(
    connection: &mut Connection,
    fence: &Fence,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, i32>, Error> {
    let mut transaction = connection.begin().await?;
    fence::check(&mut transaction, fence).await?;
    let rows = sqlx::query!(
        "insert into delivery_attempt (lane, delivery_id, attempts)
         select distinct $1, id, 1 from unnest($2::uuid[]) id
         on conflict (lane, delivery_id) do update
         set attempts = delivery_attempt.attempts + 1, last_at = now()
         returning delivery_id, attempts",
        fence.lane,
        ids,
    )
    .fetch_all(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(rows.into_iter().map(|row| (row.delivery_id, row.attempts)).collect())
}

/// Forgets those last tried a week ago: given up or discarded then, they come back under another
/// id if they are replayed.
pub async fn forget_old(connection: &mut Connection) -> Result<(), Error> {
    sqlx::query!("delete from delivery_attempt where last_at < now() - interval '7 days'")
        .execute(connection)
        .await?;
    Ok(())
}

/// Forgets them: their commands are done.
pub async fn clear(connection: &mut Connection, lane: &str, ids: &[Uuid]) -> Result<(), Error> {
    sqlx::query!(
        "delete from delivery_attempt where lane = $1 and delivery_id = any($2)",
        lane,
        ids
    )
    .execute(connection)
    .await?;
    Ok(())
}
