//! A dead letter's life, from its death to the last word on it.

use std::fmt;

/// The place of a delivery in the queue of its lane: what came later has a greater one. Dead letters of a lane
/// died in this order, whatever the clocks of its workers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueuePosition {
    /// The lane's epoch, which grows each time a worker acquires the lane. From 1 on.
    pub lane_epoch: i64,
    /// The delivery tag, which grows with each delivery of an epoch. From 1 on.
    pub delivery_tag: i64,
}

impl QueuePosition {
    /// The position; nothing if one of the numbers can't be of a delivery.
    #[must_use]
    pub const fn new(lane_epoch: i64, delivery_tag: i64) -> Option<Self> {
        if lane_epoch > 0 && delivery_tag > 0 {
            Some(Self { lane_epoch, delivery_tag })
        } else {
            None
        }
    }
}

/// The state of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// No operator has acted on it yet.
    Open,
    /// An operation has claimed it and is about to publish it.
    Replaying,
    /// Published and confirmed; what came of it is not known yet.
    Replayed,
    /// Its command took effect.
    Applied,
    /// The replay died again, as another dead letter.
    FailedAgain,
    /// Put aside; it can be restored.
    Discarded,
    /// An edited copy replaces it.
    Superseded,
}

impl State {
    /// Every state, in the order of a dead letter's life.
    pub const ALL: [Self; 7] = [
        Self::Open,
        Self::Replaying,
        Self::Replayed,
        Self::Applied,
        Self::FailedAgain,
        Self::Discarded,
        Self::Superseded,
    ];

    /// The word in tables, filters and output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Replaying => "replaying",
            Self::Replayed => "replayed",
            Self::Applied => "applied",
            Self::FailedAgain => "failed_again",
            Self::Discarded => "discarded",
            Self::Superseded => "superseded",
        }
    }

    /// The inverse of [`as_str`](Self::as_str).
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
