//! Bulk jobs: created, run by one process at a time, taken over from a process that died, ended.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::actor::Actor;
use crate::domain::bulk_job::{BulkJobKind, BulkJobState};
use crate::store::connection::Connection;
use crate::store::dead_letters::filter::Filter;
use crate::store::dead_letters::order::DeathOrder;
use crate::store::error::Error;
use crate::store::text::replace_nul;

/// A bulk job to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What to do.
    pub kind: BulkJobKind,
    /// With which dead letters.
    pub filter: Filter,
    /// Who wants it, why, and from where.
    pub actor: Actor,
    /// The most dead letters to process. None: all.
    pub dead_letters_max: Option<i64>,
    /// The most dead letters to process a second. None: no limit.
    pub dead_letters_per_second: Option<i32>,
    /// Whether a replay has effect although the publisher may not publish for the org: of one dead letter
    /// alone.
    pub overrides_publisher: bool,
}

/// The progress of a bulk job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BulkJobProgress {
    /// Dead letters that it has changed, published or written out.
    pub done: i64,
    /// Dead letters that are not eligible, or that another action has changed first.
    pub skipped: i64,
    /// Dead letters that it could not publish; they are unchanged.
    pub failed: i64,
    /// The last dead letter that was processed.
    pub cursor: Option<DeathOrder>,
}

/// A bulk job, running or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkJob {
    /// Its id.
    pub id: Uuid,
    /// What it does.
    pub kind: BulkJobKind,
    /// With which dead letters; `None` if another version of the program wrote it.
    pub filter: Option<Filter>,
    /// Who wanted it, why, and from where.
    pub actor: Actor,
    /// The most dead letters to process. None: all.
    pub dead_letters_max: Option<i64>,
    /// The most dead letters to process a second. None: no limit.
    pub dead_letters_per_second: Option<i32>,
    /// Whether a replay has effect although the publisher may not publish for the org: of one dead letter
    /// alone.
    pub overrides_publisher: bool,
    /// Whether it runs, and how it ended.
    pub state: BulkJobState,
    /// How many dead letters the filter matched when it began.
    pub matched: i64,
    /// Its progress.
    pub progress: BulkJobProgress,
    /// Why it failed, or why it does not progress.
    pub problem: Option<String>,
    /// Whether it ends before its next batch.
    pub cancel_requested: bool,
    /// The process that runs it.
    pub runner: Option<String>,
    /// The last heartbeat of that process.
    pub heartbeat_at: Option<DateTime<Utc>>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
}

impl BulkJob {
    /// Whether it has not ended.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state == BulkJobState::Running
    }
}

struct Row {
    id: Uuid,
    kind: BulkJobKind,
    filter: serde_json::Value,
    actor: String,
    reason: String,
    source: String,
    dead_letters_max: Option<i64>,
    dead_letters_per_second: Option<i32>,
    overrides_publisher: bool,
    state: BulkJobState,
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
    heartbeat_at: Option<DateTime<Utc>>,
    started_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
}

impl From<Row> for BulkJob {
    fn from(row: Row) -> Self {
        let cursor = row.cursor_died_at.zip(row.cursor_sequence);
        Self {
            id: row.id,
            kind: row.kind,
            filter: Filter::from_json(&row.filter),
            actor: Actor { name: row.actor, reason: row.reason, source: row.source },
            dead_letters_max: row.dead_letters_max,
            dead_letters_per_second: row.dead_letters_per_second,
            overrides_publisher: row.overrides_publisher,
            state: row.state,
            matched: row.matched,
            progress: BulkJobProgress {
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
            heartbeat_at: row.heartbeat_at,
            started_at: row.started_at,
            ended_at: row.ended_at,
        }
    }
}

/// Creates a bulk job. Without a `runner` a worker takes it over within seconds.
pub async fn create(
    connection: &mut Connection,
    plan: &Plan,
    matched: i64,
    runner: Option<&str>,
) -> Result<Uuid, Error> {
    let id = Uuid::now_v7();
    sqlx::query!(
        "insert into bulk_job (id, kind, filter, actor, reason, source, dead_letters_max,
            dead_letters_per_second, matched, runner, heartbeat_at, overrides_publisher)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10,
            case when $10::text is not null then now() end, $11)",
        id,
        plan.kind.as_str(),
        plan.filter.to_json(),
        replace_nul(&plan.actor.name),
        replace_nul(&plan.actor.reason),
        replace_nul(&plan.actor.source),
        plan.dead_letters_max,
        plan.dead_letters_per_second,
        matched,
        runner,
        plan.overrides_publisher,
    )
    .execute(connection)
    .await?;
    Ok(id)
}

