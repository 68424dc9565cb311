//! What a lane has done, for its log lines.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the worker's start. Written by the tasks of one lane, read by any.
#[derive(Debug, Default)]
pub(super) struct Counters {
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
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }

    #[must_use]
    pub(super) fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}
