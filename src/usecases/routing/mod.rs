//! Changes which lane takes which command: `topology apply`, for lanes in which nothing waits, and
//! `lanes move`, for lanes under load.
//!
//! Both write down what they are about to do, hold the lanes that must stand still, and only then
//! change bindings. Whatever dies in between leaves lanes that wait; the same command, run again,
//! goes on.

pub mod apply;
pub mod move_pattern;

use crate::broker::error::Error as BrokerError;
use crate::domain::routing::Overlap;
use crate::store::error::Error as StoreError;
use crate::usecases::installation::Error as InstallationError;

/// Why the routing was not changed, or not to the end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The broker is not the database's.
    #[error(transparent)]
    Installation(#[from] InstallationError),
    /// Commands would be applied in two lanes.
    #[error("{0}")]
    Overlap(String),
    /// Commands wait, and the change would let later ones overtake them.
    #[error("{0}")]
    WouldReorder(String),
    /// The schema is older or newer than this program.
    #[error("{0}")]
    Schema(String),
    /// Another change is under way, or none is where one is asked for.
    #[error("{0}")]
    UnderWay(String),
    /// A lane or a pattern that there is not.
    #[error("{0}")]
    NotFound(String),
    /// The bound on waiting is over. The change stands where it stood.
    #[error("{0}")]
    StillWaiting(String),
}

impl From<Overlap> for Error {
    fn from(overlap: Overlap) -> Self {
        Self::Overlap(overlap.to_string())
    }
}
