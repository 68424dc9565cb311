//! What is known of commands that fail or kill their process, kept where a crash can't lose it.
//!
//! A try is recorded before it begins and taken back when it ends, so that a try which the process
//! did not survive is found by the next owner of the lane. Deliberately absent: what follows from
//! it, see [`domain::attempt`](crate::domain::attempt).

use std::collections::HashMap;

use sqlx::Connection as _;
use uuid::Uuid;

use crate::domain::attempt::Company;
use crate::store::connection::Connection;
use crate::store::error::Error;
use crate::store::fence::{self, Fence};

/// What is known of a delivery that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Failures that are the command's own.
    pub counted: u32,
    /// Deaths of a process in which the command ran beside others.
    pub deaths: u32,
    /// Of the latest failure.
    pub last_error: Option<String>,
}

impl Attempts {
    /// As many deaths as cut the batch around the command: an attempt that counts was made alone, so
    /// the command runs alone from then on.
    #[must_use]
    pub fn deaths_for_split(&self) -> u32 {
        if self.counted > 0 { u32::MAX } else { self.deaths }
    }
}

/// What is known of `ids`; those of which nothing is known are absent. A try that another process
/// than `process` has begun and not ended counts as its death. Only the lane's owner may ask: the
/// count decides that a command is given up, and no other worker must apply it then.
pub async fn find(
    connection: &mut Connection,
    fence: &Fence,
    process: Uuid,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, Attempts>, Error> {
    let known = sqlx::query_scalar!(
        r#"select exists (
            select from delivery_attempt where lane = $1 and delivery_id = any($2)) as "known!""#,
        fence.lane,
        ids,
    )
    .fetch_one(&mut *connection)
    .await?;
    if !known {
        return Ok(HashMap::new());
    }
    let mut transaction = connection.begin().await?;
    fence::check(&mut transaction, fence).await?;
    let rows = sqlx::query!(
        "update delivery_attempt
         set attempts = attempts
                 + case when running_in <> $3 and running_alone then 1 else 0 end,
             deaths = deaths + case when running_in <> $3 and not running_alone then 1 else 0 end,
             last_error = case when running_in <> $3 and running_alone
                 then 'the worker died while the command ran alone' else last_error end,
             running_in = null
         where lane = $1 and delivery_id = any($2)
         returning delivery_id, attempts, deaths, last_error",
        fence.lane,
        ids,
        process,
    )
    .fetch_all(&mut *transaction)
    .await?;
    transaction.commit().await?;
    let attempts = rows.into_iter().map(|row| {
        let attempts = Attempts {
            counted: row.attempts.unsigned_abs(),
            deaths: row.deaths.unsigned_abs(),
            last_error: row.last_error,
        };
        (row.delivery_id, attempts)
    });
    Ok(attempts.collect())
}

/// Records that `process` begins to try `ids`. The lane's owner only, like [`find`].
pub async fn begin(
    connection: &mut Connection,
    fence: &Fence,
    process: Uuid,
    ids: &[Uuid],
    company: Company,
) -> Result<(), Error> {
    let mut transaction = connection.begin().await?;
    fence::check(&mut transaction, fence).await?;
    sqlx::query!(
        "insert into delivery_attempt (lane, delivery_id, running_in, running_alone)
         select distinct $1, id, $3::uuid, $4::bool from unnest($2::uuid[]) id
         on conflict (lane, delivery_id) do update
         set running_in = excluded.running_in, running_alone = excluded.running_alone,
             last_at = now()",
        fence.lane,
        ids,
        process,
        company == Company::Alone,
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

/// Records how a try of one command failed, whether it counts, and that it has ended. Returns how
/// many attempts count now. The lane's owner only, like [`find`].
pub async fn end(
    connection: &mut Connection,
    fence: &Fence,
    id: Uuid,
    counts: bool,
    error: &str,
) -> Result<u32, Error> {
    let mut transaction = connection.begin().await?;
    fence::check(&mut transaction, fence).await?;
    let attempts = sqlx::query_scalar!(
        "insert into delivery_attempt (lane, delivery_id, attempts, last_error)
         values ($1, $2, $3::bool::int, $4)
         on conflict (lane, delivery_id) do update
         set attempts = delivery_attempt.attempts + excluded.attempts,
             last_error = excluded.last_error, running_in = null, last_at = now()
         returning attempts",
        fence.lane,
        id,
        counts,
        error,
    )
    .fetch_one(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(attempts.unsigned_abs())
}

/// Takes back the tries that `process` has begun on the lane and will not end: its generation is
/// over, the process lives.
pub async fn take_back(
    connection: &mut Connection,
    lane: &str,
    process: Uuid,
) -> Result<(), Error> {
    sqlx::query!(
        "update delivery_attempt set running_in = null where lane = $1 and running_in = $2",
        lane,
        process,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets commands that were last tried a week ago: they were given up, and a replay has another id.
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
