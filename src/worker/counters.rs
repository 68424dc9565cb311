//! What a lane has done, for its log lines and for metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::config::Config;

/// The lanes of a worker, by name, each with what it has done since the worker's start.
#[derive(Clone, Debug, Default)]
pub struct LaneCounters(BTreeMap<String, Arc<Counters>>);

impl LaneCounters {
    /// One for each lane of the configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self(config.lanes.iter().map(|lane| (lane.name.clone(), Arc::default())).collect())
    }

    /// Each lane's name and what it has done.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Counters)> {
        self.0.iter().map(|(name, counters)| (name.as_str(), &**counters))
    }

    pub(super) fn lane(&self, name: &str) -> Arc<Counters> {
        self.0.get(name).cloned().unwrap_or_default()
    }
}

/// Counts since the worker's start. Written by the tasks of one lane, read by any.
#[derive(Debug, Default)]
pub struct Counters {
    /// Commands whose effects this worker committed.
    pub(super) applied: AtomicU64,
    /// Commands answered from the inbox.
    pub(super) duplicates: AtomicU64,
    /// Commands that went to the dead letters.
    pub(super) rejected: AtomicU64,
    /// Commands that were parked behind a dead letter of their customer.
    pub(super) parked: AtomicU64,
    /// Subscriptions to the lane's queue.
    pub(super) subscribed: AtomicU64,
    /// Windows that were acked.
    pub(super) acked_windows: AtomicU64,
    /// Windows that had to be done again.
    pub(super) repeated_windows: AtomicU64,
    /// Results that no queue was bound for.
    pub(super) unroutable_results: AtomicU64,
    /// Deliveries that the broker had delivered before.
    pub(super) redelivered: AtomicU64,
    /// From a delivery's arrival to the confirm of what became of it.
    pub(super) answered: Histogram,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Each counter, its name and what it counts.
    #[must_use]
    pub fn each(&self) -> [(&'static str, &'static str, u64); 9] {
        [
            ("commands_applied", "Commands whose effects were committed.", &self.applied),
            ("commands_duplicate", "Commands answered from the inbox.", &self.duplicates),
            ("commands_rejected", "Commands that became dead letters.", &self.rejected),
            ("commands_parked", "Commands parked behind a dead letter.", &self.parked),
            ("deliveries_again", "Deliveries that came before.", &self.redelivered),
            ("windows_acked", "Windows that were announced and acked.", &self.acked_windows),
            ("windows_repeated", "Windows that had to be done again.", &self.repeated_windows),
            ("results_unroutable", "Results that no queue is bound for.", &self.unroutable_results),
            ("lane_subscriptions", "Subscriptions to the lane's queue.", &self.subscribed),
        ]
        .map(|(name, what, counter)| (name, what, Self::get(counter)))
    }

    /// From a delivery's arrival to the confirm of what became of it.
    #[must_use]
    pub fn answered(&self) -> &Histogram {
        &self.answered
    }

    #[must_use]
    pub(super) fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}

/// Bounds of the buckets of a [`Histogram`], in milliseconds.
pub const BUCKETS_MS: [u32; 13] =
    [5, 10, 20, 35, 50, 75, 100, 250, 500, 1_000, 5_000, 30_000, 300_000];

/// How long something took, counted in buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    /// Those up to each bound and beyond the one before; the last has no bound.
    buckets: [AtomicU64; BUCKETS_MS.len() + 1],
    microseconds: AtomicU64,
}

impl Histogram {
    pub(super) fn observe(&self, took: Duration) {
        let bucket =
            BUCKETS_MS.partition_point(|bound| Duration::from_millis((*bound).into()) < took);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.microseconds.fetch_add(microseconds, Ordering::Relaxed);
    }

    /// How many took no longer than each of [`BUCKETS_MS`], and how many there are in all.
    #[must_use]
    pub fn cumulative(&self) -> [u64; BUCKETS_MS.len() + 1] {
        let mut sum = 0;
        self.buckets.each_ref().map(|bucket| {
            sum += Counters::get(bucket);
            sum
        })
    }

    /// All of them together, in seconds.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_micros(Counters::get(&self.microseconds))
    }
}
