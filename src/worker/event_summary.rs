//! One line in the log for many events of a kind: a publisher may send any number of messages that become
//! dead letters, and an operator may take back any number of replays.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines of a lane.
const INTERVAL: Duration = Duration::from_secs(10);

/// What is to be logged, counted by its reason.
#[derive(Debug, Default)]
struct Pending {
    dead_letters: BTreeMap<&'static str, u64>,
    dropped_replays: BTreeMap<&'static str, u64>,
    logged_at: Option<Instant>,
}

/// The events of a lane. The first is logged at once, those that follow within [`INTERVAL`] together.
#[derive(Debug, Default)]
pub(crate) struct EventSummary(Mutex<Pending>);

impl EventSummary {
    /// A message became a dead letter.
    pub(crate) fn add_dead_letter(&self, reason: &'static str) {
        self.with(|pending| *pending.dead_letters.entry(reason).or_default() += 1);
    }

    /// A replay was dropped.
    pub(crate) fn add_dropped_replay(&self, why: &'static str) {
        self.with(|pending| *pending.dropped_replays.entry(why).or_default() += 1);
    }

    /// Logs what there is, unless a line was logged a moment ago.
    pub(crate) fn log_if_due(&self, lane: &str) {
        self.with(|pending| {
            if pending.logged_at.is_none_or(|at| at.elapsed() >= INTERVAL) {
                pending.log(lane);
            }
        });
    }

    /// Logs what there is.
    pub(crate) fn log(&self, lane: &str) {
        self.with(|pending| pending.log(lane));
    }

    fn with(&self, change: impl FnOnce(&mut Pending)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Pending {
    fn log(&mut self, lane: &str) {
        if !self.dead_letters.is_empty() {
            let (count, reasons) = told(&self.dead_letters);
            tracing::warn!(
                lane,
                messages = count,
                "{count} message(s) of lane `{lane}` became dead letters ({reasons}): look at them with `partner-program dead-letters groups`"
            );
        }
        if !self.dropped_replays.is_empty() {
            let (count, reasons) = told(&self.dropped_replays);
            tracing::info!(
                lane,
                replays = count,
                "lane `{lane}` dropped {count} replay(s) of dead letters without effect ({reasons})"
            );
        }
        if !self.dead_letters.is_empty() || !self.dropped_replays.is_empty() {
            *self = Self { logged_at: Some(Instant::now()), ..Self::default() };
        }
    }
}

fn told(counts: &BTreeMap<&'static str, u64>) -> (u64, String) {
    let each: Vec<String> = counts.iter().map(|(why, count)| format!("{why}: {count}")).collect();
    (counts.values().sum(), each.join(", "))
}
