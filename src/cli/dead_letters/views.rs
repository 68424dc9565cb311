//! Dead letters, groups and bulk jobs as rows. Only the view of one dead letter holds personal data.

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use crate::cli::output::{Row, moment, or_dash};
use crate::store::dead_letters::audit::Action;
use crate::store::dead_letters::bulk_jobs::BulkJob;
use crate::store::dead_letters::filter::Filter;
use crate::store::dead_letters::groups::Group;
use crate::store::dead_letters::list::Summary;

/// Longest detail in a table, in characters.
const DETAIL_CHARS_MAX: usize = 60;
/// Heights of a bar in the line of hours.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

#[derive(Serialize)]
pub(super) struct LetterRow {
    id: Uuid,
    state: &'static str,
    died_at: DateTime<Utc>,
    org: Option<String>,
    operation: String,
    lane: Option<String>,
    reason: String,
    detail: String,
    pointer: Option<String>,
    group: String,
    command_id: Option<String>,
    correlation_id: Option<String>,
    attempts: i32,
    deaths: i32,
    first_died_at: DateTime<Utc>,
    lane_epoch: Option<i64>,
    delivery_tag: Option<i64>,
    body_bytes: i32,
    replay_of: Option<Uuid>,
    edited_from: Option<Uuid>,
    /// Where the next page begins, for `--after`.
    cursor: String,
}

impl LetterRow {
    pub(super) fn of(letter: Summary) -> Self {
        Self {
            cursor: letter.cursor().to_string(),
            id: letter.id,
            state: letter.state.as_str(),
            died_at: letter.last_died_at,
            org: letter.org,
            operation: letter.operation,
            lane: letter.lane,
            reason: letter.reason,
            detail: letter.detail,
            pointer: letter.pointer,
            group: letter.fingerprint,
            command_id: letter.command_id,
            correlation_id: letter.correlation_id,
            attempts: letter.attempts,
            deaths: letter.deaths,
            first_died_at: letter.first_died_at,
            lane_epoch: letter.lane_epoch,
            delivery_tag: letter.delivery_tag,
            body_bytes: letter.body_bytes,
            replay_of: letter.replay_of,
            edited_from: letter.edited_from,
        }
    }
}

impl Row for LetterRow {
    const HEADERS: &'static [&'static str] =
        &["ID", "DIED", "STATE", "ORG", "OPERATION", "REASON", "DETAIL", "COMMAND"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            moment(self.died_at),
            self.state.to_owned(),
            or_dash(self.org.as_ref()),
            self.operation.clone(),
            self.reason.clone(),
            shortened(&self.detail),
            or_dash(self.command_id.as_ref()),
        ]
    }
}

#[derive(Serialize)]
pub(super) struct GroupRow {
    group: String,
    operation: String,
    reason: String,
    detail: String,
    orgs: Vec<String>,
    open: i64,
    replaying: i64,
    replayed: i64,
    failed_again: i64,
    applied: i64,
    discarded: i64,
    superseded: i64,
    first_died_at: DateTime<Utc>,
    last_died_at: DateTime<Utc>,
    last_hours: Vec<i64>,
}

impl GroupRow {
    pub(super) fn of(group: Group) -> Self {
        Self {
            group: group.fingerprint,
            operation: group.operation,
            reason: group.reason,
            detail: group.detail,
            orgs: group.orgs,
            open: group.letters.open,
            replaying: group.letters.replaying,
            replayed: group.letters.replays(),
            failed_again: group.letters.failed_again,
            applied: group.letters.applied,
            discarded: group.letters.discarded,
            superseded: group.letters.superseded,
            first_died_at: group.first_died_at,
            last_died_at: group.last_died_at,
            last_hours: group.hours,
        }
    }
}

impl Row for GroupRow {
    const HEADERS: &'static [&'static str] = &[
        "GROUP",
        "OPEN",
        "REPLAYED",
        "FAILED AGAIN",
        "LAST DEATH",
        "LAST 24 H",
        "OPERATION",
        "REASON",
        "DETAIL",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.group.clone(),
            self.open.to_string(),
            self.replayed.to_string(),
            self.failed_again.to_string(),
            moment(self.last_died_at),
            sparkline(&self.last_hours),
            self.operation.clone(),
            self.reason.clone(),
            shortened(&self.detail),
        ]
    }
}

