//! A dead letter as it lies in its queue, read for the archive.
//!
//! Anything may lie there: letters of the worker, messages that the broker gave up by itself, and
//! messages that were published by hand. Headers are believed only where the letter's id, which
//! follows from its content, bears them out; nothing is refused.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::domain::command::Operation;
use crate::domain::dead_letter::{DeadLetter, QueuePosition};
use crate::domain::rejection::Reason;
use crate::message::{BODY_BYTES_MAX, EXPIRATION, HEADER_TYPE, Headers, Message, PRIORITY};
use crate::wire::customer_keys;
use crate::wire::cut_body;
use crate::wire::envelope;
use crate::wire::own_headers::{
    self, ATTEMPTS, DEAD_LETTER_ID, DEAD_LETTERED_AT, DEATH, DELIVERY_TAG, DETAIL, LANE,
    LANE_EPOCH, ORIGINAL_EXCHANGE, ORIGINAL_ROUTING_KEY, REASON, USER_ID,
};
use crate::wire::rejected::{DETAIL_BYTES_MAX, PlaceOfDeath, content_id, cut, dead_letter_id};
use crate::wire::replay;

/// Longest word that is taken over from a header.
const WORD_BYTES_MAX: usize = 64;
/// How far ahead of this machine's clock a death may be.
const CLOCK_TOLERANCE: TimeDelta = TimeDelta::hours(1);

/// How a dead letter came to be read.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// Lanes' queues begin with it.
    pub lane_prefix: &'a str,
    /// Stands for a time of death that is unknown or impossible.
    pub now: DateTime<Utc>,
    /// Tells apart dead letters without any id that are equal otherwise.
    pub delivery: Uuid,
    /// The user that workers publish dead letters as. Only these say who published a command; without a
    /// name, all that look like a worker's do.
    pub worker_user: Option<&'a str>,
}

/// How a dead letter came to be one.
struct Death {
    id: Uuid,
    lane: Option<String>,
    reason: String,
    detail: String,
    attempts: i32,
    died_at: Option<DateTime<Utc>>,
    position: Option<QueuePosition>,
    exchange: String,
    routing_key: String,
    /// The publisher, as the broker authenticated it.
    user_id: Option<String>,
}

/// Reads a dead letter. What the broker gave up by itself may have a body of any size: it is cut as one of a
/// command.
#[must_use]
pub fn read(mut message: Message, reading: Reading<'_>) -> DeadLetter {
    let now = reading.now;
    let death = match by_worker(&message, reading) {
        // Its headers say what a worker has cut.
        Some(death) if is_cut(&message) => death,
        by_worker => {
            let death = by_worker
                .or_else(|| by_broker(&message, reading))
                .unwrap_or_else(|| by_nobody(&message, reading));
            cut_body::cut(&mut message);
            death
        }
    };
    let replay_of = replay::dead_letter_id(&message);
    let replay_number = replay::read(&message).map(|replay| replay.number);
    message.properties.user_id = death.user_id;
    if message.properties.priority.is_none() {
        let said = message.properties.headers.get(PRIORITY).and_then(Value::as_u64);
        message.properties.priority = said.and_then(|priority| u8::try_from(priority).ok());
    }
    if message.properties.expiration.is_none() {
        message.properties.expiration = header(&message, EXPIRATION).map(str::to_owned);
    }
    let headers = std::mem::take(&mut message.properties.headers);
    let (provenance, headers): (Headers, Headers) =
        headers.into_iter().partition(|(name, _)| own_headers::is_own(name));
    message.properties.headers = headers;
    message.exchange = death.exchange;
    message.routing_key = death.routing_key;
    let operation = envelope::operation(&message.routing_key);
    DeadLetter {
        id: death.id,
        org: envelope::org(&message.routing_key).map(str::to_owned),
        operation,
        lane: death.lane,
        fingerprint: fingerprint(operation, &death.reason, &death.detail),
        pointer: pointer(&death.detail),
        reason: death.reason,
        detail: death.detail,
        attempts: death.attempts,
        died_at: death.died_at.filter(|at| can_be(*at, now)).unwrap_or(now),
        position: death.position,
        replay_of,
        replay_number,
        customer_keys: customer_keys::of_body(&message.body),
        provenance,
        message,
    }
}

fn is_cut(message: &Message) -> bool {
    message.body.len() <= BODY_BYTES_MAX && cut_body::whole_length(message).is_some()
}

/// Whether a death may have been then. Times that can't be are kept among the headers, as said.
fn can_be(at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    DateTime::UNIX_EPOCH <= at && at <= now + CLOCK_TOLERANCE
}

