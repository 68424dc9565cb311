//! What becomes of a command that can't be processed: the event that tells its publisher, and the
//! dead letter that keeps it (contract, "The result event"; architecture, "Dead letters").

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::envelope;
use super::result::json;
use crate::domain::command::Operation;
use crate::domain::rejection::{Reason, Rejection};
use crate::message::{Message, Properties};

/// Longest detail in a dead letter's header, in bytes.
const DETAIL_BYTES_MAX: usize = 1024;

/// Who rejected a command, and when.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    pub lane: &'a str,
    pub worker: &'a str,
    /// How often processing was tried.
    pub attempts: u32,
    pub at: DateTime<Utc>,
}

/// The id of a dead letter, from what was rejected and why: a letter that is published twice,
/// because its command was delivered again before the ack, has the same id both times.
#[must_use]
pub fn dead_letter_id(message: &Message, reason: Reason) -> Uuid {
    let properties = &message.properties;
    let timestamp = properties.timestamp.map(|at| at.timestamp().to_string());
    let replay_of = properties.headers.get("replay-of").map(Value::to_string);
    let parts = [
        Some(message.routing_key.as_bytes()),
        properties.message_id.as_deref().map(str::as_bytes),
        timestamp.as_deref().map(str::as_bytes),
        replay_of.as_deref().map(str::as_bytes),
        Some(reason.as_str().as_bytes()),
        Some(&message.body),
    ];
    let mut hash = Sha256::new();
    for part in parts {
        // With its length before it, no part can pass for the end of another.
        match part {
            Some(part) => {
                hash.update([1]);
                hash.update(part.len().to_be_bytes());
                hash.update(part);
            }
            None => hash.update([0]),
        }
    }
    let digest: [u8; 32] = hash.finalize().into();
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = digest;
    Uuid::new_v8([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
}

/// The event that tells subscribers of a rejected command, to the given exchange.
#[must_use]
pub fn event(exchange: &str, original: &Message, rejection: &Rejection, id: Uuid) -> Message {
    let from = &original.properties;
    let command_id = from.message_id.as_deref().filter(|id| !id.is_empty());
    let correlation_id = from.correlation_id.as_deref().filter(|id| !id.is_empty());
    let body = json(&Rejected {
        command_id,
        reason: rejection.reason.as_str(),
        detail: &rejection.detail,
        dead_letter_id: id.to_string(),
    });
    let traceparent = envelope::traceparent(from).map(Value::from);
    Message {
        exchange: exchange.to_owned(),
        routing_key: format!(
            "{}.{}.rejected",
            envelope::org(&original.routing_key).unwrap_or("unknown"),
            envelope::operation(&original.routing_key).map_or("unknown", Operation::as_str)
        ),
        properties: Properties {
            message_id: Some(format!("{id}.rejected")),
            correlation_id: correlation_id.or(command_id).map(str::to_owned),
            kind: Some("partner-program.rejected.v1".to_owned()),
            content_type: Some("application/json".to_owned()),
            app_id: from.app_id.clone(),
            timestamp: from.timestamp,
            headers: traceparent
                .map(|value| ("traceparent".to_owned(), value))
                .into_iter()
                .collect(),
            ..Properties::default()
        },
        body,
    }
}

/// The dead letter, to the given exchange: the original, and in `x-` headers what became of it.
#[must_use]
pub fn dead_letter(
    exchange: &str,
    original: &Message,
    rejection: &Rejection,
    id: Uuid,
    origin: &Origin<'_>,
) -> Message {
    let mut letter = original.clone();
    exchange.clone_into(&mut letter.exchange);
    let headers = &mut letter.properties.headers;
    // The lane queue's own count; the dead letters' queue starts another.
    headers.remove("x-delivery-count");
    // The broker would refuse another's name in the property, and a publisher may not forge it.
    headers.remove("x-user-id");
    if let Some(user_id) = letter.properties.user_id.take() {
        headers.insert("x-user-id".to_owned(), Value::from(user_id));
    }
    let said = [
        ("x-dead-letter-id", Value::from(id.to_string())),
        ("x-reason", Value::from(rejection.reason.as_str())),
        (
            "x-detail",
            Value::from(cut(&rejection.detail, DETAIL_BYTES_MAX)),
        ),
        (
            "x-original-exchange",
            Value::from(original.exchange.as_str()),
        ),
        (
            "x-original-routing-key",
            Value::from(original.routing_key.as_str()),
        ),
        ("x-lane", Value::from(origin.lane)),
        ("x-worker", Value::from(origin.worker)),
        ("x-attempts", Value::from(origin.attempts)),
        (
            "x-dead-lettered-at",
            Value::from(origin.at.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
        ),
    ];
    headers.extend(said.map(|(name, value)| (name.to_owned(), value)));
    letter
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rejected<'a> {
    command_id: Option<&'a str>,
    reason: &'static str,
    detail: &'a str,
    dead_letter_id: String,
}

/// The text's beginning, of at most so many bytes.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}
