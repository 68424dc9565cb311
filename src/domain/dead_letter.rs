//! A dead letter's position in its lane, and its state.

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
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum State {
    /// No action was taken yet.
    Open,
    /// A bulk job has claimed it and publishes it next.
    Replaying,
    /// Published and confirmed; the outcome is not known yet.
    Replayed,
    /// Its command took effect.
    Applied,
    /// The replay failed again, as another dead letter.
    FailedAgain,
    /// Not to be replayed, unless it is restored.
    Discarded,
    /// An edited copy replaces it.
    Superseded,
}

impl State {
    /// Every state, in the order of a dead letter's life.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The word in tables, filters and output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The inverse of [`as_str`](Self::as_str).
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        word.parse().ok()
    }
}