/// A dead letter that a worker wrote: its id must be that of its content.
fn by_worker(message: &Message, reading: Reading<'_>) -> Option<Death> {
    let claimed = Uuid::parse_str(header(message, DEAD_LETTER_ID)?).ok()?;
    let reason = Reason::parse(header(message, REASON)?)?;
    let routing_key = header(message, ORIGINAL_ROUTING_KEY)?;
    let original = Message { routing_key: routing_key.to_owned(), ..message.clone() };
    let lane = header(message, LANE);
    let place = PlaceOfDeath { lane: lane.unwrap_or_default(), position: position(message) };
    let id = dead_letter_id(&original, reason, place);
    if id != claimed {
        return None;
    }
    let writer = message.properties.user_id.as_deref();
    let is_workers = reading.worker_user.is_none_or(|user| writer == Some(user));
    let user_id = if is_workers { header(message, USER_ID) } else { None };
    let attempts = message.properties.headers.get(ATTEMPTS).and_then(Value::as_i64);
    let died_at =
        header(message, DEAD_LETTERED_AT).and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    Some(Death {
        id,
        lane: lane.map(|lane| cut(lane, WORD_BYTES_MAX).to_owned()),
        reason: reason.as_str().to_owned(),
        detail: cut(header(message, DETAIL).unwrap_or_default(), DETAIL_BYTES_MAX).to_owned(),
        attempts: attempts.and_then(|count| i32::try_from(count).ok()).unwrap_or(1),
        died_at: died_at.map(|at| at.to_utc()),
        position: position(message),
        exchange: header(message, ORIGINAL_EXCHANGE).unwrap_or_default().to_owned(),
        routing_key: original.routing_key,
        user_id: user_id.map(str::to_owned),
    })
}

/// A message that the broker gave up: its latest death is the first in `x-death`.
fn by_broker(message: &Message, reading: Reading<'_>) -> Option<Death> {
    let death = message.properties.headers.get(DEATH)?.get(0)?;
    let text = |name: &str| death.get(name).and_then(Value::as_str);
    let reason = cut(text("reason")?, WORD_BYTES_MAX).replace('_', "-");
    let queue = cut(text("queue")?, DETAIL_BYTES_MAX / 2);
    let count = death.get("count").and_then(Value::as_i64).unwrap_or(1);
    let routing_key = death.get("routing-keys").and_then(|keys| keys.get(0)?.as_str());
    let routing_key = routing_key.unwrap_or(&message.routing_key).to_owned();
    let original = Message { routing_key, ..message.clone() };
    let seconds = death.get("time").and_then(seconds);
    Some(Death {
        id: unwritten_id(&original, &reason, reading),
        lane: queue
            .strip_prefix(reading.lane_prefix)
            .map(|lane| cut(lane, WORD_BYTES_MAX).to_owned()),
        // Without the queue, which may be made up: such dead letters are one group.
        detail: format!("the broker gave it up: {reason}"),
        reason,
        attempts: i32::try_from(count).unwrap_or(1),
        died_at: seconds.and_then(|seconds| DateTime::from_timestamp(seconds, 0)),
        position: None,
        exchange: text("exchange").unwrap_or_default().to_owned(),
        routing_key: original.routing_key,
        user_id: message.properties.user_id.clone(),
    })
}

/// The id of a dead letter that no worker has written. One without a message id is a letter of its own each
/// time that it is read: a crash between its archiving and the ack gives two.
fn unwritten_id(original: &Message, reason: &str, reading: Reading<'_>) -> Uuid {
    let id = original.properties.message_id.as_deref().unwrap_or_default();
    let delivery = id.is_empty().then(|| reading.delivery.to_string());
    content_id(original, reason, delivery.as_deref())
}

fn by_nobody(message: &Message, reading: Reading<'_>) -> Death {
    Death {
        id: unwritten_id(message, "unknown", reading),
        lane: None,
        reason: "unknown".to_owned(),
        detail: "neither a worker nor the broker says how it got among the dead letters".to_owned(),
        attempts: 1,
        died_at: None,
        position: None,
        exchange: message.exchange.clone(),
        routing_key: message.routing_key.clone(),
        user_id: message.properties.user_id.clone(),
    }
}

/// A time of the broker, in seconds: a number, or AMQP's own type, whose value is a text.
fn seconds(time: &Value) -> Option<i64> {
    let tagged = || time.get(format!("{HEADER_TYPE}timestamp"))?.as_str()?.parse().ok();
    time.as_i64().or_else(tagged)
}

fn position(message: &Message) -> Option<QueuePosition> {
    let number = |name: &str| message.properties.headers.get(name).and_then(Value::as_i64);
    QueuePosition::new(number(LANE_EPOCH)?, number(DELIVERY_TAG)?)
}

fn header<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    message.properties.headers.get(name)?.as_str()
}

/// The JSON pointer that a detail begins with.
fn pointer(detail: &str) -> Option<String> {
    let (pointer, _) = detail.split_once(": ")?;
    (pointer.starts_with('/') && !pointer.contains(' ')).then(|| pointer.to_owned())
}

/// Of operation, reason and the detail without its numbers, as `dead_letter_normalised` has it.
fn fingerprint(operation: Option<Operation>, reason: &str, detail: &str) -> String {
    let mut normalised = String::with_capacity(detail.len());
    for c in detail.chars().flat_map(char::to_lowercase) {
        if !c.is_ascii_digit() {
            normalised.push(c);
        } else if !normalised.ends_with('#') {
            normalised.push('#');
        }
    }
    let operation = operation.map_or("unknown", Operation::as_str);
    let digest: [u8; 32] = Sha256::digest(format!("{operation}\n{reason}\n{normalised}")).into();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    format!("{:016x}", u64::from_be_bytes(first))
}

#[cfg(test)]
mod tests;