#[derive(Serialize)]
pub(super) struct BulkJobRow {
    id: Uuid,
    kind: &'static str,
    state: &'static str,
    matched: i64,
    done: i64,
    skipped: i64,
    failed: i64,
    dead_letters_max: Option<i64>,
    dead_letters_per_second: Option<i32>,
    actor: String,
    reason: String,
    source: String,
    filter: Option<serde_json::Value>,
    cancel_requested: bool,
    problem: Option<String>,
    runner: Option<String>,
    started_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
}

impl BulkJobRow {
    pub(super) fn of(job: BulkJob) -> Self {
        Self {
            id: job.id,
            filter: job.filter.as_ref().map(Filter::to_json),
            kind: job.kind.as_str(),
            state: job.state.as_str(),
            matched: job.matched,
            done: job.progress.done,
            skipped: job.progress.skipped,
            failed: job.progress.failed,
            dead_letters_max: job.dead_letters_max,
            dead_letters_per_second: job.dead_letters_per_second,
            actor: job.actor.name,
            reason: job.actor.reason,
            source: job.actor.source,
            cancel_requested: job.cancel_requested,
            problem: job.problem,
            runner: job.runner,
            started_at: job.started_at,
            ended_at: job.ended_at,
        }
    }

    pub(super) fn fields(&self) -> Vec<(&'static str, String)> {
        let asked =
            if self.cancel_requested && self.state == "running" { ", to be cancelled" } else { "" };
        vec![
            ("bulk job", self.id.to_string()),
            ("kind", self.kind.to_owned()),
            ("state", format!("{}{asked}", self.state)),
            ("letters", format!("{} of {}", self.done, self.matched)),
            ("skipped", self.skipped.to_string()),
            ("failed", self.failed.to_string()),
            ("filter", or_dash(self.filter.as_ref())),
            ("by", format!("{} ({})", self.actor, self.source)),
            ("reason", self.reason.clone()),
            ("problem", or_dash(self.problem.as_ref())),
            ("runner", or_dash(self.runner.as_ref())),
            ("started", moment(self.started_at)),
            ("ended", or_dash(self.ended_at.map(moment).as_ref())),
        ]
    }
}

impl Row for BulkJobRow {
    const HEADERS: &'static [&'static str] =
        &["ID", "KIND", "STATE", "DONE", "OF", "SKIPPED", "FAILED", "STARTED", "BY", "REASON"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.kind.to_owned(),
            self.state.to_owned(),
            self.done.to_string(),
            self.matched.to_string(),
            self.skipped.to_string(),
            self.failed.to_string(),
            moment(self.started_at),
            self.actor.clone(),
            shortened(&self.reason),
        ]
    }
}

#[derive(Serialize)]
pub(super) struct ActionRow {
    at: DateTime<Utc>,
    action: String,
    actor: String,
    reason: String,
    source: String,
    bulk_job_id: Option<Uuid>,
}

impl ActionRow {
    pub(super) fn of(action: Action) -> Self {
        Self {
            at: action.acted_at,
            action: action.action,
            actor: action.actor,
            reason: action.reason,
            source: action.source,
            bulk_job_id: action.bulk_job_id,
        }
    }
}

impl Row for ActionRow {
    const HEADERS: &'static [&'static str] = &["WHEN", "WHAT", "WHO", "FROM", "WHY"];

    fn cells(&self) -> Vec<String> {
        vec![
            moment(self.at),
            self.action.clone(),
            self.actor.clone(),
            self.source.clone(),
            self.reason.clone(),
        ]
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(DETAIL_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A bar for each hour; those in which nothing died are low.
fn sparkline(hours: &[i64]) -> String {
    let most = hours.iter().copied().max().unwrap_or(0).max(1);
    let top = i64::try_from(BARS.len() - 1).unwrap_or_default();
    let bar = |count: &i64| {
        let height = (count * top + most - 1) / most;
        usize::try_from(height).ok().and_then(|height| BARS.get(height)).copied().unwrap_or(' ')
    };
    hours.iter().map(bar).collect()
}
