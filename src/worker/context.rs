//! What the tasks of a worker share.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::Config;
use crate::worker::permits::Permits;

/// Where a worker's servers are.
pub(crate) struct ServerUrls {
    pub(crate) database_url: String,
    pub(crate) amqp_url: String,
}

/// What the tasks of a worker share.
#[derive(Clone)]
pub(crate) struct TaskContext {
    pub(crate) config: Arc<Config>,
    pub(crate) urls: Arc<ServerUrls>,
    pub(crate) clock: Clock,
    pub(crate) permits: Arc<Permits>,
    pub(crate) shutdown: CancellationToken,
}
