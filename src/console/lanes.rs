//! The lanes: who works them, what waits in them, and how much all of them get done.

use askama::Template;
use axum::extract::{Form, State};
use axum::response::{Html, Redirect};
use chrono::TimeDelta;
use serde::Deserialize;

use crate::config::console::Role;
use crate::console::app::Shared;
use crate::console::auth::Identity;
use crate::console::chart::{self, Bar, Line};
use crate::console::error::{Failure, page};
use crate::console::layout::{Layout, Section, rate, took};
use crate::console::status::Lane;
use crate::console::time_format::{Moment, grouped, span};
use crate::store::lane_metrics::{self, Present, Series};
use crate::store::lane_pauses::{self, Pause};
use crate::store::worker_processes::{self, REMEDY};

/// Points of the plot: an hour of looks, five seconds apart.
const POINTS: usize = 720;

#[derive(Template)]
#[template(path = "lanes.html")]
struct Page {
    layout: Layout,
    rows: Vec<Row>,
    /// What is wrong with the ids of workers.
    shared_ids: Vec<String>,
    plot: Option<Line>,
    top: String,
    per_second: String,
    most: String,
    stored: String,
}

struct Row {
    name: String,
    is_configured: bool,
    holder: Option<Holder>,
    ready: Option<String>,
    consumers: Option<u32>,
    /// At the present rate.
    drained_in: Option<String>,
    present: Option<Figures>,
    /// How long the oldest command waits at least, where no worker consumes.
    waits_at_least: Option<String>,
    /// Commands in each minute of the last hour.
    hour: Option<Hour>,
    paused: Option<Paused>,
}

struct Paused {
    by: String,
    why: String,
    since: Moment,
}

/// How a lane fares, in words.
struct Figures {
    per_second: String,
    p50: String,
    p99: String,
    oldest: String,
}

struct Hour {
    bars: Vec<Bar>,
    told: String,
}

struct Holder {
    name: String,
    epoch: i64,
    since: Moment,
}

pub(super) async fn list(
    State(app): State<Shared>,
    who: Identity,
) -> Result<Html<String>, Failure> {
    let layout = Layout::of(&app, who, Section::Lanes);
    let latest = app.status.latest();
    let values: Vec<f64> = latest.throughput.iter().copied().collect();
    // A pause shows at once, not with the next look.
    let mut connection = app.database.acquire().await?;
    let pauses = lane_pauses::paused(&mut connection).await?;
    let hours = lane_metrics::last_hour(&mut connection).await?;
    let shared_ids = worker_processes::shared_ids(&mut connection).await?;
    connection.release();
    let plot = chart::line(&values, POINTS);
    let rows = latest.lanes.iter().map(|lane| row(lane, &pauses, &hours, &layout)).collect();
    page(&Page {
        rows,
        shared_ids: shared_ids.iter().map(|id| format!("{}; {REMEDY}", id.problem())).collect(),
        top: plot.as_ref().map_or(String::new(), |line| rate(line.top)),
        plot,
        per_second: latest.per_second().map_or("–".to_owned(), rate),
        most: rate(values.iter().copied().fold(0.0, f64::max)),
        stored: grouped(latest.commands_stored),
        layout,
    })
}

fn row(lane: &Lane, pauses: &[Pause], hours: &[Series], layout: &Layout) -> Row {
    let drained_in = lane.depth.filter(|depth| depth.ready > 0).and_then(|depth| {
        let rate = lane.present.as_ref()?.per_second;
        let seconds = f64::from(depth.ready) / Some(rate).filter(|rate| *rate >= 1.0)?;
        let left = std::time::Duration::try_from_secs_f64(seconds).ok()?;
        TimeDelta::from_std(left).ok().map(span)
    });
    let hour = hours.iter().find(|series| series.lane == lane.name);
    Row {
        name: lane.name.clone(),
        is_configured: lane.is_configured,
        holder: lane.held.as_ref().map(|held| Holder {
            name: held.holder.clone(),
            epoch: held.epoch,
            since: layout.moment(&held.taken_at),
        }),
        ready: lane.depth.map(|depth| grouped(i64::from(depth.ready))),
        consumers: lane.depth.map(|depth| depth.consumers),
        drained_in,
        present: lane.present.as_ref().map(Figures::of),
        waits_at_least: lane
            .waiting_since
            .filter(|_| lane.present.as_ref().and_then(Present::oldest).is_none())
            .map(|since| span(layout.now() - since)),
        hour: hour.map(Hour::of),
        paused: pauses.iter().find(|pause| pause.lane == lane.name).map(|pause| Paused {
            by: pause.actor.clone(),
            why: pause.reason.clone(),
            since: layout.moment(&pause.paused_at),
        }),
    }
}

impl Figures {
    fn of(present: &Present) -> Self {
        let dash = || "–".to_owned();
        Self {
            per_second: rate(present.per_second),
            p50: present.p50_ms.map_or_else(dash, took),
            p99: present.p99_ms.map_or_else(dash, took),
            oldest: present.oldest().map_or_else(dash, span),
        }
    }
}

impl Hour {
    fn of(series: &Series) -> Self {
        let most = series.commands.iter().copied().max().unwrap_or_default();
        Self {
            bars: chart::bars(&series.commands),
            told: format!("commands a minute within the last hour; at most {}", grouped(most)),
        }
    }
}

/// A lane, and why it is to stand still.
#[derive(Deserialize)]
pub(super) struct PauseForm {
    lane: String,
    #[serde(default)]
    reason: String,
}

pub(super) async fn pause(
    State(app): State<Shared>,
    who: Identity,
    Form(wish): Form<PauseForm>,
) -> Result<Redirect, Failure> {
    who.must_be(Role::Admin)?;
    let actor = who.actor(&wish.reason);
    if actor.reason.is_empty() {
        return Err(Failure::BadInput(
            "Give a reason: others see it while the lane is paused.".to_owned(),
        ));
    }
    if !app.status.latest().lanes.iter().any(|lane| lane.name == wish.lane) {
        return Err(Failure::NotFound(format!("There is no lane {}.", wish.lane)));
    }
    let mut connection = app.database.acquire().await?;
    let paused = lane_pauses::pause(&mut connection, &wish.lane, &actor).await?;
    connection.release();
    if !paused {
        return Err(Failure::Conflict(format!("Lane {} is paused already.", wish.lane)));
    }
    tracing::warn!(lane = wish.lane, "{} pauses lane {}", who.name, wish.lane);
    Ok(Redirect::to("/lanes"))
}

pub(super) async fn resume(
    State(app): State<Shared>,
    who: Identity,
    Form(wish): Form<PauseForm>,
) -> Result<Redirect, Failure> {
    who.must_be(Role::Admin)?;
    let mut connection = app.database.acquire().await?;
    let resumed = lane_pauses::resume(&mut connection, &wish.lane, &who.name).await?;
    connection.release();
    if !resumed {
        return Err(Failure::Conflict(format!("Lane {} is not paused.", wish.lane)));
    }
    tracing::warn!(lane = wish.lane, "{} resumes lane {}", who.name, wish.lane);
    Ok(Redirect::to("/lanes"))
}
