//! `partner-program lanes`

mod move_pattern;

use chrono::{DateTime, Utc};
use clap::Subcommand;
use serde::Serialize;

use crate::broker::connection::Connection as BrokerConnection;
use crate::broker::depth::{self, Depth};
use crate::broker::topology;
use crate::cli::ask::{ByArgs, WhoArgs};
use crate::cli::context::{Context, Exit, Refusal};
use crate::cli::output::{Row, moment, note, or_dash};
use crate::store::connection::{self, Connection};
use crate::store::health;
use crate::store::lane_metrics::{self, Present};
use crate::store::lane_pauses::{self, Pause};
use crate::store::lane_waiting;
use crate::store::worker_processes::{self, REMEDY};

/// See the lanes and their owners, pause a lane, and give a pattern to another lane
#[derive(Subcommand)]
#[command(after_help = "\
A paused lane is drained: what was begun is finished and published, then its commands wait in their
queue. Workers see a pause, and its end, within a second or so; it outlives their restarts.

Examples:
  partner-program lanes list
  partner-program lanes pause main --reason 'OPS-8: globex moves'
  partner-program lanes resume main
  partner-program lanes move --org globex --to vip --dry-run")]
pub(super) enum Action {
    List(ListArgs),
    Pause(PauseArgs),
    Resume(ResumeArgs),
    Move(move_pattern::MoveArgs),
}

/// The lanes: who has each, what waits in it, how fast it goes, whether it is paused
#[derive(clap::Args)]
pub(super) struct ListArgs {}

/// Pause a lane until it is resumed
#[derive(clap::Args)]
pub(super) struct PauseArgs {
    /// The lane
    #[arg(value_name = "LANE")]
    lane: String,
    #[command(flatten)]
    who: WhoArgs,
}

/// Let a paused lane go on
#[derive(clap::Args)]
pub(super) struct ResumeArgs {
    /// The lane
    #[arg(value_name = "LANE")]
    lane: String,
    #[command(flatten)]
    by: ByArgs,
}

pub(super) async fn run(action: &Action, context: &mut Context) -> anyhow::Result<Exit> {
    let url = context.config.database_url()?;
    let name = format!("partner-program {}", context.config.worker_id);
    let mut connection = connection::connect(url, &name).await?;
    match action {
        Action::List(ListArgs {}) => list(&mut connection, context).await?,
        Action::Pause(args) => pause(args, &mut connection, context).await?,
        Action::Resume(args) => resume(args, &mut connection, context).await?,
        Action::Move(args) => move_pattern::run(args, &mut connection, context).await?,
    }
    Ok(Exit::Success)
}

async fn list(connection: &mut Connection, context: &mut Context) -> anyhow::Result<()> {
    let taken = health::lanes(connection).await?;
    let mut pauses = lane_pauses::paused(connection).await?;
    let present = lane_metrics::present(connection).await?;
    let waiting = lane_waiting::since(connection).await?;
    let shared = worker_processes::shared_ids(connection).await?;
    for id in &shared {
        note(&format!("{}; {REMEDY}", id.problem()));
    }
    let names = names(&taken, context);
    let depths = match depths(&names, context).await {
        Ok(depths) => depths,
        Err(error) => {
            note(&format!("what waits can't be seen: {error}"));
            vec![None; names.len()]
        }
    };
    let rows: Vec<LaneRow> = names
        .into_iter()
        .zip(depths)
        .map(|(name, depth)| {
            let taken = taken.iter().find(|lane| lane.name == name);
            let pause = pauses.iter().position(|pause| pause.lane == name);
            LaneRow {
                ready: depth.map(|depth| depth.ready),
                consumers: depth.map(|depth| depth.consumers),
                holder: taken.map(|lane| lane.holder.clone()),
                holder_process: taken.and_then(|lane| lane.process_name.clone()),
                is_shared: taken
                    .is_some_and(|lane| shared.iter().any(|id| id.worker == lane.holder)),
                epoch: taken.map(|lane| lane.epoch),
                taken_at: taken.map(|lane| lane.taken_at),
                now: present.iter().find(|present| present.lane == name).map(NowView::of),
                waiting_since: waiting.get(&name).copied(),
                paused: pause.map(|place| PauseView::of(pauses.swap_remove(place))),
                lane: name,
            }
        })
        .collect();
    context.output.rows(&rows)?;
    Ok(())
}

async fn pause(
    args: &PauseArgs,
    connection: &mut Connection,
    context: &Context,
) -> anyhow::Result<()> {
    let actor = args.who.with_reason()?;
    let lane = &args.lane;
    let known = names(&health::lanes(connection).await?, context);
    if !known.contains(lane) {
        let known = known.join(", ");
        return Err(Refusal::NotFound(format!("no lane `{lane}`: there is {known}")).into());
    }
    if !lane_pauses::pause(connection, lane, &actor).await? {
        return Err(Refusal::Conflict(format!("lane {lane} is paused already")).into());
    }
    note(&format!("lane {lane} stands still until: partner-program lanes resume {lane}"));
    Ok(())
}