/// The bulk job with this id.
pub async fn find(connection: &mut Connection, id: Uuid) -> Result<Option<BulkJob>, Error> {
    Ok(select(connection, Some(id), 1).await?.pop())
}

/// The latest bulk jobs, newest first.
pub async fn list(connection: &mut Connection, limit: i64) -> Result<Vec<BulkJob>, Error> {
    select(connection, None, limit).await
}

async fn select(
    connection: &mut Connection,
    id: Option<Uuid>,
    limit: i64,
) -> Result<Vec<BulkJob>, Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"select id, kind as "kind: BulkJobKind", filter, actor, reason, source, dead_letters_max,
            dead_letters_per_second, overrides_publisher, state as "state: BulkJobState", matched, done,
            skipped, failed, problem, cancel_requested, cursor_died_at, cursor_sequence, cursor_lane_epoch,
            cursor_delivery_tag, runner, heartbeat_at, started_at, ended_at
        from bulk_job where $1::uuid is null or id = $1 order by started_at desc, id limit $2"#,
        id,
        limit
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(BulkJob::from).collect())
}

/// Records that the bulk job's runner lives.
pub async fn record_heartbeat(
    connection: &mut Connection,
    id: Uuid,
    runner: &str,
) -> Result<(), Error> {
    sqlx::query!(
        "update bulk_job set heartbeat_at = now()
        where id = $1 and runner = $2 and state = 'running'",
        id,
        runner,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Records why the bulk job does not progress; it is retried.
pub async fn record_problem(
    connection: &mut Connection,
    id: Uuid,
    runner: &str,
    problem: &str,
) -> Result<(), Error> {
    sqlx::query!(
        "update bulk_job set problem = $3
        where id = $1 and runner = $2 and state = 'running'",
        id,
        runner,
        replace_nul(problem),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes over a bulk job that was created without a runner, or whose runner has sent no heartbeat for
/// `silent_s` seconds; with an `id`, that one or none. Never an export: only its own process has what was
/// written.
pub async fn take_over(
    connection: &mut Connection,
    runner: &str,
    silent_s: i32,
    id: Option<Uuid>,
) -> Result<Option<BulkJob>, Error> {
    let acquired = sqlx::query_scalar!(
        "update bulk_job set runner = $1, heartbeat_at = now()
        where id = (
            select id from bulk_job
            where state = 'running' and kind in ('replay', 'discard', 'restore')
                and (heartbeat_at is null or heartbeat_at < now() - make_interval(secs => $2::int))
                and ($3::uuid is null or id = $3)
            order by started_at limit 1 for update skip locked)
        returning id",
        runner,
        silent_s,
        id,
    )
    .fetch_optional(&mut *connection)
    .await?;
    match acquired {
        Some(id) => find(connection, id).await,
        None => Ok(None),
    }
}

/// What a runner does after it has recorded its progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunnerInstruction {
    /// Process the next batch.
    Continue,
    /// End the bulk job as cancelled.
    Cancel,
    /// Stop, because another runner has taken the bulk job over or it has ended.
    Leave,
}

/// Records the bulk job's progress and its runner's heartbeat.
pub async fn record_progress(
    connection: &mut Connection,
    id: Uuid,
    runner: &str,
    progress: &BulkJobProgress,
) -> Result<RunnerInstruction, Error> {
    let cancel = sqlx::query_scalar!(
        "update bulk_job set heartbeat_at = now(), done = $3, skipped = $4, failed = $5,
            cursor_died_at = $6, cursor_sequence = $7, cursor_lane_epoch = $8,
            cursor_delivery_tag = $9
        where id = $1 and runner = $2 and state = 'running' returning cancel_requested",
        id,
        runner,
        progress.done,
        progress.skipped,
        progress.failed,
        progress.cursor.map(|cursor| cursor.ordered_at),
        progress.cursor.map(|cursor| cursor.sequence),
        progress.cursor.map(|cursor| cursor.lane_epoch),
        progress.cursor.map(|cursor| cursor.delivery_tag),
    )
    .fetch_optional(connection)
    .await?;
    Ok(match cancel {
        Some(true) => RunnerInstruction::Cancel,
        Some(false) => RunnerInstruction::Continue,
        None => RunnerInstruction::Leave,
    })
}

/// Ends the bulk job in this state, if it is still this runner's.
pub async fn end(
    connection: &mut Connection,
    id: Uuid,
    runner: &str,
    state: BulkJobState,
    problem: Option<&str>,
) -> Result<(), Error> {
    sqlx::query!(
        "update bulk_job set state = $3, problem = $4, ended_at = now()
        where id = $1 and runner = $2 and state = 'running'",
        id,
        runner,
        state.as_str(),
        problem.map(replace_nul),
    )
    .execute(connection)
    .await?;
    Ok(())
}
