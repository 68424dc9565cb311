//! An executor: the connection and the fence by which one task applies commands of a lane.
//!
//! Its work is in the modules that need it: `process`, `attempts`, `retry`, `side_transactions`.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::Config;
use crate::store::fence::Fence;
use crate::store::session::Session;
use crate::worker::counters::Counters;
use crate::worker::hold::admit::Holds;
use crate::worker::permits::Permits;

/// Applies parts of a lane's batches over a connection of its own, for one channel generation.
pub(crate) struct Executor {
    pub(crate) lane: String,
    pub(crate) config: Arc<Config>,
    pub(crate) clock: Clock,
    pub(crate) counters: Arc<Counters>,
    pub(crate) permits: Arc<Permits>,
    pub(crate) session: Session,
    pub(crate) fence: Fence,
    pub(crate) shutdown: CancellationToken,
    /// Where dead letters hold their customers.
    pub(crate) holds: Holds,
}
