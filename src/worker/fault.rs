//! Why a channel generation ended.

use crate::worker::publishing::Unpublished;

/// A fault after which a lane starts over: new connections, new channel, redelivery from the
/// queue's front. Nothing is lost by one: whatever was not acked comes again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("broker: {0}")]
    Broker(#[from] crate::broker::error::Error),
    #[error("database: {0}")]
    Store(#[from] crate::store::error::Error),
    /// The broker does not take what the lane has to publish.
    #[error("{why}")]
    Unpublishable { why: String, unpublished: Box<Unpublished> },
    #[error("the database runs with fsync=off and can lose what it has committed: turn it on")]
    NotDurable,
    #[error("a task of the lane stopped by itself: {0}")]
    TaskStopped(String),
}
