//! The headers that this system adds to messages, and how a bound on headers spares them.
//!
//! A publisher may set as many headers as fit into a frame, so those of a message are bounded wherever it
//! is kept. What decides what becomes of a message (which dead letter it replays, what a dead letter says of
//! its death) is carried first: only a publisher's headers are dropped.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use crate::message::{BODY_HASH, BODY_LENGTH, EXPIRATION, PRIORITY, UNREADABLE_TIMESTAMP};

/// Lead a message to further queues.
pub(super) const ROUTED_BY: [&str; 2] = ["CC", "BCC"];
/// Names the dead letter that a message is a replay of.
pub(super) const REPLAY_OF: &str = "replay-of";
/// Which replay of that dead letter a message is: the letter says whether that one still counts.
pub(super) const REPLAY_NUMBER: &str = "replay-number";
/// The trace that a command belongs to; its result carries it on.
pub(super) const TRACEPARENT: &str = "traceparent";
/// The id of a dead letter.
pub(super) const DEAD_LETTER_ID: &str = "x-dead-letter-id";
/// Why the command became a dead letter.
pub(super) const REASON: &str = "x-reason";
/// The same for people.
pub(super) const DETAIL: &str = "x-detail";
/// The exchange that the command came from.
pub(super) const ORIGINAL_EXCHANGE: &str = "x-original-exchange";
/// The command's routing key.
pub(super) const ORIGINAL_ROUTING_KEY: &str = "x-original-routing-key";
/// The lane that the command died in.
pub(super) const LANE: &str = "x-lane";
/// With [`DELIVERY_TAG`] the place of a dead letter's command in the queue of its lane.
pub(super) const LANE_EPOCH: &str = "x-lane-epoch";
/// See [`LANE_EPOCH`].
pub(super) const DELIVERY_TAG: &str = "x-delivery-tag";
/// The worker that gave the command up.
pub(super) const WORKER: &str = "x-worker";
/// How often that worker tried it.
pub(super) const ATTEMPTS: &str = "x-attempts";
/// When the command died.
pub(super) const DEAD_LETTERED_AT: &str = "x-dead-lettered-at";
/// How many headers were dropped.
pub(super) const HEADERS_DROPPED: &str = "x-headers-dropped";
/// The command's publisher, as the broker authenticated it.
pub(super) const USER_ID: &str = "x-user-id";
/// How often the broker has delivered a message before.
pub(super) const DELIVERY_COUNT: &str = "x-delivery-count";
/// The broker's record of the deaths of a message, latest first.
pub(super) const DEATH: &str = "x-death";

/// Headers that the worker or the broker adds on a message's way, and those that lead a message to
/// further queues. A replay goes without them.
const NAMES: [&str; 29] = [
    ROUTED_BY[0],
    ROUTED_BY[1],
    UNREADABLE_TIMESTAMP,
    REPLAY_OF,
    REPLAY_NUMBER,
    BODY_LENGTH,
    BODY_HASH,
    DEAD_LETTER_ID,
    REASON,
    DETAIL,
    ORIGINAL_EXCHANGE,
    ORIGINAL_ROUTING_KEY,
    LANE,
    LANE_EPOCH,
    DELIVERY_TAG,
    WORKER,
    ATTEMPTS,
    DEAD_LETTERED_AT,
    HEADERS_DROPPED,
    USER_ID,
    PRIORITY,
    EXPIRATION,
    DELIVERY_COUNT,
    "x-acquired-count",
    DEATH,
    "x-opt-deaths",
    "x-first-death-exchange",
    "x-first-death-queue",
    "x-first-death-reason",
];
const LAST_DEATH: &str = "x-last-death-";

/// A header of one of these names that is larger is a publisher's.
const OWN_BYTES_MAX: usize = 8_192;

/// Whether the worker or the broker adds a header of this name.
pub(super) fn is_own(name: &str) -> bool {
    NAMES.contains(&name) || name.starts_with(LAST_DEATH)
}

/// Whether a header of this name and size is ours, or carries the trace, and so is dropped last.
pub(super) fn is_spared(name: &str, bytes: usize) -> bool {
    (is_own(name) || name == TRACEPARENT) && bytes <= OWN_BYTES_MAX
}

/// Sets a header of ours, or removes it: a publisher's own would be believed.
pub(super) fn replace(
    headers: &mut BTreeMap<String, Value>,
    name: &str,
    value: Option<impl Into<Value>>,
) {
    headers.remove(name);
    headers.extend(value.map(|value| (name.to_owned(), value.into())));
}

/// Drops headers until the others take no more than so many bytes, by this measure, and says how many
/// were dropped.
pub(super) fn keep_within(
    headers: &mut BTreeMap<String, Value>,
    bytes_max: usize,
    bytes: fn(&str, &Value) -> usize,
) -> usize {
    let total: usize = headers.iter().map(|(name, value)| bytes(name, value)).sum();
    if total <= bytes_max {
        return 0;
    }
    let mut left = bytes_max;
    let mut kept: HashSet<String> = HashSet::new();
    for first in [true, false] {
        for (name, value) in headers.iter() {
            let bytes = bytes(name, value);
            if is_spared(name, bytes) == first
                && let Some(rest) = left.checked_sub(bytes)
            {
                left = rest;
                kept.insert(name.clone());
            }
        }
    }
    let before = headers.len();
    headers.retain(|name, _| kept.contains(name));
    before - headers.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publishers_headers_go_before_those_of_ours() {
        let length = |name: &str, value: &Value| name.len() + value.as_str().map_or(0, str::len);
        let filled = |text: &str| (text.to_owned(), Value::from("x".repeat(100)));
        let long = "x".repeat(OWN_BYTES_MAX);
        let mut headers: BTreeMap<String, Value> =
            ["a", "b", "c", "z", REPLAY_OF, TRACEPARENT, "x-user-id", "x-last-death-queue"]
                .map(filled)
                .into();
        headers.insert("x-detail".to_owned(), long.into());
        assert_eq!(keep_within(&mut headers.clone(), 1_000_000, length), 0);
        assert_eq!(keep_within(&mut headers, 600, length), 4);
        let names: Vec<&String> = headers.keys().collect();
        assert_eq!(names, ["a", REPLAY_OF, TRACEPARENT, "x-last-death-queue", "x-user-id"]);
    }
}
