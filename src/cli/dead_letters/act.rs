//! `dead-letters replay`, `discard` and `restore`

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;
use uuid::Uuid;

use crate::cli::ask::{WhoArgs, confirm, positive};
use crate::cli::context::{Context, Exit, Refusal};
use crate::cli::dead_letters::filter::FilterArgs;
use crate::cli::dead_letters::interrupt::cancel_on_interrupt;
use crate::cli::output::{Progress, Row, note};
use crate::config::Config;
use crate::domain::bulk_job::{BulkJobKind, BulkJobState};
use crate::domain::dead_letter::State;
use crate::store::connection::Connection;
use crate::store::dead_letters::bulk_jobs::{BulkJobProgress, Plan};
use crate::store::dead_letters::claims;
use crate::store::dead_letters::filter::Filter;
use crate::usecases::dead_letters::run::{self, Outcome};
use crate::usecases::dead_letters::selection::{self, Bounds, Preview};

/// Between two looks at what came of replays.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Publish letters again, in the order in which they died
#[derive(clap::Args)]
#[command(after_help = "\
Without --state it is about open letters. Letters that a worker would refuse again as they are,
are left alone: edit a copy of them. The broker has confirmed each letter before it counts as
replayed. Ctrl-C cancels; if its process dies otherwise, a worker finishes it.

Exits with 3 if no letter matches, with 5 if none could be replayed, with 6 if some could not, or,
with --wait, if some failed again or have no outcome yet.

Examples:
  partner-program dead-letters replay --group 3f1c9a0b7d2e4455 --dry-run
  partner-program dead-letters replay --group 3f1c9a0b7d2e4455 --reason OPS-12 --rate 50 --wait 60
  partner-program dead-letters replay --cause processing-failed --reason OPS-12 --yes -o json")]
pub(in crate::cli) struct ReplayArgs {
    #[command(flatten)]
    what: WhatArgs,
    /// Replay nothing; say how many would be, and why others would not
    #[arg(long)]
    dry_run: bool,
    /// At most so many a second
    #[arg(long, value_name = "COUNT", value_parser = positive)]
    rate: Option<NonZeroU32>,
    /// Replay the one letter that is named although its publisher may not act for its org; the audit
    /// keeps that
    #[arg(long)]
    override_publisher: bool,
    /// Wait for what comes of them, so many seconds at most
    #[arg(long, value_name = "SECONDS", conflicts_with = "dry_run")]
    wait: Option<u64>,
}

/// Put letters aside; they can be restored
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  partner-program dead-letters discard --cause not-json --until 7d --reason 'old test traffic'
  partner-program dead-letters discard 0e5ad0a4-5a54-8d7b-9c62-6f0d7d7c3b0a --reason duplicate")]
pub(in crate::cli) struct DiscardArgs {
    #[command(flatten)]
    what: WhatArgs,
    /// Discard nothing; say how many would be
    #[arg(long)]
    dry_run: bool,
}

/// Take discarded letters up again
#[derive(clap::Args)]
#[command(after_help = "\
Letters that are named by their id may be replayed ones, too, whose outcome never came.

Examples:
  partner-program dead-letters restore --group 3f1c9a0b7d2e4455 --reason 'discarded by mistake'")]
pub(in crate::cli) struct RestoreArgs {
    #[command(flatten)]
    what: WhatArgs,
    /// Restore nothing; say how many would be
    #[arg(long)]
    dry_run: bool,
}

