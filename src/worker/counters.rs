//! What a lane has done and has in flight, for its log lines, its samples and for metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use histogram::{AtomicHistogram, Histogram};
use uuid::Uuid;

use crate::config::Config;
use crate::worker::event_summary::EventSummary;
use crate::worker::health::{Bindings, Health, Report};
use crate::worker::in_flight::InFlight;
use crate::worker::priority_counts::OtherPriorities;

/// How long what the broker does not take is published again, unless `outage_grace_ms` is less.
pub(crate) const PUBLISHING_GRACE: Duration = Duration::from_mins(1);

/// The lanes of a worker, by name, each with what it has done since the worker's start.
#[derive(Clone, Debug, Default)]
pub struct LaneCounters {
    lanes: BTreeMap<String, Arc<Counters>>,
    /// Tasks beside the lanes that stopped by themselves and began anew.
    task_restarts: Arc<AtomicU64>,
    bindings: Arc<Mutex<Bindings>>,
    /// Tells this worker from others of its `worker_id`.
    process: Uuid,
    /// The other live workers of its `worker_id`.
    twins: Arc<Mutex<Vec<String>>>,
}

impl LaneCounters {
    /// One for each lane of the configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self::named(config.lanes.iter().map(|lane| lane.name.as_str()))
    }

    pub(crate) fn named<'a>(lanes: impl IntoIterator<Item = &'a str>) -> Self {
        let lanes = lanes.into_iter().map(|lane| (lane.to_owned(), Arc::default())).collect();
        let process = Uuid::now_v7();
        Self {
            lanes,
            task_restarts: Arc::default(),
            bindings: Arc::default(),
            process,
            twins: Arc::default(),
        }
    }

    /// Of this worker alone, whatever its `worker_id`.
    #[must_use]
    pub fn process(&self) -> Uuid {
        self.process
    }

    /// The other live workers that have this one's `worker_id`: machine and process, at most ten.
    #[must_use]
    pub fn twins(&self) -> Vec<String> {
        self.twins.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes them, and returns what was noted before.
    pub(crate) fn set_twins(&self, twins: Vec<String>) -> Vec<String> {
        std::mem::replace(&mut *self.twins.lock().unwrap_or_else(PoisonError::into_inner), twins)
    }

    /// Each lane's name and what it has done.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Counters)> {
        self.lanes.iter().map(|(name, counters)| (name.as_str(), &**counters))
    }

    /// Whether the broker routes commands as the routing map says.
    #[must_use]
    pub fn bindings(&self) -> Bindings {
        self.bindings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_bindings(&self, bindings: Bindings) {
        *self.bindings.lock().unwrap_or_else(PoisonError::into_inner) = bindings;
    }

    pub(crate) fn lane(&self, name: &str) -> Arc<Counters> {
        self.lanes.get(name).cloned().unwrap_or_default()
    }

    pub(crate) fn task_restarts(&self) -> &AtomicU64 {
        &self.task_restarts
    }

    /// How often a task beside the lanes stopped by itself and began anew.
    #[must_use]
    pub fn count_task_restarts(&self) -> u64 {
        Counters::get(&self.task_restarts)
    }
}

