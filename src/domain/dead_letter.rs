//! A dead letter, its position in its lane, and its state.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::command::Operation;
use crate::message::{Headers, Message};

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

/// A dead letter on its way from its queue into the archive.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// Follows from its content: a dead letter that is delivered again has the same.
    pub id: Uuid,
    /// The first word of the routing key, if it can be an org's code.
    pub org: Option<String>,
    /// The second word of the routing key, if it is one.
    pub operation: Option<Operation>,
    /// The lane that it died in.
    pub lane: Option<String>,
    /// A [`Reason`](crate::domain::rejection::Reason), or the broker's word, or `unknown`.
    pub reason: String,
    /// The reason in a sentence, for people.
    pub detail: String,
    /// The place in the body that the detail is about, as a JSON pointer.
    pub pointer: Option<String>,
    /// The same for all dead letters that failed alike: their group.
    pub fingerprint: String,
    /// How often the worker tried it.
    pub attempts: i32,
    /// When it died, by the clock of the worker or broker that dead-lettered it.
    pub died_at: DateTime<Utc>,
    /// The position of its command in the lane's queue, if a worker says so; believed if the lane has had
    /// that epoch.
    pub position: Option<QueuePosition>,
    /// The dead letter that it says to be a replay of; believed if that one was replayed and has the same
    /// command id.
    pub replay_of: Option<Uuid>,
    /// The number of that replay.
    pub replay_number: Option<i32>,
    /// The message as its publisher sent it; `user_id` as the broker authenticated it then.
    pub message: Message,
    /// The headers that worker and broker added.
    pub provenance: Headers,
    /// Hashes of the identifiers of the customers in the body.
    pub customer_keys: Vec<i64>,
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
