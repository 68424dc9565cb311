//! What was done to many letters at once, and how far it is.

use askama::Template;
use axum::extract::{Path, State as Held};
use axum::response::{Html, Redirect};
use uuid::Uuid;

use crate::config::console::Role;
use crate::console::app::Shared;
use crate::console::auth::Identity;
use crate::console::error::{Failure, page};
use crate::console::layout::{Layout, Section};
use crate::console::time_format::{grouped, span};
use crate::domain::bulk_job::BulkJobKind;
use crate::domain::dead_letter::State;
use crate::store::dead_letters::bulk_jobs::{self, BulkJob};
use crate::store::dead_letters::claims;
use crate::store::dead_letters::endings::{self, Cancellation};
use crate::store::dead_letters::filter::Filter;
use crate::usecases::dead_letters::job_recovery::SILENT_S;

const LIST: i64 = 100;

#[derive(Template)]
#[template(path = "bulk_jobs.html")]
struct Listed {
    layout: Layout,
    jobs: Vec<BulkJob>,
}

impl Listed {
    fn is_busy(&self) -> bool {
        self.jobs.iter().any(BulkJob::is_running)
    }
}

#[derive(Template)]
#[template(path = "bulk_job.html")]
struct One {
    layout: Layout,
    job: BulkJob,
    selection: Vec<(String, String)>,
    took: Option<String>,
    at_most: Option<String>,
    /// Of a replay: letters by what came of them.
    outcomes: Vec<(State, i64)>,
}

impl One {
    /// Whether no runner has begun with it yet.
    fn is_waiting(&self) -> bool {
        self.job.is_running() && self.job.runner.is_none()
    }

    /// Whether there is more to come.
    fn is_under_way(&self) -> bool {
        let awaited = |state: &State| matches!(state, State::Replaying | State::Replayed);
        self.job.is_running() || self.outcomes.iter().any(|(state, _)| awaited(state))
    }
}

/// Letters that were gone through.
pub(super) fn gone_through(job: &BulkJob) -> i64 {
    let progress = job.progress;
    progress.done + progress.skipped + progress.failed
}

/// All letters that it is about.
pub(super) fn all_of(job: &BulkJob) -> i64 {
    let most = job.dead_letters_max.unwrap_or(i64::MAX);
    job.matched.min(most).max(gone_through(job)).max(1)
}

/// What is meant, in words.
fn selection(filter: Option<&Filter>) -> Vec<(String, String)> {
    let Some(filter) = filter else {
        return vec![("letters".to_owned(), "chosen by another version".to_owned())];
    };
    let ids = match filter.ids.len() {
        0 => None,
        1 => filter.ids.first().map(ToString::to_string),
        several => Some(format!("{several} chosen ones")),
    };
    let moment = |at: chrono::DateTime<chrono::Utc>| at.format("%Y-%m-%d %H:%M:%S UTC").to_string();
    let customer = (!filter.customer_keys.is_empty()).then(|| "one that was looked for".to_owned());
    let state = filter.state.map(|state| state.as_str().replace('_', " "));
    let fields = [
        ("letters", ids),
        ("org", filter.org.clone()),
        ("operation", filter.operation.clone()),
        ("reason", filter.reason.clone()),
        ("group", filter.fingerprint.clone()),
        ("lane", filter.lane.clone()),
        ("state", state),
        ("died since", filter.since.map(moment)),
        ("died before", filter.until.map(moment)),
        ("text", filter.text.clone()),
        ("command", filter.command_id.clone()),
        ("correlation", filter.correlation_id.clone()),
        ("customer", customer),
    ];
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

pub(super) async fn list(Held(app): Held<Shared>, who: Identity) -> Result<Html<String>, Failure> {
    let mut connection = app.database.acquire().await?;
    let jobs = bulk_jobs::list(&mut connection, LIST).await?;
    connection.release();
    page(&Listed { layout: Layout::of(&app, who, Section::BulkJobs), jobs })
}

pub(super) async fn show(
    Held(app): Held<Shared>,
    who: Identity,
    Path(id): Path<Uuid>,
) -> Result<Html<String>, Failure> {
    let mut connection = app.database.acquire().await?;
    let found = bulk_jobs::find(&mut connection, id).await?;
    let outcomes = match &found {
        Some(job) if job.kind == BulkJobKind::Replay => claims::states(&mut connection, id).await?,
        _ => Vec::new(),
    };
    connection.release();
    let job = found.ok_or_else(|| Failure::NotFound(format!("There is no bulk job {id}.")))?;
    let layout = Layout::of(&app, who, Section::BulkJobs);
    let ended = job.ended_at.unwrap_or(layout.now);
    page(&One {
        selection: selection(job.filter.as_ref()),
        took: (job.runner.is_some()).then(|| span(ended - job.started_at)),
        outcomes,
        at_most: job.dead_letters_max.map(grouped),
        job,
        layout,
    })
}

pub(super) async fn cancel(
    Held(app): Held<Shared>,
    who: Identity,
    Path(id): Path<Uuid>,
) -> Result<Redirect, Failure> {
    who.must_be(Role::Operator)?;
    let mut connection = app.database.acquire().await?;
    let cancelled = endings::cancel(&mut connection, id, SILENT_S).await?;
    claims::release_of_ended(&mut connection).await?;
    connection.release();
    if cancelled == Cancellation::NotRunning {
        return Err(Failure::Conflict("It has ended already.".to_owned()));
    }
    tracing::info!(job.id = %id, "{} cancels bulk job {id}", who.name);
    Ok(Redirect::to(&format!("/bulk-jobs/{id}")))
}
