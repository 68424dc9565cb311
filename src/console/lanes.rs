//! The lanes: who works them, what waits in them, and how much all of them get done.

use askama::Template;
use axum::extract::State;
use axum::response::Html;
use chrono::TimeDelta;

use crate::console::app::Shared;
use crate::console::chart::{self, Line};
use crate::console::failure::{Failure, page};
use crate::console::frame::{Frame, Here, rate};
use crate::console::moment::{Moment, grouped, span};
use crate::console::pulse::{Beat, Lane};
use crate::console::who::Identity;

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
    let plot = chart::line(&values, POINTS);
    let rows = beat.lanes.iter().map(|lane| row(lane, &beat, &frame)).collect();
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

fn row(lane: &Lane, beat: &Beat, frame: &Frame) -> Row {
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
    }
}
