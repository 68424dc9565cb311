//! What can go wrong with the broker, by what the caller does about it.

use std::time::Duration;

use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};

use crate::broker::topology::Difference;

/// A fault of the broker or of the way to it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is unavailable, or closed the connection or channel: try again later.
    #[error("{0}")]
    Outage(String),
    /// Confirms are missing: the messages may have arrived. A new channel may help.
    #[error("the broker did not confirm within {0:?}")]
    Unconfirmed(Duration),
    /// It refuses this user: an operator must correct credentials, permissions or the address.
    #[error("{0}: check the user, its permissions and the virtual host of amqp_url")]
    Refused(String),
    /// A queue or exchange is not there.
    #[error("{0}: run `partner-program topology apply`")]
    NotFound(String),
    /// What was asked for contradicts what is there.
    #[error("{0}")]
    Precondition(String),
    /// Queues or exchanges are there, but not as they should be.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Topology(Vec<Difference>),
}

impl Error {
    /// Classifies lapin's error of an attempt to do `what`.
    pub(super) fn of(what: &str, error: &lapin::Error) -> Self {
        match error.kind() {
            ErrorKind::ProtocolError(amqp) => {
                let text = format!("{what}: {}", amqp.get_message());
                match amqp.kind() {
                    AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)
                    | AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => Self::Refused(text),
                    AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => Self::NotFound(text),
                    AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => {
                        Self::Precondition(text)
                    }
                    AMQPErrorKind::Soft(_) | AMQPErrorKind::Hard(_) => Self::Outage(text),
                }
            }
            _ => Self::Outage(format!("{what}: {error}")),
        }
    }

    pub(super) fn timeout(what: &str, after: Duration) -> Self {
        Self::Outage(format!("{what}: no answer within {after:?}"))
    }
}
