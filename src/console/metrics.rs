//! The metrics, in Prometheus' text format. No personal data, and no org: lanes are the finest
//! label.

use std::fmt::{Display, Write as _};

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use crate::console::app::{App, Shared};
use crate::console::pulse::{Beat, Server};
use crate::worker::counters::{BUCKETS_MS, Histogram, LaneCounters};

pub(super) async fn metrics(State(app): State<Shared>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text(&app))
}

fn text(app: &App) -> String {
    let mut page = Page(String::new());
    seen(&app.pulse.beat(), &app.config.worker_id, &mut page);
    counted(&app.counters, &mut page);
    page.0
}

/// What the database and the broker say of all workers.
fn seen(beat: &Beat, worker: &str, page: &mut Page) {
    let up = |server: &Server| u8::from(*server == Server::Up);
    page.family("database_up", "gauge", "Whether the database answers.");
    page.sample("database_up", None, up(&beat.database));
    page.family("broker_up", "gauge", "Whether the broker answers.");
    page.sample("broker_up", None, up(&beat.broker));
    page.family("commands_stored_total", "counter", "Commands stored by all workers, nearly.");
    page.sample("commands_stored_total", None, beat.commands_stored);
    page.family("dead_letters_open", "gauge", "Dead letters that nobody has dealt with.");
    page.sample("dead_letters_open", None, beat.letters.open);
    page.family("dead_letters_new", "gauge", "Dead letters of the last hour, up to 10,000.");
    page.sample("dead_letters_new", None, beat.letters.new_within_an_hour);
    if let Some(waiting) = beat.letters_waiting {
        page.family("dead_letters_waiting", "gauge", "Dead letters before their archive.");
        page.sample("dead_letters_waiting", None, waiting);
    }
    page.family("lane_ready_commands", "gauge", "Commands that wait in the lane's queue.");
    for (lane, depth) in beat.lanes.iter().filter_map(|lane| Some((lane, lane.depth?))) {
        page.sample("lane_ready_commands", Some(&lane.name), depth.ready);
    }
    page.family("lane_consumers", "gauge", "Workers at the lane's queue.");
    for (lane, depth) in beat.lanes.iter().filter_map(|lane| Some((lane, lane.depth?))) {
        page.sample("lane_consumers", Some(&lane.name), depth.consumers);
    }
    let held = || beat.lanes.iter().filter_map(|lane| lane.held.as_ref());
    page.family("lane_epoch", "counter", "How often the lane was taken.");
    for lane in held() {
        page.sample("lane_epoch", Some(&lane.name), lane.epoch);
    }
    page.family("lane_held", "gauge", "Whether this worker took the lane last.");
    for lane in held() {
        page.sample("lane_held", Some(&lane.name), u8::from(lane.holder == worker));
    }
}

/// What the worker in this process has done, lane by lane.
fn counted(counters: &LaneCounters, page: &mut Page) {
    let lanes: Vec<_> = counters.iter().map(|(lane, counters)| (lane, counters.each())).collect();
    let Some((_, first)) = lanes.first() else { return };
    for (place, (name, what, _)) in first.iter().enumerate() {
        let name = format!("worker_{name}_total");
        page.family(&name, "counter", what);
        for (lane, each) in &lanes {
            let (_, _, value) = each[place];
            page.sample(&name, Some(lane), value);
        }
    }
    let name = "worker_answer_seconds";
    page.family(name, "histogram", "From a delivery's arrival to the confirm of its answer.");
    for (lane, counters) in counters.iter() {
        page.histogram(name, lane, counters.answered());
    }
}

struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String can't fail.
        let _infallible = write!(
            self.0,
            "# HELP partner_program_{name} {help}\n# TYPE partner_program_{name} {kind}\n"
        );
    }

    fn sample(&mut self, name: &str, lane: Option<&str>, value: impl Display) {
        let labels = lane.map_or_else(String::new, |lane| format!("{{lane=\"{}\"}}", label(lane)));
        let _infallible = writeln!(self.0, "partner_program_{name}{labels} {value}");
    }

    fn histogram(&mut self, name: &str, lane: &str, histogram: &Histogram) {
        let bounds = BUCKETS_MS.iter().map(|bound| (f64::from(*bound) / 1000.0).to_string());
        let lane_label = label(lane);
        let cumulative = histogram.cumulative();
        for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(cumulative) {
            let _infallible = writeln!(
                self.0,
                "partner_program_{name}_bucket{{lane=\"{lane_label}\",le=\"{bound}\"}} {count}"
            );
        }
        self.sample(&format!("{name}_sum"), Some(lane), histogram.sum().as_secs_f64());
        self.sample(&format!("{name}_count"), Some(lane), cumulative[BUCKETS_MS.len()]);
    }
}

/// The text within the quotes of a label.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