async fn resume(
    args: &ResumeArgs,
    connection: &mut Connection,
    context: &Context,
) -> anyhow::Result<()> {
    let lane = &args.lane;
    if !lane_pauses::resume(connection, lane, &args.by.name()?).await? {
        let known = names(&health::lanes(connection).await?, context);
        let pauses = lane_pauses::paused(connection).await?;
        return Err(if let Some(held) = pauses.iter().find(|pause| pause.lane == *lane) {
            let why = &held.reason;
            Refusal::Conflict(format!(
                "lane {lane} goes on when a change of the routing map ends: {why}"
            ))
        } else if known.contains(lane) {
            Refusal::Conflict(format!("lane {lane} is not paused"))
        } else {
            Refusal::NotFound(format!("no lane `{lane}`: there is {}", known.join(", ")))
        }
        .into());
    }
    note(&format!("lane {lane} goes on"));
    Ok(())
}

/// Those of the settings, then those that only the database knows.
fn names(taken: &[health::Lane], context: &Context) -> Vec<String> {
    let mut names: Vec<String> =
        context.config.lanes.iter().map(|lane| lane.name.clone()).collect();
    for lane in taken {
        if !names.contains(&lane.name) {
            names.push(lane.name.clone());
        }
    }
    names
}

async fn depths(names: &[String], context: &Context) -> anyhow::Result<Vec<Option<Depth>>> {
    let url = context.config.amqp_url()?;
    let connection = BrokerConnection::open(url, &context.config.worker_id).await?;
    let mut depths = Vec::with_capacity(names.len());
    for name in names {
        depths.push(depth::depth(&connection, &topology::lane_queue(name)).await?);
    }
    connection.close().await;
    Ok(depths)
}

#[derive(Serialize)]
struct LaneRow {
    lane: String,
    holder: Option<String>,
    /// Machine and number there.
    holder_process: Option<String>,
    /// Whether the holder's id alone does not say which worker it is.
    #[serde(skip)]
    is_shared: bool,
    epoch: Option<i64>,
    taken_at: Option<DateTime<Utc>>,
    ready: Option<u32>,
    consumers: Option<u32>,
    now: Option<NowView>,
    /// Since when its oldest command waits at least, where no worker consumes.
    waiting_since: Option<DateTime<Utc>>,
    paused: Option<PauseView>,
}

#[derive(Serialize)]
struct NowView {
    commands_per_second: f64,
    p50_ms: Option<f32>,
    p99_ms: Option<f32>,
    oldest_ms: Option<i64>,
}

impl NowView {
    fn of(present: &Present) -> Self {
        let Present { per_second, p50_ms, p99_ms, oldest_ms, .. } = *present;
        Self { commands_per_second: per_second, p50_ms, p99_ms, oldest_ms }
    }
}

#[derive(Serialize)]
struct PauseView {
    by: String,
    reason: String,
    since: DateTime<Utc>,
}

impl PauseView {
    fn of(pause: Pause) -> Self {
        Self { by: pause.actor, reason: pause.reason, since: pause.paused_at }
    }
}

impl LaneRow {
    /// The oldest command's age in seconds, or what it is at least.
    fn oldest(&self) -> Option<String> {
        let worked = self.now.as_ref().and_then(|now| now.oldest_ms);
        let waiting = || Some(format!(">= {}", (Utc::now() - self.waiting_since?).num_seconds()));
        worked.map(|age| (age / 1_000).to_string()).or_else(waiting)
    }
}

impl Row for LaneRow {
    const HEADERS: &'static [&'static str] = &[
        "LANE",
        "HELD BY",
        "EPOCH",
        "SINCE",
        "READY",
        "CONSUMERS",
        "A SECOND",
        "P99 MS",
        "OLDEST S",
        "PAUSED",
    ];

    fn cells(&self) -> Vec<String> {
        let paused = self
            .paused
            .as_ref()
            .map(|PauseView { by, reason, since }| format!("{} by {by}: {reason}", moment(*since)));
        let now = self.now.as_ref();
        let figure =
            |value: Option<f64>| or_dash(value.map(|value| format!("{value:.1}")).as_ref());
        let holder = match (&self.holder, &self.holder_process) {
            (Some(holder), Some(process)) if self.is_shared => {
                Some(format!("{holder} ({process})"))
            }
            (holder, _) => holder.clone(),
        };
        vec![
            self.lane.clone(),
            or_dash(holder.as_ref()),
            or_dash(self.epoch.as_ref()),
            or_dash(self.taken_at.map(moment).as_ref()),
            or_dash(self.ready.as_ref()),
            or_dash(self.consumers.as_ref()),
            figure(now.map(|now| now.commands_per_second)),
            figure(now.and_then(|now| now.p99_ms).map(f64::from)),
            or_dash(self.oldest().as_ref()),
            or_dash(paused.as_ref()),
        ]
    }
}
