//! The metrics, in the text format of `OpenMetrics`. No personal data, and no org: lanes are the finest
//! label, but for publishers that send a priority, which are users of the broker.

use std::fmt;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use chrono::{DateTime, Utc};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use uuid::Uuid;

use crate::console::app::Shared;
use crate::console::error::Failure;
use crate::console::status::{Lane, Server, SystemStatus};
use crate::worker::counters::{LaneCounters, Took};

/// Bounds of the histogram's buckets, in milliseconds.
const BUCKETS_MS: [u32; 13] = [5, 10, 20, 35, 50, 75, 100, 250, 500, 1_000, 5_000, 30_000, 300_000];

pub(super) async fn metrics(State(app): State<Shared>) -> Result<impl IntoResponse, Failure> {
    let mut registry = Registry::with_prefix("partner_program");
    registry.register_collector(Box::new(Seen {
        latest: app.status.latest(),
        process: app.counters.process(),
        dead_letters_max_bytes: app.config.dead_letters_max_bytes,
        now: app.clock.now(),
    }));
    registry.register_collector(Box::new(Counted(app.counters.clone())));
    let mut page = String::new();
    encode(&mut page, &registry).map_err(|error| Failure::Broken(error.to_string()))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(CONTENT_TYPE, kind)], page))
}

/// What the database and the broker say of all workers.
#[derive(Debug)]
struct Seen {
    latest: SystemStatus,
    /// Of this worker; another may have its id.
    process: Uuid,
    dead_letters_max_bytes: i64,
    now: DateTime<Utc>,
}

impl Collector for Seen {
    fn encode(&self, mut to: DescriptorEncoder) -> fmt::Result {
        let SystemStatus {
            database, broker, lanes, letters, letters_waiting, commands_stored, ..
        } = &self.latest;
        let up = |server: &Server| i64::from(*server == Server::Up);
        gauge(&mut to, "database_up", "Whether the database answers", up(database))?;
        gauge(&mut to, "broker_up", "Whether the broker answers", up(broker))?;
        let stored = commands_stored.unsigned_abs();
        family(
            &mut to,
            "commands_stored",
            "Commands stored by all workers, nearly",
            MetricType::Counter,
        )?
        .encode_counter::<NoLabelSet, _, u64>(&stored, None)?;
        gauge(&mut to, "dead_letters_open", "Open dead letters", letters.open)?;
        let what = "Bytes that all archived dead letters take";
        gauge(&mut to, "dead_letters_bytes", what, letters.bytes)?;
        let what = "Bytes from which on further letters stay in their queue";
        gauge(&mut to, "dead_letters_max_bytes", what, self.dead_letters_max_bytes)?;
        let new = letters.new_within_an_hour;
        gauge(&mut to, "dead_letters_new", "Dead letters of the last hour, up to 10,000", new)?;
        if let Some(waiting) = *letters_waiting {
            let what = "Dead letters before their archive";
            gauge(&mut to, "dead_letters_waiting", what, i64::from(waiting))?;
        }
        let what = "Commands that wait in the lane's queue";
        lane_gauge(&mut to, "lane_ready_commands", what, lanes, |lane| {
            lane.depth.map(|depth| depth.ready)
        })?;
        lane_gauge(&mut to, "lane_consumers", "Workers at the lane's queue", lanes, |lane| {
            lane.depth.map(|depth| depth.consumers)
        })?;
        let what = "Age of the oldest command that is being worked";
        lane_gauge(&mut to, "lane_oldest_seconds", what, lanes, |lane| {
            Some(lane.present.as_ref()?.oldest()?.as_seconds_f64())
        })?;
        let what = "Age that the oldest command has at least, in lanes that no worker consumes";
        lane_gauge(&mut to, "lane_waiting_seconds", what, lanes, |lane| {
            Some((self.now - lane.waiting_since?).as_seconds_f64())
        })?;
        lane_gauge(&mut to, "lane_epoch", "How often the lane was taken", lanes, |lane| {
            lane.held.as_ref().map(|held| held.epoch)
        })?;
        lane_gauge(&mut to, "lane_held", "Whether this worker took the lane last", lanes, |lane| {
            lane.held.as_ref().map(|held| i64::from(held.process == Some(self.process)))
        })
    }
}