#[derive(clap::Args)]
struct WhatArgs {
    /// These letters; without any, those of the filter
    #[arg(value_name = "ID")]
    ids: Vec<Uuid>,
    #[command(flatten)]
    filter: FilterArgs,
    /// All letters, should no filter be given
    #[arg(long)]
    all: bool,
    /// Stop after so many
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    #[command(flatten)]
    who: WhoArgs,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl WhatArgs {
    async fn filter(&self, connection: &mut Connection, config: &Config) -> anyhow::Result<Filter> {
        let filter = self.filter.filter(&self.ids, connection, config).await?;
        if filter == Filter::default() && !self.all {
            let text = "name letters by their ids or by a filter such as --group, or say --all";
            return Err(Refusal::Usage(text.to_owned()).into());
        }
        Ok(filter)
    }
}

pub(super) async fn replay(
    args: &ReplayArgs,
    connection: &mut Connection,
    context: &mut Context,
) -> anyhow::Result<Exit> {
    let filter = args.what.filter(connection, &context.config).await?;
    if args.override_publisher && filter.ids.len() != 1 {
        let text = "--override-publisher: name one letter by its id, since each is to be looked at";
        return Err(Refusal::Usage(text.to_owned()).into());
    }
    if args.dry_run {
        return dry_run(args, filter, connection, context).await;
    }
    // Asked before anything is begun.
    context.config.amqp_url()?;
    let rate = args.rate.map(|rate| i32::try_from(rate.get()).unwrap_or(i32::MAX));
    let how = How { dead_letters_per_second: rate, overrides_publisher: args.override_publisher };
    let acted = act(BulkJobKind::Replay, &args.what, filter, how, connection, context).await?;
    let Some((outcome, mut report)) = acted else { return Ok(Exit::Success) };
    if let Some(seconds) = args.wait {
        let end = Instant::now() + Duration::from_secs(seconds);
        let states = await_outcomes(connection, outcome.bulk_job_id, end).await?;
        report.applied = Some(states.get(State::Applied.as_str()).copied().unwrap_or(0));
        report.failed_again = Some(states.get(State::FailedAgain.as_str()).copied().unwrap_or(0));
        let under_way = [State::Replaying, State::Replayed].map(State::as_str);
        report.awaited = Some(under_way.iter().filter_map(|state| states.get(state)).sum());
    }
    report.print(context)
}

pub(super) async fn discard(
    args: &DiscardArgs,
    connection: &mut Connection,
    context: &mut Context,
) -> anyhow::Result<Exit> {
    simple(BulkJobKind::Discard, &args.what, args.dry_run, connection, context).await
}

pub(super) async fn restore(
    args: &RestoreArgs,
    connection: &mut Connection,
    context: &mut Context,
) -> anyhow::Result<Exit> {
    simple(BulkJobKind::Restore, &args.what, args.dry_run, connection, context).await
}

async fn simple(
    kind: BulkJobKind,
    what: &WhatArgs,
    dry_run: bool,
    connection: &mut Connection,
    context: &mut Context,
) -> anyhow::Result<Exit> {
    let filter = what.filter(connection, &context.config).await?;
    if dry_run {
        let letters = selection::count(connection, kind, &filter).await?.letters;
        let eligible = what.limit.map_or(letters, |limit| letters.min(limit.into()));
        return PreviewOutput::new(u64::try_from(eligible)?, BTreeMap::new()).print(context);
    }
    match act(kind, what, filter, How::default(), connection, context).await? {
        Some((_, report)) => report.print(context),
        None => Ok(Exit::Success),
    }
}

/// What is special about a replay.
#[derive(Default)]
struct How {
    dead_letters_per_second: Option<i32>,
    overrides_publisher: bool,
}

/// Asks, begins and runs a bulk job; `None` if the answer was no.
async fn act(
    kind: BulkJobKind,
    what: &WhatArgs,
    filter: Filter,
    how: How,
    connection: &mut Connection,
    context: &mut Context,
) -> anyhow::Result<Option<(Outcome, Report)>> {
    let actor = what.who.with_reason()?;
    let count = selection::count(connection, kind, &filter).await?;
    if count.letters == 0 {
        return Err(Refusal::NotFound("no dead letter matches".to_owned()).into());
    }
    let limit = what.limit.map(i64::from);
    let letters = limit.map_or(count.letters, |limit| limit.min(count.letters));
    let more = if count.is_exact { "" } else { "more than " };
    let question = format!("{} {more}{letters} letter(s)?", kind.as_str());
    if filter.ids.len() != 1 && !confirm(&question, what.yes, context).await? {
        return Ok(None);
    }
    if kind == BulkJobKind::Replay {
        run::check_broker(connection, &context.config).await?;
    }
    let How { dead_letters_per_second, overrides_publisher } = how;
    let dead_letters_max = limit;
    let plan = Plan {
        kind,
        filter,
        actor,
        dead_letters_max,
        dead_letters_per_second,
        overrides_publisher,
    };
    let runner = format!("cli {}", Uuid::now_v7());
    let job = run::begin(connection, plan, Some(&runner)).await?;
    let id = job.id;
    let mut progress = Progress::new(kind.as_str(), u64::try_from(letters).ok());
    let mut told = 0;
    let observe = |so_far: &BulkJobProgress| {
        let through = so_far.done + so_far.skipped + so_far.failed;
        progress.add(u64::try_from(through - told).unwrap_or_default());
        told = through;
    };
    // A worker would go on with a bulk job whose process is gone: Ctrl-C has to say so.
    let cancelling = cancel_on_interrupt(&context.config, id);
    let ran = run::run(connection, &context.config, job, &runner, observe).await;
    drop(cancelling);
    progress.finish();
    let outcome = ran.inspect_err(|_| {
        note(&format!(
            "bulk job {id} was cut off: a worker finishes it; `dead-letters bulk-jobs cancel {id}` stops it"
        ));
    })?;
    let report = Report::of(kind, &outcome);
    Ok(Some((outcome, report)))
}

async fn dry_run(
    args: &ReplayArgs,
    filter: Filter,
    connection: &mut Connection,
    context: &mut Context,
) -> anyhow::Result<Exit> {
    let total = selection::count(connection, BulkJobKind::Replay, &filter).await?;
    let mut progress = Progress::new("looking", u64::try_from(total.letters).ok());
    let limit = args.what.limit.map(i64::from);
    let bounds = Bounds { dead_letters_max: limit, overrides_publisher: args.override_publisher };
    let preview = selection::preview(connection, &context.config, &filter, bounds, |some| {
        progress.add(some);
    });
    let Preview { eligible, skipped } = preview.await?;
    progress.finish();
    PreviewOutput::new(eligible, skipped).print(context)
}

/// Waits until every replayed letter has an outcome, or until the end.
async fn await_outcomes(
    connection: &mut Connection,
    bulk_job_id: Uuid,
    end: Instant,
) -> anyhow::Result<BTreeMap<&'static str, i64>> {
    let mut progress = Progress::new("awaiting outcomes", None);
    loop {
        let states = claims::states(connection, bulk_job_id).await?;
        let under_way =
            |(state, _): &(State, i64)| matches!(state, State::Replaying | State::Replayed);
        if !states.iter().any(under_way) || Instant::now() >= end {
            progress.finish();
            return Ok(states.into_iter().map(|(state, count)| (state.as_str(), count)).collect());
        }
        progress.add(0);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[derive(Serialize)]
struct PreviewOutput {
    eligible: u64,
    skipped: Vec<Skipped>,
}

#[derive(Serialize)]
struct Skipped {
    letters: u64,
    why: String,
}

impl PreviewOutput {
    fn new(eligible: u64, skipped: BTreeMap<String, u64>) -> Self {
        Self { eligible, skipped: all_skipped(skipped) }
    }

    fn print(&self, context: &mut Context) -> anyhow::Result<Exit> {
        context.output.record(self, &[("eligible", self.eligible.to_string())])?;
        if context.output.is_for_people() {
            context.output.rows(&self.skipped)?;
        }
        if self.eligible == 0 && self.skipped.is_empty() {
            return Err(Refusal::NotFound("no dead letter matches".to_owned()).into());
        }
        Ok(Exit::Success)
    }
}

impl Row for Skipped {
    const HEADERS: &'static [&'static str] = &["LEFT ALONE", "WHY"];

    fn cells(&self) -> Vec<String> {
        vec![self.letters.to_string(), self.why.clone()]
    }
}

/// What came of a bulk job.
#[derive(Serialize)]
struct Report {
    bulk_job_id: Uuid,
    kind: &'static str,
    cancelled: bool,
    done: i64,
    skipped: i64,
    failed: i64,
    left_alone: Vec<Skipped>,
    #[serde(skip_serializing_if = "Option::is_none")]
    applied: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_again: Option<i64>,
    /// Replayed, without an outcome yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    awaited: Option<i64>,
}

impl Report {
    fn of(kind: BulkJobKind, outcome: &Outcome) -> Self {
        Self {
            bulk_job_id: outcome.bulk_job_id,
            kind: kind.as_str(),
            cancelled: outcome.end == BulkJobState::Cancelled,
            done: outcome.progress.done,
            skipped: outcome.progress.skipped,
            failed: outcome.progress.failed,
            left_alone: all_skipped(outcome.skipped.clone()),
            applied: None,
            failed_again: None,
            awaited: None,
        }
    }

