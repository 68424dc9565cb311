//! An AMQP message as plain data: what `broker` moves and `wire` reads and writes.
//!
//! It stands apart so that neither of those modules has to know the other. Deliberately absent:
//! any lapin type, and any meaning of a body.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// The content type of everything that is published.
pub const JSON: &str = "application/json";
/// Largest body of a command (`docs/contract.md#a-command-message`); a larger one is not kept whole.
pub const BODY_BYTES_MAX: usize = 1_048_576;
/// The header with the number of bytes that a body had before it was cut.
pub const BODY_LENGTH: &str = "x-body-length";
/// The header with the SHA-256 of a body before it was cut, hexadecimal.
pub const BODY_HASH: &str = "x-body-sha256";
/// What the only key of an object begins with that stands for a header value of a type which JSON lacks; the
/// type's name follows.
pub const HEADER_TYPE: &str = "amqp:";
/// The header with the priority that a dead letter's command came with. The letter has none itself: a
/// broker would deliver it before others.
pub const PRIORITY: &str = "x-priority";
/// The header with the expiration that a dead letter's command came with. The letter itself does not expire.
pub const EXPIRATION: &str = "x-expiration";
/// The header that keeps a `timestamp` which can't be when its message was sent, as it came.
pub const UNREADABLE_TIMESTAMP: &str = "x-unreadable-timestamp";

/// A message to publish, or one that was delivered.
///
/// In JSON it is the document of a parked command (`wire::parked`), which other releases read and write, too:
/// the names of the fields stay, and a new one has to be optional.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// The exchange it is published to, or came from; empty for the default exchange.
    pub exchange: String,
    /// At most 255 bytes.
    pub routing_key: String,
    /// The basic properties.
    #[serde(flatten)]
    pub properties: Properties,
    /// Any bytes.
    #[serde(skip)]
    pub body: Vec<u8>,
}

/// Headers by name: field tables, arrays and scalars are the JSON values nearest to them.
pub type Headers = BTreeMap<String, serde_json::Value>;

/// The basic properties of AMQP 0-9-1 that this system reads or sets.
///
/// Published messages are always persistent. Per-message expiry is never set, because it breaks the
/// order of a queue; priority only where a lane's commands have one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Properties {
    /// The publisher's id of the message.
    pub message_id: Option<String>,
    /// What the message answers or belongs to.
    pub correlation_id: Option<String>,
    /// The queue that wants an answer.
    pub reply_to: Option<String>,
    /// The property `type`.
    pub kind: Option<String>,
    /// A MIME type.
    pub content_type: Option<String>,
    /// How the body is packed.
    pub content_encoding: Option<String>,
    /// The publishing application.
    pub app_id: Option<String>,
    /// The publisher, as the broker authenticated it. The broker takes the connection's own user alone.
    pub user_id: Option<String>,
    /// On a delivery: as its publisher set it; brokers from 4.0 on deliver by it.
    pub priority: Option<u8>,
    /// On a delivery: after how many milliseconds it would have expired, as its publisher set it. Never
    /// sent on.
    pub expiration: Option<String>,
    /// Whole seconds, as AMQP has it.
    pub timestamp: Option<DateTime<Utc>>,
    /// All headers.
    pub headers: Headers,
}

/// The seconds of the years 2000 to 2099. AMQP has seconds: a publisher that writes milliseconds or zero
/// does not say when it sent a message.
const SENT_SECONDS: std::ops::Range<i64> = 946_684_800..4_102_444_800;

/// When a message was sent, by its `timestamp`; nothing if that can't be.
#[must_use]
pub fn sent_at(timestamp: u64) -> Option<DateTime<Utc>> {
    let seconds = i64::try_from(timestamp).ok().filter(|seconds| SENT_SECONDS.contains(seconds))?;
    DateTime::from_timestamp(seconds, 0)
}
