//! The health of a lane, for the probes of an orchestrator.
//!
//! Readiness asks whether the lane could work now; liveness, whether its loop still turns. An outage
//! makes a lane unready and never dead: a restart would not help the servers.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

/// How often a wait shows that the loop turns.
const TURN_INTERVAL: Duration = Duration::from_secs(1);

/// What a lane is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It has not subscribed yet, or its last generation has ended.
    #[default]
    Connecting,
    /// Subscribed; another worker is active, or nothing was delivered yet.
    StandingBy,
    /// Subscribed, and owner of the lane.
    Active,
    /// An operator has paused the lane.
    Paused,
}

impl State {
    /// The word in probes and pages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::StandingBy => "standing by",
            Self::Active => "active",
            Self::Paused => "paused",
        }
    }
}

/// The latest failure of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneError {
    /// What failed. No personal data.
    pub text: String,
    /// When, by the worker's clock.
    pub at: DateTime<Utc>,
}

/// A lane's health as it was seen at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What the lane is doing.
    pub state: State,
    /// Whether the latest failure still lasts: nothing has worked since.
    pub is_failing: bool,
    /// The latest failure.
    pub last_error: Option<LaneError>,
}

impl Report {
    /// Whether the lane could apply a command that came now, or is paused.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        match self.state {
            State::Connecting => false,
            State::StandingBy | State::Active => !self.is_failing,
            State::Paused => true,
        }
    }

    /// The same, with a failure that lasts and was seen now.
    pub(crate) fn failing(self, text: String) -> Self {
        let last_error = Some(LaneError { text, at: Utc::now() });
        Self { is_failing: true, last_error, ..self }
    }
}

/// Whether the broker routes commands as the routing map says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Bindings {
    /// Nothing is known yet.
    #[default]
    NotChecked,
    /// Every binding of the map is there: this worker has just made those that were missing.
    Made,
    /// The user may not bind, and the management API shows every binding of the map.
    Verified,
    /// The user may not bind, and without `management_url` nothing tells.
    NotPermitted,
    /// These are missing, and the user may not bind.
    Missing(Vec<String>),
}

impl Bindings {
    /// Whether commands may reach the wrong lane or none.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        match self {
            Self::NotChecked | Self::Made | Self::Verified | Self::NotPermitted => true,
            Self::Missing(_) => false,
        }
    }
}

impl fmt::Display for Bindings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotChecked => f.write_str("not checked yet"),
            Self::Made => f.write_str("made"),
            Self::Verified => f.write_str("verified"),
            Self::NotPermitted => {
                f.write_str("not checked: the user may not bind, and management_url is not set")
            }
            Self::Missing(missing) => write!(f, "missing: {}", missing.join(", ")),
        }
    }
}

/// The health of one lane. Written by the lane's tasks, read by any.
#[derive(Debug)]
pub struct Health {
    created: Instant,
    /// When the loop turned last, in milliseconds since `created`.
    turned_ms: AtomicU64,
    report: Mutex<Report>,
}

impl Default for Health {
    fn default() -> Self {
        Self { created: Instant::now(), turned_ms: AtomicU64::default(), report: Mutex::default() }
    }
}

impl Health {
    /// The state and the latest failure.
    #[must_use]
    pub fn report(&self) -> Report {
        self.change(|report| report.clone())
    }

    /// How long ago the lane's loop turned.
    #[must_use]
    pub fn since_turn(&self) -> Duration {
        let turned = Duration::from_millis(self.turned_ms.load(Ordering::Relaxed));
        self.created.elapsed().saturating_sub(turned)
    }

    /// The loop turns, be it within a wait.
    pub(crate) fn turn(&self) {
        let now = u64::try_from(self.created.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.turned_ms.store(now, Ordering::Relaxed);
    }

    /// Waits for `work`, whose own bounds keep it from lasting for ever, and turns meanwhile.
    pub(crate) async fn turn_during<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            self.turn();
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(TURN_INTERVAL) => {}
            }
        }
    }

    pub(crate) fn enter(&self, state: State) {
        self.turn();
        self.change(|report| report.state = state);
    }

    /// Something failed; until something works again the lane is not ready.
    pub(crate) fn fail(&self, error: &impl ToString) {
        let error = LaneError { text: error.to_string(), at: Utc::now() };
        self.change(|report| {
            report.is_failing = true;
            report.last_error = Some(error);
        });
    }

    /// Something worked: commands were acked, or the lane has subscribed.
    pub(crate) fn recover(&self) {
        self.change(|report| report.is_failing = false);
    }

    fn change<T>(&self, change: impl FnOnce(&mut Report) -> T) -> T {
        change(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_ready_while_it_could_work() {
        let health = Health::default();
        assert!(!health.report().is_ready(), "it has not subscribed");
        for state in [State::StandingBy, State::Active] {
            health.enter(state);
            assert!(health.report().is_ready(), "{state:?}");
            health.fail(&"the disk is full");
            assert!(!health.report().is_ready(), "{state:?}");
            health.recover();
            assert!(health.report().is_ready(), "{state:?}");
        }
        assert_eq!(
            health.report().last_error.map(|error| error.text).as_deref(),
            Some("the disk is full")
        );
        health.fail(&"no matter");
        health.enter(State::Paused);
        assert!(health.report().is_ready(), "an operator wants it so");
    }

    #[tokio::test]
    async fn a_wait_turns() {
        let health = Health::default();
        let wait = TURN_INTERVAL.mul_f64(1.5);
        tokio::time::sleep(wait).await;
        assert!(health.since_turn() >= wait);
        health.turn_during(tokio::time::sleep(wait)).await;
        assert!(health.since_turn() < wait);
    }
}
