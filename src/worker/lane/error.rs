//! Why a channel generation ended.

use crate::worker::lane::outgoing_message::OutgoingMessage;
use tokio::task::JoinError;

/// A fault after which a lane reconnects: new connections, a new channel, redelivery from the queue's front.
/// Nothing is lost: everything that was not acked is delivered again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GenerationError {
    #[error("broker: {0}")]
    Broker(#[from] crate::broker::error::Error),
    #[error("database: {0}")]
    Store(#[from] crate::store::error::Error),
    /// The broker refuses what the lane has to publish.
    #[error("{why}")]
    Unpublishable { why: String, unpublished: Box<OutgoingMessage> },
    #[error("the database runs with fsync=off and can lose what it has committed: turn it on")]
    NotDurable,
    #[error("{0}")]
    ProgramTooOld(String),
    #[error("{0}")]
    NotOurBroker(String),
    #[error("the routing map has changed")]
    RoutingChanged,
    #[error("the task `{task}` of the lane stopped by itself: {why}")]
    TaskStopped { task: &'static str, why: String },
}

impl GenerationError {
    /// Of a task that ended while it was needed.
    pub(crate) fn of_ended<T>(
        task: &'static str,
        ended: Result<Result<T, Self>, JoinError>,
    ) -> Self {
        match ended {
            Ok(Err(fault)) => fault,
            Ok(Ok(_)) => Self::TaskStopped { task, why: "it ended early".into() },
            Err(panic) => Self::of_panic(task, &panic),
        }
    }

    /// Of a task that panicked.
    pub(crate) fn of_panic(task: &'static str, panic: &JoinError) -> Self {
        Self::TaskStopped { task, why: panic.to_string() }
    }
}
