//! The processes of workers: which of them live, and which have one `worker_id` between them.
//!
//! A process that dies says nothing more and counts as dead after a while. One that is started again
//! under the same id right away is no twin of the dead one, which was last seen before. All times are
//! the database's.

use uuid::Uuid;

use crate::store::connection::Connection;
use crate::store::error::Error;

/// A process that was not seen for so many seconds has died.
const PRESENT_SECONDS: f64 = 30.0;
/// As many processes of one id are named.
const NAMED_MAX: i64 = 10;

/// A worker's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Of this process alone.
    pub id: Uuid,
    /// Its `worker_id`.
    pub worker: String,
    /// The name of its machine or container.
    pub host: String,
    /// Its number there.
    pub os_process_id: i32,
}

/// A `worker_id` that several live processes have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedId {
    /// The `worker_id`.
    pub worker: String,
    /// How many processes have it.
    pub processes: i64,
    /// Which: machine and number there, the oldest first; not all of very many.
    pub named: Vec<String>,
}

/// Says that the process lives, and finds the others of its `worker_id` that have been seen since it
/// began, oldest first. Rows of processes that have died long ago go.
pub async fn report(connection: &mut Connection, own: &Process) -> Result<Vec<String>, Error> {
    let twins = sqlx::query_scalar!(
        r#"with forgotten as (
            delete from worker_process where seen_at < now() - interval '1 hour' and id <> $1
        ), own as (
            insert into worker_process (id, worker, host, os_process_id) values ($1, $2, $3, $4)
            on conflict (id) do update set seen_at = now()
            returning started_at
        )
        select twin.host || ' process ' || twin.os_process_id as "twin!"
        from worker_process twin cross join own
        where twin.worker = $2 and twin.id <> $1 and twin.seen_at > own.started_at
            and twin.seen_at > now() - make_interval(secs => $5)
        order by twin.started_at, twin.id limit $6"#,
        own.id,
        own.worker,
        own.host,
        own.os_process_id,
        PRESENT_SECONDS,
        NAMED_MAX,
    )
    .fetch_all(connection)
    .await?;
    Ok(twins)
}

/// Says that the process ends.
pub async fn leave(connection: &mut Connection, id: Uuid) -> Result<(), Error> {
    sqlx::query!("delete from worker_process where id = $1", id).execute(connection).await?;
    Ok(())
}

/// The ids that several live processes have, by id. Processes that were there one after the other
/// have none in common.
pub async fn shared_ids(connection: &mut Connection) -> Result<Vec<SharedId>, Error> {
    let shared = sqlx::query_as!(
        SharedId,
        r#"with live as (
            select * from worker_process where seen_at > now() - make_interval(secs => $1)
        ), twin as (
            select * from live one where exists (
                select from live other where other.worker = one.worker and other.id <> one.id
                    and greatest(one.started_at, other.started_at) < least(one.seen_at, other.seen_at))
        )
        select worker, count(*) as "processes!",
            (array_agg(host || ' process ' || os_process_id order by started_at, id))[:$2::int]
                as "named!"
        from twin group by worker order by worker"#,
        PRESENT_SECONDS,
        i32::try_from(NAMED_MAX).unwrap_or(i32::MAX),
    )
    .fetch_all(connection)
    .await?;
    Ok(shared)
}

/// How many processes of workers live.
pub async fn count(connection: &mut Connection) -> Result<i64, Error> {
    let count = sqlx::query_scalar!(
        r#"select count(*) as "count!" from worker_process
        where seen_at > now() - make_interval(secs => $1)"#,
        PRESENT_SECONDS,
    )
    .fetch_one(connection)
    .await?;
    Ok(count)
}

impl SharedId {
    /// What is wrong, and what to do.
    #[must_use]
    pub fn problem(&self) -> String {
        let Self { worker, processes, named } = self;
        format!("worker_id `{worker}` is used by {processes} live workers: {}", named.join(", "))
    }
}

/// What to do about a shared id.
pub const REMEDY: &str = "give each worker a worker_id of its own, or none";
