//! What every request has at hand.

use std::sync::Arc;

use axum::extract::FromRef;

use crate::clock::Clock;
use crate::config::Config;
use crate::console::database::Database;
use crate::console::login_throttle::Attempts;
use crate::console::sessions::Sessions;
use crate::console::status::LatestStatus;
use crate::worker::counters::LaneCounters;

/// What every request has at hand.
pub(super) struct App {
    pub(super) config: Config,
    /// What the worker beside the console has done, if there is one.
    pub(super) counters: LaneCounters,
    pub(super) clock: Clock,
    pub(super) database: Database,
    pub(super) status: LatestStatus,
    pub(super) sessions: Sessions,
    pub(super) attempts: Attempts,
}

/// As handlers get it.
pub(super) type Shared = Arc<App>;

impl App {
    pub(super) fn new(config: &Config, counters: LaneCounters) -> Self {
        Self {
            config: config.clone(),
            counters,
            clock: Clock::system(),
            database: Database::new(config),
            status: LatestStatus::default(),
            sessions: Sessions::default(),
            attempts: Attempts::default(),
        }
    }

    /// Whether cookies may go over TLS only.
    pub(super) fn is_behind_tls(&self) -> bool {
        self.config.console.public_url.as_ref().is_some_and(|url| url.scheme() == "https")
    }
}

/// What extractors need of the state.
pub(super) struct Held(pub(super) Shared);

impl FromRef<Shared> for Held {
    fn from_ref(app: &Shared) -> Self {
        Self(Arc::clone(app))
    }
}
