//! What operators had done to many letters at once: begun, run by one at a time, taken over from
//! a runner that died, cancelled.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::actor::Actor;
use crate::store::connection::Connection;
use crate::store::dead_letters::filter::Filter;
use crate::store::dead_letters::order::DeathOrder;
use crate::store::error::Error;
use crate::store::text::replace_nul;

/// What is done to the letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Publish them again.
    Replay,
    /// Put them aside.
    Discard,
    /// Take them up again.
    Restore,
    /// Write them out.
    Export,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Replay, Self::Discard, Self::Restore, Self::Export];

    /// The word in tables and output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::Discard => "discard",
            Self::Restore => "restore",
            Self::Export => "export",
        }
    }
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All letters were gone through.
    Done,
    /// Somebody asked for it.
    Cancelled,
    /// It can't go on.
    Failed,
}

impl End {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

/// An operation to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What to do.
    pub kind: Kind,
    /// With which letters.
    pub filter: Filter,
    /// Who wants it, why, and from where.
    pub actor: Actor,
    /// Stop after so many.
    pub letters_max: Option<i64>,
    /// At most so many a second.
    pub letters_per_second: Option<i32>,
    /// Whether a replay has effect although the publisher may not act for the org: of one letter alone.
    pub overrides_publisher: bool,
}

/// How far an operation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Letters that it was done with.
    pub done: i64,
    /// Letters that it can't be done with, or that another action has changed first.
    pub skipped: i64,
    /// Letters that it failed with; they are as they were.
    pub failed: i64,
    /// The last letter that was gone through.
    pub cursor: Option<DeathOrder>,
}

/// An operation, running or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its id.
    pub id: Uuid,
    /// `replay`, `discard`, `restore` or `export`.
    pub kind: String,
    /// With which letters; `None` if another version of the program wrote it.
    pub filter: Option<Filter>,
    /// Who wanted it, why, and from where.
    pub actor: Actor,
    /// Stop after so many.
    pub letters_max: Option<i64>,
    /// At most so many a second.
    pub letters_per_second: Option<i32>,
    /// Whether a replay has effect although the publisher may not act for the org: of one letter alone.
    pub overrides_publisher: bool,
    /// `running`, `done`, `cancelled` or `failed`.
    pub state: String,
    /// How many letters the filter meant when it began.
    pub matched: i64,
    /// How far it is.
    pub tally: Tally,
    /// Why it failed.
    pub problem: Option<String>,
    /// Whether it is to stop.
    pub cancel_requested: bool,
    /// Who runs it.
    pub runner: Option<String>,
    /// When the runner was last heard of.
    pub beat_at: Option<DateTime<Utc>>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
}

impl Operation {
    /// What it does; `None` for what another version does.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == self.kind)
    }

    /// Whether it goes on.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state == "running"
    }
}

struct Row {
    id: Uuid,
    kind: String,
    filter: serde_json::Value,
    actor: String,
    reason: String,
    source: String,
    letters_max: Option<i64>,
    letters_per_second: Option<i32>,
    overrides_publisher: bool,
    state: String,
    matched: i64,
    done: i64,
    skipped: i64,
    failed: i64,
    problem: Option<String>,
    cancel_requested: bool,
    cursor_died_at: Option<DateTime<Utc>>,
    cursor_sequence: Option<i64>,
    cursor_lane_epoch: Option<i64>,
    cursor_delivery_tag: Option<i64>,
    runner: Option<String>,
    beat_at: Option<DateTime<Utc>>,
    started_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
}

impl From<Row> for Operation {
    fn from(row: Row) -> Self {
        let cursor = row.cursor_died_at.zip(row.cursor_sequence);
        Self {
            id: row.id,
            kind: row.kind,
            filter: Filter::from_json(&row.filter),
            actor: Actor { name: row.actor, reason: row.reason, source: row.source },
            letters_max: row.letters_max,
            letters_per_second: row.letters_per_second,
            overrides_publisher: row.overrides_publisher,
            state: row.state,
            matched: row.matched,
            tally: Tally {
                done: row.done,
                skipped: row.skipped,
                failed: row.failed,
                cursor: cursor.map(|(ordered_at, sequence)| DeathOrder {
                    ordered_at,
                    lane_epoch: row.cursor_lane_epoch.unwrap_or_default(),
                    delivery_tag: row.cursor_delivery_tag.unwrap_or_default(),
                    sequence,
                }),
            },
            problem: row.problem,
            cancel_requested: row.cancel_requested,
            runner: row.runner,
            beat_at: row.beat_at,
            started_at: row.started_at,
            ended_at: row.ended_at,
        }
    }
}

/// Begins an operation. Without a `runner` a worker takes it within seconds.
pub async fn create(
    connection: &mut Connection,
    plan: &Plan,
    matched: i64,
    runner: Option<&str>,
) -> Result<Uuid, Error> {
    let id = Uuid::now_v7();
    sqlx::query!(
        "insert into dead_letter_operation (id, kind, filter, actor, reason, source, letters_max,
            letters_per_second, matched, runner, beat_at, overrides_publisher)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10,
            case when $10::text is not null then now() end, $11)",
        id,
        plan.kind.as_str(),
        plan.filter.to_json(),
        replace_nul(&plan.actor.name),
        replace_nul(&plan.actor.reason),
        replace_nul(&plan.actor.source),
        plan.letters_max,
        plan.letters_per_second,
        matched,
        runner,
        plan.overrides_publisher,
    )
    .execute(connection)
    .await?;
    Ok(id)
}

