//! Why a channel generation ended.

/// A fault after which a lane starts over: new connections, new channel, redelivery from the
/// queue's front. Nothing is lost by one: whatever was not acked comes again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("broker: {0}")]
    Broker(#[from] crate::broker::error::Error),
    #[error("database: {0}")]
    Store(#[from] crate::store::error::Error),
    #[error("the database runs with fsync=off and can lose what it has committed: turn it on")]
    NotDurable,
    #[error("{0}")]
    ProgramTooOld(String),
    #[error("a task of the lane stopped by itself: {0}")]
    TaskStopped(String),
}
