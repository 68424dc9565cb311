//! The status of the system, kept for pages, probes and scrapers.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};

use crate::broker::depth::Depth;
use crate::store::health::{self, Letters};
use crate::store::lane_metrics::Present;
use crate::store::lane_pauses::Pause;

/// The status that was seen last.
#[derive(Default)]
pub(super) struct LatestStatus(Mutex<SystemStatus>);

/// The database, the broker and the lanes, as one look saw them.
#[derive(Clone, Debug, Default)]
pub(super) struct SystemStatus {
    pub(super) database: Server,
    pub(super) broker: Server,
    pub(super) lanes: Vec<Lane>,
    pub(super) pauses: Vec<Pause>,
    pub(super) letters: Letters,
    /// Dead letters that the archive has not taken yet.
    pub(super) letters_waiting: Option<u32>,
    /// Stored by all workers since the first.
    pub(super) commands_stored: i64,
    /// Commands a second, look by look, oldest first.
    pub(super) throughput: VecDeque<f64>,
}

/// Whether a server answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Server {
    /// Not looked at yet.
    #[default]
    Unknown,
    Up,
    Down(String),
}

/// A lane, as the database and the broker see it.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    pub(super) name: String,
    /// The last owner; `None` before the first.
    pub(super) held: Option<health::Lane>,
    pub(super) depth: Option<Depth>,
    /// What its worker stored last; `None` if no worker owns it.
    pub(super) present: Option<Present>,
    /// Since when its oldest command waits at least, where no worker consumes.
    pub(super) waiting_since: Option<DateTime<Utc>>,
    /// Whether this worker's configuration has it.
    pub(super) is_configured: bool,
}

impl LatestStatus {
    pub(super) fn latest(&self) -> SystemStatus {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut SystemStatus)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl SystemStatus {
    /// The pause of the lane, if it is paused.
    pub(super) fn pause(&self, lane: &str) -> Option<&Pause> {
        self.pauses.iter().find(|pause| pause.lane == lane)
    }

    /// The slowest lane's 99th percentile in milliseconds, and the oldest command of any lane.
    pub(super) fn worst(&self) -> (Option<f32>, Option<TimeDelta>) {
        let present = || self.lanes.iter().filter_map(|lane| lane.present.as_ref());
        let slowest = present().filter_map(|present| present.p99_ms).reduce(f32::max);
        (slowest, present().filter_map(Present::oldest).max())
    }

    /// Commands a second, as of the last look.
    pub(super) fn per_second(&self) -> Option<f64> {
        self.throughput.back().copied()
    }
}
