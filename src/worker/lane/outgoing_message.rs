//! A message that a lane publishes.

use crate::message::Message;

/// A message and how much it matters that it arrives.
#[derive(Clone, Debug)]
pub(crate) struct OutgoingMessage {
    pub(crate) message: Message,
    pub(crate) need: Need,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// A dead letter: without a queue to hold it, it would be lost.
    Queued,
    /// A result: the broker must take it. Whether a queue is bound is the subscribers' choice,
    /// for it stays in the database.
    Confirmed,
    /// A copy for a requester, who may be gone.
    BestEffort,
}