/// What the worker in this process has done, lane by lane.
#[derive(Debug)]
struct Counted(LaneCounters);

impl Collector for Counted {
    fn encode(&self, mut to: DescriptorEncoder) -> fmt::Result {
        let lanes: Vec<_> = self.0.iter().map(|(lane, counters)| (lane, counters.each())).collect();
        let Some((_, first)) = lanes.first() else { return Ok(()) };
        for (place, (name, what, _)) in first.iter().enumerate() {
            let name = format!("worker_{name}");
            let mut family = family(&mut to, &name, what, MetricType::Counter)?;
            for (lane, each) in &lanes {
                family
                    .encode_family(&[("lane", *lane)])?
                    .encode_counter::<NoLabelSet, _, u64>(&each[place].2, None)?;
            }
        }
        let name = "worker_other_priority_commands";
        let what = "Commands with another priority than the lane's, by publisher";
        let mut others = family(&mut to, name, what, MetricType::Counter)?;
        for (lane, counters) in self.0.iter() {
            for ((publisher, outcome), count) in counters.other_priorities().each() {
                let labels =
                    [("lane", lane), ("publisher", &publisher), ("outcome", outcome.as_str())];
                others
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        let what = "Tasks beside the lanes that stopped by themselves";
        family(&mut to, "worker_task_restarts", what, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&self.0.count_task_restarts(), None)?;
        let twins = i64::try_from(self.0.twins().len()).unwrap_or(i64::MAX);
        gauge(&mut to, "worker_id_twins", "Other live workers with this one's worker_id", twins)?;
        let what = "Whether the lane could apply a command now, or is paused";
        let mut ready = family(&mut to, "worker_lane_ready", what, MetricType::Gauge)?;
        for (lane, counters) in self.0.iter() {
            let is_ready = i64::from(counters.health().is_ready());
            ready.encode_family(&[("lane", lane)])?.encode_gauge(&is_ready)?;
        }
        let what = "From a delivery's arrival to the confirm of its answer";
        let mut answers = family(&mut to, "worker_answer_seconds", what, MetricType::Histogram)?;
        for (lane, counters) in self.0.iter() {
            histogram(answers.encode_family(&[("lane", lane)])?, counters.answered())?;
        }
        Ok(())
    }
}

fn family<'a>(
    to: &'a mut DescriptorEncoder<'_>,
    name: &'a str,
    what: &str,
    kind: MetricType,
) -> Result<MetricEncoder<'a>, fmt::Error> {
    to.encode_descriptor(name, what, None, kind)
}

fn gauge(to: &mut DescriptorEncoder<'_>, name: &str, what: &str, value: i64) -> fmt::Result {
    family(to, name, what, MetricType::Gauge)?.encode_gauge(&value)
}

fn lane_gauge<V: EncodeGaugeValue>(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    what: &str,
    lanes: &[Lane],
    of: impl Fn(&Lane) -> Option<V>,
) -> fmt::Result {
    let mut family = family(to, name, what, MetricType::Gauge)?;
    for (lane, value) in lanes.iter().filter_map(|lane| Some((lane, of(lane)?))) {
        family.encode_family(&[("lane", lane.name.as_str())])?.encode_gauge(&value)?;
    }
    Ok(())
}

/// Buckets are finer than these bounds, so a bound may be off by 1 %.
fn histogram(mut to: MetricEncoder<'_>, took: &Took) -> fmt::Result {
    let mut counts = [0; BUCKETS_MS.len() + 1];
    let all = took.all();
    for bucket in &all {
        let place = BUCKETS_MS.partition_point(|bound| u64::from(*bound) * 1_000 < bucket.start());
        counts[place] += bucket.count();
    }
    let bounds = BUCKETS_MS.iter().map(|bound| f64::from(*bound) / 1_000.0);
    let buckets: Vec<(f64, u64)> = bounds.chain([f64::INFINITY]).zip(counts).collect();
    to.encode_histogram::<NoLabelSet>(took.sum().as_secs_f64(), counts.iter().sum(), &buckets, None)
}