/// Counts since the worker's start. Written by the tasks of one lane, read by any.
#[derive(Debug, Default)]
pub struct Counters {
    /// Commands whose effects this worker committed.
    pub(crate) applied: AtomicU64,
    /// Commands answered from the inbox.
    pub(crate) duplicates: AtomicU64,
    /// Commands that went to the dead letters.
    pub(crate) rejected: AtomicU64,
    /// What is logged of dead letters.
    pub(crate) events: EventSummary,
    /// Replays without effect, because they were taken back.
    pub(crate) replays_dropped: AtomicU64,
    /// Commands that were parked behind a dead letter of their customer.
    pub(crate) parked: AtomicU64,
    /// Subscriptions to the lane's queue.
    pub(crate) subscribed: AtomicU64,
    /// Batches that were acked.
    pub(crate) acked_batches: AtomicU64,
    /// Batches that had to be done again.
    pub(crate) repeated_batches: AtomicU64,
    /// Results that no queue was bound for.
    pub(crate) unroutable_results: AtomicU64,
    /// Deliveries that the broker had delivered before.
    pub(crate) redelivered: AtomicU64,
    /// From a delivery's arrival to the confirm of what became of it.
    pub(crate) answered: Took,
    /// What was delivered and is not acked yet.
    pub(crate) in_flight: InFlight,
    /// Tasks of the lane that stopped by themselves, each of which has ended a generation.
    pub(crate) task_restarts: AtomicU64,
    /// Whether the lane can work, for probes.
    pub(crate) health: Health,
    /// Times that messages had to be published again.
    pub(crate) publishing_failures: AtomicU64,
    /// Results in whose place a notice was published, as the broker does not take their size.
    pub(crate) results_unavailable: AtomicU64,
    /// Dead letters that lost most of their body, as the broker does not take their size.
    pub(crate) letters_cut: AtomicU64,
    /// Replies that did not reach their requester.
    pub(crate) replies_lost: AtomicU64,
    /// Commands with another priority than the lane's.
    pub(crate) other_priorities: OtherPriorities,
    /// Steps of the lane's work, of whatever kind: a drain goes on while it counts.
    pub(crate) steps: AtomicU64,
    /// Why publishing has not succeeded for longer than its bound; nothing while it does.
    publishing_trouble: Mutex<Option<String>>,
    /// Since when the oldest confirm is out.
    waits_for_confirms: Mutex<Option<Instant>>,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Each counter, its name and what it counts.
    #[must_use]
    pub fn each(&self) -> [(&'static str, &'static str, u64); 15] {
        [
            ("commands_applied", "Commands whose effects were committed", &self.applied),
            ("commands_duplicate", "Commands answered from the inbox", &self.duplicates),
            ("commands_rejected", "Commands that became dead letters", &self.rejected),
            (
                "replays_dropped",
                "Replays of dead letters without effect: taken back, or applied before",
                &self.replays_dropped,
            ),
            ("commands_parked", "Commands parked behind a dead letter", &self.parked),
            ("deliveries_again", "Deliveries that came before", &self.redelivered),
            ("batches_acked", "Batches that were published and acked", &self.acked_batches),
            ("batches_repeated", "Batches that had to be done again", &self.repeated_batches),
            ("results_unroutable", "Results that no queue is bound for", &self.unroutable_results),
            ("results_unavailable", "Results too large for the broker", &self.results_unavailable),
            ("letters_cut", "Dead letters too large for the broker", &self.letters_cut),
            ("replies_lost", "Replies that reached no requester", &self.replies_lost),
            ("publishing_failures", "Times that publishing failed", &self.publishing_failures),
            ("lane_subscriptions", "Subscriptions to the lane's queue", &self.subscribed),
            (
                "lane_task_restarts",
                "Tasks of the lane that stopped by themselves",
                &self.task_restarts,
            ),
        ]
        .map(|(name, what, counter)| (name, what, Self::get(counter)))
    }

    /// Commands that were answered, parked or dead-lettered.
    pub(crate) fn completed(&self) -> u64 {
        [&self.applied, &self.duplicates, &self.rejected, &self.parked].map(Self::get).iter().sum()
    }

    /// How long ago the lane's loop turned.
    #[must_use]
    pub fn since_turn(&self) -> Duration {
        self.health.since_turn()
    }

    /// Whether the lane can work, and publish what it has to.
    #[must_use]
    pub fn health(&self) -> Report {
        let report = self.health.report();
        match self.publishing_trouble() {
            Some(trouble) => report.failing(trouble),
            None => report,
        }
    }

    /// Commands with another priority than the lane's, by publisher.
    #[must_use]
    pub fn other_priorities(&self) -> &OtherPriorities {
        &self.other_priorities
    }

    /// From a delivery's arrival to the confirm of what became of it.
    #[must_use]
    pub fn answered(&self) -> &Took {
        &self.answered
    }

    /// Why the lane can't publish what it has to; nothing while it can.
    #[must_use]
    pub fn publishing_trouble(&self) -> Option<String> {
        let told = self.publishing_trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        told.or_else(|| {
            let since = *self.waits_for_confirms.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = since?.elapsed();
            (waited > PUBLISHING_GRACE)
                .then(|| format!("the broker has confirmed nothing for {} s", waited.as_secs()))
        })
    }

    /// Says why the lane can't publish, or that it can.
    pub(crate) fn set_publishing_trouble(&self, trouble: Option<String>) {
        *self.publishing_trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// Says since when the oldest confirm is out; nothing, if none is.
    pub(crate) fn waits_for_confirms(&self, since: Option<Instant>) {
        *self.waits_for_confirms.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    pub(crate) fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}

/// Buckets of which each is less than 1 % wide, up to 18 minutes; in microseconds.
const BUCKETS: histogram::Config = match histogram::Config::new(7, 30) {
    Ok(config) => config,
    Err(_) => panic!("the crate takes no such buckets"),
};
const LONGEST: u64 = (1 << 30) - 1;

/// How long something took, time after time.
#[derive(Debug)]
pub struct Took {
    buckets: AtomicHistogram,
    microseconds: AtomicU64,
}

impl Default for Took {
    fn default() -> Self {
        Self { buckets: AtomicHistogram::with_config(&BUCKETS), microseconds: AtomicU64::default() }
    }
}

impl Took {
    pub(crate) fn observe(&self, took: Duration) {
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).min(LONGEST);
        if self.buckets.increment(microseconds).is_ok() {
            self.microseconds.fetch_add(microseconds, Ordering::Relaxed);
        }
    }

    /// All of them so far, in microseconds; what took longer than 18 minutes took as long.
    #[must_use]
    pub fn all(&self) -> Histogram {
        self.buckets.load()
    }

    /// All of them together.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_micros(Counters::get(&self.microseconds))
    }
}