/// The operation with this id.
pub async fn find(connection: &mut Connection, id: Uuid) -> Result<Option<Operation>, Error> {
    let row = sqlx::query_as!(
        Row,
        "select id, kind, filter, actor, reason, source, letters_max, letters_per_second,
            overrides_publisher, state, matched, done, skipped, failed, problem, cancel_requested, cursor_died_at,
            cursor_sequence, cursor_lane_epoch, cursor_delivery_tag, runner, beat_at, started_at, ended_at
        from dead_letter_operation where id = $1",
        id
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(Operation::from))
}

/// The latest operations, newest first.
pub async fn list(connection: &mut Connection, limit: i64) -> Result<Vec<Operation>, Error> {
    let rows = sqlx::query_as!(
        Row,
        "select id, kind, filter, actor, reason, source, letters_max, letters_per_second,
            overrides_publisher, state, matched, done, skipped, failed, problem, cancel_requested, cursor_died_at,
            cursor_sequence, cursor_lane_epoch, cursor_delivery_tag, runner, beat_at, started_at, ended_at
        from dead_letter_operation order by started_at desc, id limit $1",
        limit
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(Operation::from).collect())
}

/// Says that the operation's runner lives.
pub async fn touch(connection: &mut Connection, id: Uuid, runner: &str) -> Result<(), Error> {
    sqlx::query!(
        "update dead_letter_operation set beat_at = now()
        where id = $1 and runner = $2 and state = 'running'",
        id,
        runner,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes why the operation does not get on now; it is tried again.
pub async fn note_problem(
    connection: &mut Connection,
    id: Uuid,
    runner: &str,
    problem: &str,
) -> Result<(), Error> {
    sqlx::query!(
        "update dead_letter_operation set problem = $3
        where id = $1 and runner = $2 and state = 'running'",
        id,
        runner,
        replace_nul(problem),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes over a bulk job that has no runner: one that was begun without a runner, or whose runner was
/// not heard of for `silent_s` seconds; with an `id`, that one or none. Exports are their runner's
/// alone: what it wrote is there.
pub async fn take(
    connection: &mut Connection,
    runner: &str,
    silent_s: i32,
    id: Option<Uuid>,
) -> Result<Option<Operation>, Error> {
    let row = sqlx::query_as!(
        Row,
        "update dead_letter_operation set runner = $1, beat_at = now()
        where id = (
            select id from dead_letter_operation
            where state = 'running' and kind <> 'export'
                and (beat_at is null or beat_at < now() - make_interval(secs => $2::int))
                and ($3::uuid is null or id = $3)
            order by started_at limit 1 for update skip locked)
        returning id, kind, filter, actor, reason, source, letters_max, letters_per_second,
            overrides_publisher, state, matched, done, skipped, failed, problem, cancel_requested, cursor_died_at,
            cursor_sequence, cursor_lane_epoch, cursor_delivery_tag, runner, beat_at, started_at, ended_at",
        runner,
        silent_s,
        id,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(Operation::from))
}

/// What the runner hears when it says how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Go on.
    GoOn,
    /// Somebody asked for the end.
    Stop,
    /// Another runner has taken over.
    GivenAway,
}

/// Says how far the operation is, and that its runner lives.
pub async fn beat(
    connection: &mut Connection,
    id: Uuid,
    runner: &str,
    tally: &Tally,
) -> Result<Order, Error> {
    let cancel = sqlx::query_scalar!(
        "update dead_letter_operation set beat_at = now(), done = $3, skipped = $4, failed = $5,
            cursor_died_at = $6, cursor_sequence = $7, cursor_lane_epoch = $8,
            cursor_delivery_tag = $9
        where id = $1 and runner = $2 and state = 'running' returning cancel_requested",
        id,
        runner,
        tally.done,
        tally.skipped,
        tally.failed,
        tally.cursor.map(|cursor| cursor.ordered_at),
        tally.cursor.map(|cursor| cursor.sequence),
        tally.cursor.map(|cursor| cursor.lane_epoch),
        tally.cursor.map(|cursor| cursor.delivery_tag),
    )
    .fetch_optional(connection)
    .await?;
    Ok(match cancel {
        Some(true) => Order::Stop,
        Some(false) => Order::GoOn,
        None => Order::GivenAway,
    })
}

/// Ends the operation, if it is still this runner's.
pub async fn end(
    connection: &mut Connection,
    id: Uuid,
    runner: &str,
    end: End,
    problem: Option<&str>,
) -> Result<(), Error> {
    sqlx::query!(
        "update dead_letter_operation set state = $3, problem = $4, ended_at = now()
        where id = $1 and runner = $2 and state = 'running'",
        id,
        runner,
        end.as_str(),
        problem.map(replace_nul),
    )
    .execute(connection)
    .await?;
    Ok(())
}