    fn print(&self, context: &mut Context) -> anyhow::Result<Exit> {
        let mut fields = vec![
            ("bulk job", self.bulk_job_id.to_string()),
            ("done", self.done.to_string()),
            ("left alone", self.skipped.to_string()),
            ("not taken by the broker", self.failed.to_string()),
        ];
        let outcomes = [
            ("applied", self.applied),
            ("failed again", self.failed_again),
            ("without an outcome yet", self.awaited),
        ];
        fields
            .extend(outcomes.iter().filter_map(|(name, n)| Some((*name, n.as_ref()?.to_string()))));
        context.output.record(self, &fields)?;
        if context.output.is_for_people() {
            context.output.rows(&self.left_alone)?;
        }
        if self.cancelled {
            note("the bulk action was cancelled");
        }
        let unfortunate = self.failed + self.failed_again.unwrap_or(0) + self.awaited.unwrap_or(0);
        if self.done == 0 && self.skipped > 0 {
            return Ok(Exit::Conflict);
        }
        let whole = unfortunate == 0 && self.skipped == 0 && !self.cancelled;
        Ok(if whole { Exit::Success } else { Exit::PartlyFailed })
    }
}

fn all_skipped(skipped: BTreeMap<String, u64>) -> Vec<Skipped> {
    skipped.into_iter().map(|(why, letters)| Skipped { letters, why }).collect()
}
