//! How the system fares, in figures that cost next to nothing to read.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::store::connection::Connection;
use crate::store::error::Error;

/// New dead letters beyond so many are not counted.
const NEW_LETTERS_MAX: i64 = 10_000;

/// A lane that was acquired at least once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Its name.
    pub name: String,
    /// How often it was acquired.
    pub epoch: i64,
    /// The worker that acquired it last.
    pub holder: String,
    /// That worker's process; `None` where no worker acquired it.
    pub process: Option<Uuid>,
    /// Its machine and number there, while they are known.
    pub process_name: Option<String>,
    /// When it did.
    pub taken_at: DateTime<Utc>,
}

/// The lanes, by name.
pub async fn lanes(connection: &mut Connection) -> Result<Vec<Lane>, Error> {
    let lanes = sqlx::query_as!(
        Lane,
        "select name, epoch, owner as holder, process, host || ' process ' || os_process_id as process_name,
             acquired_at as taken_at
         from lane left join worker_process on worker_process.id = lane.process order by name"
    )
    .fetch_all(connection)
    .await?;
    Ok(lanes)
}

/// The number of the last command that any worker stored. Its growth is the throughput of all
/// workers together: a batch that is done again makes a gap, so it is a little too high then.
pub async fn last_command(connection: &mut Connection) -> Result<i64, Error> {
    let last = sqlx::query_scalar!(
        r#"select coalesce(pg_sequence_last_value('command_log_sequence_seq'), 0) as "last!""#
    )
    .fetch_one(connection)
    .await?;
    Ok(last)
}

/// Dead letters that need an operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Letters {
    /// Dead letters that no operator has acted on yet.
    pub open: i64,
    /// What all archived dead letters take, nearly.
    pub bytes: i64,
    /// Died within the last hour, whatever became of them; not counted beyond 10,000.
    pub new_within_an_hour: i64,
}

/// How many dead letters there are.
pub async fn letters(connection: &mut Connection) -> Result<Letters, Error> {
    let letters = sqlx::query_as!(
        Letters,
        r#"select
            (select coalesce(sum(letters), 0)::bigint from dead_letter_group
                where state = 'open') as "open!",
            (select coalesce(sum(bytes), 0)::bigint from dead_letter_volume) as "bytes!",
            (select count(*) from (select from dead_letter
                where last_died_at >= now() - interval '1 hour' limit $1) new)
                as "new_within_an_hour!""#,
        NEW_LETTERS_MAX,
    )
    .fetch_one(connection)
    .await?;
    Ok(letters)
}
