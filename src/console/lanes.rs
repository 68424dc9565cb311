//! The lanes: who works them, what waits in them, and how much all of them get done.

use askama::Template;
use axum::extract::{Form, State};
use axum::response::{Html, Redirect};
use chrono::TimeDelta;
use serde::Deserialize;

use crate::config::console::Role;
use crate::console::app::Shared;
use crate::console::chart::{self, Line};
use crate::console::failure::{Failure, page};
use crate::console::frame::{Frame, Here, rate};
use crate::console::moment::{Moment, grouped, span};
use crate::console::pulse::{Beat, Lane};
use crate::console::who::Identity;
use crate::store::lane_pauses::{self, Pause};

/// Points of the plot: an hour of looks, five seconds apart.
const POINTS: usize = 720;

#[derive(Template)]
#[template(path = "lanes.html")]
struct Page {
    frame: Frame,
    rows: Vec<Row>,
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
    /// At the present rate, all lanes together.
    drained_in: Option<String>,
    paused: Option<Paused>,
}

struct Paused {
    by: String,
    why: String,
    since: Moment,
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
    let frame = Frame::of(&app, who, Here::Lanes);
    let beat = app.pulse.beat();
    let values: Vec<f64> = beat.throughput.iter().copied().collect();
    // A pause shows at once, not with the next look.
    let mut connection = app.database.lend().await?;
    let pauses = lane_pauses::paused(&mut connection).await?;
    connection.give_back();
    let plot = chart::line(&values, POINTS);
    let rows = beat.lanes.iter().map(|lane| row(lane, &beat, &pauses, &frame)).collect();
    page(&Page {
        rows,
        top: plot.as_ref().map_or(String::new(), |line| rate(line.top)),
        plot,
        per_second: beat.per_second().map_or("–".to_owned(), rate),
        most: rate(values.iter().copied().fold(0.0, f64::max)),
        stored: grouped(beat.commands_stored),
        frame,
    })
}

fn row(lane: &Lane, beat: &Beat, pauses: &[Pause], frame: &Frame) -> Row {
    let waiting: u32 = beat.lanes.iter().filter_map(|lane| lane.depth).map(|d| d.ready).sum();
    let drained_in = lane.depth.filter(|depth| depth.ready > 0).and_then(|_| {
        let seconds = f64::from(waiting) / beat.per_second().filter(|rate| *rate >= 1.0)?;
        let left = std::time::Duration::try_from_secs_f64(seconds).ok()?;
        TimeDelta::from_std(left).ok().map(span)
    });
    Row {
        name: lane.name.clone(),
        is_configured: lane.is_configured,
        holder: lane.held.as_ref().map(|held| Holder {
            name: held.holder.clone(),
            epoch: held.epoch,
            since: frame.moment(&held.taken_at),
        }),
        ready: lane.depth.map(|depth| grouped(i64::from(depth.ready))),
        consumers: lane.depth.map(|depth| depth.consumers),
        drained_in,
        paused: pauses.iter().find(|pause| pause.lane == lane.name).map(|pause| Paused {
            by: pause.actor.clone(),
            why: pause.reason.clone(),
            since: frame.moment(&pause.paused_at),
        }),
    }
}

/// A lane, and why it is to stand still.
#[derive(Deserialize)]
pub(super) struct Wish {
    lane: String,
    #[serde(default)]
    reason: String,
}

pub(super) async fn pause(
    State(app): State<Shared>,
    who: Identity,
    Form(wish): Form<Wish>,
) -> Result<Redirect, Failure> {
    who.must_be(Role::Admin)?;
    let actor = who.actor(&wish.reason);
    if actor.reason.is_empty() {
        return Err(Failure::BadInput("Say why: whoever finds it paused will ask.".to_owned()));
    }
    if !app.pulse.beat().lanes.iter().any(|lane| lane.name == wish.lane) {
        return Err(Failure::NotFound(format!("There is no lane {}.", wish.lane)));
    }
    let mut connection = app.database.lend().await?;
    let paused = lane_pauses::pause(&mut connection, &wish.lane, &actor).await?;
    connection.give_back();
    if !paused {
        return Err(Failure::Conflict(format!("Lane {} is paused already.", wish.lane)));
    }
    tracing::warn!(lane = wish.lane, "{} pauses lane {}", who.name, wish.lane);
    Ok(Redirect::to("/lanes"))
}

pub(super) async fn resume(
    State(app): State<Shared>,
    who: Identity,
    Form(wish): Form<Wish>,
) -> Result<Redirect, Failure> {
    who.must_be(Role::Admin)?;
    let mut connection = app.database.lend().await?;
    let resumed = lane_pauses::resume(&mut connection, &wish.lane, &who.name).await?;
    connection.give_back();
    if !resumed {
        return Err(Failure::Conflict(format!("Lane {} is not paused.", wish.lane)));
    }
    tracing::warn!(lane = wish.lane, "{} resumes lane {}", who.name, wish.lane);
    Ok(Redirect::to("/lanes"))
}
