//! What becomes of a command that can't be processed: the event that tells its publisher, and the
//! dead letter that keeps it (`docs/contract.md#the-result-event`; `src/ARCHITECTURE.md#dead-letters-for-operators`).

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::domain::command::Operation;
use crate::domain::dead_letter::QueuePosition;
use crate::domain::rejection::{Reason, Rejection};
use crate::message::{EXPIRATION, JSON, Message, PRIORITY, Properties};
use crate::wire::cut_body;
use crate::wire::envelope;
use crate::wire::own_headers::{
    self, ATTEMPTS, DEAD_LETTER_ID, DEAD_LETTERED_AT, DELIVERY_COUNT, DELIVERY_TAG, DETAIL,
    HEADERS_DROPPED, LANE, LANE_EPOCH, ORIGINAL_EXCHANGE, ORIGINAL_ROUTING_KEY, REASON, REPLAY_OF,
    TRACEPARENT, USER_ID, WORKER,
};
use crate::wire::result::json;

/// Longest detail that is said, in bytes.
pub(super) const DETAIL_BYTES_MAX: usize = 1024;
/// Most that a dead letter keeps of its publisher's headers, in bytes on the wire. All properties
/// of a message must fit into one frame, 128 KiB by default, and read and written again they can
/// be larger than they came: a letter that fits no frame would close the connection each time.
const HEADERS_BYTES_MAX: usize = 32_768;

/// Who rejected a command, and when.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The lane that it came through.
    pub lane: &'a str,
    /// The worker's id.
    pub worker: &'a str,
    /// The command's position in the lane's queue; nothing if that was not noted.
    pub position: Option<QueuePosition>,
    /// How often processing was tried.
    pub attempts: u32,
    /// When it was rejected.
    pub at: DateTime<Utc>,
    /// The user that it publishes dead letters as, where that is looked at.
    pub worker_user: Option<&'a str>,
}

/// Where a command died, as far as that is noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaceOfDeath<'a> {
    /// The lane.
    pub lane: &'a str,
    /// The command's position in the lane's queue.
    pub position: Option<QueuePosition>,
}

/// The id of a dead letter, from what was rejected and why: a letter that is published twice,
/// because its command was delivered again before the ack, has the same id both times. Of commands without
/// an id each death is a letter of its own, since equal ones are not told apart by anything else: if a
/// worker dies between letter and ack, the same command gets two.
#[must_use]
pub fn dead_letter_id(message: &Message, reason: Reason, place: PlaceOfDeath<'_>) -> Uuid {
    let id = message.properties.message_id.as_deref().unwrap_or_default();
    let death = place.position.filter(|_| id.is_empty()).map(|position| {
        let QueuePosition { lane_epoch, delivery_tag } = position;
        format!("{} {lane_epoch} {delivery_tag}", place.lane)
    });
    content_id(message, reason.as_str(), death.as_deref())
}

/// What the attempts of a delivery are counted under, however often it is delivered.
#[must_use]
pub fn attempt_id(message: &Message) -> Uuid {
    content_id(message, Reason::ProcessingFailed.as_str(), None)
}

/// The id of a dead letter with the reasons of others; `death` tells apart what is equal otherwise.
pub(super) fn content_id(message: &Message, reason: &str, death: Option<&str>) -> Uuid {
    // Of a body that was cut, the hash tells what the whole was.
    let body_hash =
        cut_body::whole_hash(message).unwrap_or_else(|| Sha256::digest(&message.body).into());
    let properties = &message.properties;
    let timestamp = properties.timestamp.map(|at| at.timestamp().to_string());
    let replay_of = properties.headers.get(REPLAY_OF).map(Value::to_string);
    let parts = [
        Some(message.routing_key.as_bytes()),
        properties.message_id.as_deref().map(str::as_bytes),
        timestamp.as_deref().map(str::as_bytes),
        replay_of.as_deref().map(str::as_bytes),
        Some(reason.as_bytes()),
        Some(body_hash.as_slice()),
    ];
    // Only then: dead letters of before have ids without it.
    let parts = parts.into_iter().chain(death.map(|death| Some(death.as_bytes())));
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
    let (first, _) = digest.split_at(16);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(first);
    Uuid::new_v8(bytes)
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
        // As its dead letter has it, so that the archive can say it again.
        detail: cut(&rejection.detail, DETAIL_BYTES_MAX),
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
            content_type: Some(JSON.to_owned()),
            app_id: from.app_id.clone(),
            timestamp: from.timestamp,
            headers: traceparent.map(|value| (TRACEPARENT.to_owned(), value)).into_iter().collect(),
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
    let of_cut_body = cut_body::take(headers);
    let dropped = own_headers::keep_within(headers, HEADERS_BYTES_MAX, field_bytes);
    if dropped > 0 {
        headers.insert(HEADERS_DROPPED.to_owned(), Value::from(dropped));
    }
    headers.extend(of_cut_body);
    // The lane queue's own count; the dead letters' queue starts another.
    headers.remove(DELIVERY_COUNT);
    // The broker would refuse another's name in the property.
    own_headers::replace(headers, USER_ID, letter.properties.user_id.take());
    // It proves that a worker wrote the dead letter: the broker takes no other user's name.
    letter.properties.user_id = origin.worker_user.map(str::to_owned);
    own_headers::replace(headers, PRIORITY, letter.properties.priority.take());
    own_headers::replace(headers, EXPIRATION, letter.properties.expiration.take());
    own_headers::replace(headers, LANE_EPOCH, origin.position.map(|position| position.lane_epoch));
    let delivery_tag = origin.position.map(|position| position.delivery_tag);
    own_headers::replace(headers, DELIVERY_TAG, delivery_tag);
    let said = [
        (DEAD_LETTER_ID, Value::from(id.to_string())),
        (REASON, Value::from(rejection.reason.as_str())),
        (DETAIL, Value::from(cut(&rejection.detail, DETAIL_BYTES_MAX))),
        (ORIGINAL_EXCHANGE, Value::from(original.exchange.as_str())),
        (ORIGINAL_ROUTING_KEY, Value::from(original.routing_key.as_str())),
        (LANE, Value::from(origin.lane)),
        (WORKER, Value::from(origin.worker)),
        (ATTEMPTS, Value::from(origin.attempts)),
        (DEAD_LETTERED_AT, Value::from(origin.at.to_rfc3339_opts(SecondsFormat::AutoSi, true))),
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

/// How many bytes a field takes in a table, at most.
pub(super) fn field_bytes(name: &str, value: &Value) -> usize {
    1 + name.len() + value_bytes(value)
}

fn value_bytes(value: &Value) -> usize {
    const TYPE: usize = 1;
    const LENGTH: usize = 4;
    match value {
        Value::Null => TYPE,
        Value::Bool(_) => TYPE + 1,
        Value::Number(_) => TYPE + 8,
        Value::String(text) => TYPE + LENGTH + text.len(),
        Value::Array(values) => TYPE + LENGTH + values.iter().map(value_bytes).sum::<usize>(),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| field_bytes(name, value));
            TYPE + LENGTH + fields.sum::<usize>()
        }
    }
}

/// The text's beginning, of at most so many bytes.
pub(super) fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOWHERE: PlaceOfDeath<'_> = PlaceOfDeath { lane: "main", position: None };

    fn original() -> Message {
        let headers = [("x-user-id", "forged"), ("x-delivery-count", "3"), ("own", "kept")];
        Message {
            exchange: "commands".to_owned(),
            routing_key: "acme.link".to_owned(),
            properties: Properties {
                message_id: Some("c-1".to_owned()),
                headers: headers.map(|(name, value)| (name.to_owned(), value.into())).into(),
                ..Properties::default()
            },
            body: b"nonsense".to_vec(),
        }
    }

    fn letter(original: &Message, detail: &str) -> Message {
        let rejection = Rejection::new(Reason::NotJson, detail);
        let at = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let position = QueuePosition::new(3, 41);
        let origin =
            Origin { lane: "main", worker: "w-1", position, attempts: 2, at, worker_user: None };
        dead_letter("dead", original, &rejection, Uuid::nil(), &origin)
    }

    #[test]
    fn subscribers_are_told_of_a_rejection() {
        let rejection = Rejection::new(Reason::NotJson, "line 1, column 2");
        let event = event("results", &original(), &rejection, Uuid::nil());
        assert_eq!(
            String::from_utf8(event.body).unwrap(),
            r#"{"commandId":"c-1","reason":"not-json","detail":"line 1, column 2","deadLetterId":"00000000-0000-0000-0000-000000000000"}"#
        );
        assert_eq!(event.routing_key, "acme.link.rejected");
        assert_eq!(event.properties.kind.as_deref(), Some("partner-program.rejected.v1"));
        assert_eq!(event.properties.correlation_id.as_deref(), Some("c-1"));
    }

    #[test]
    fn a_rejections_routing_key_names_what_is_known() {
        for (key, expected) in [
            ("", "unknown.unknown.rejected"),
            ("acme", "acme.unknown.rejected"),
            ("acme.nonsense", "acme.unknown.rejected"),
            (".update", "unknown.update.rejected"),
            ("acme.delink.7.8", "acme.delink.rejected"),
        ] {
            let message = Message { routing_key: key.to_owned(), ..Message::default() };
            let rejection = Rejection::new(Reason::RoutingKey, "");
            let event = event("results", &message, &rejection, Uuid::nil());
            assert_eq!(event.routing_key, expected, "{key:?}");
            assert!(event.body.starts_with(br#"{"commandId":null,"#));
        }
    }

    #[test]
    fn a_dead_letter_keeps_the_original_and_says_what_became_of_it() {
        let mut original = original();
        let letter = letter(&original, "line 1");
        assert_eq!((&letter.body, &letter.routing_key), (&original.body, &original.routing_key));
        assert_eq!(letter.properties.message_id, original.properties.message_id);
        assert_eq!(
            serde_json::to_string(&letter.properties.headers).unwrap(),
            concat!(
                r#"{"own":"kept","x-attempts":2,"x-dead-letter-id":"00000000-0000-0000-0000-000000000000","#,
                r#""x-dead-lettered-at":"2023-11-14T22:13:20Z","x-delivery-tag":41,"x-detail":"line 1","#,
                r#""x-lane":"main","x-lane-epoch":3,"x-original-exchange":"commands","x-original-routing-key":"acme.link","#,
                r#""x-reason":"not-json","x-worker":"w-1"}"#,
            )
        );
        original.properties.user_id = Some("upstream".to_owned());
        let letter = super::tests::letter(&original, "line 1");
        assert_eq!(letter.properties.user_id, None);
        assert_eq!(letter.properties.headers["x-user-id"], "upstream");
    }

    #[test]
    fn a_long_detail_is_cut_between_characters() {
        let letter = letter(&original(), &format!("a{}", "é".repeat(1000)));
        assert_eq!(letter.properties.headers["x-detail"].as_str().unwrap().len(), 1023);
    }

    #[test]
    fn headers_that_fit_no_frame_are_dropped_and_counted() {
        let mut original = original();
        let numbers = vec![Value::from(1); HEADERS_BYTES_MAX / 9];
        let headers = &mut original.properties.headers;
        headers.insert("many".to_owned(), Value::from(numbers));
        headers.insert("long".to_owned(), Value::from("x".repeat(HEADERS_BYTES_MAX)));
        headers.insert("table".to_owned(), serde_json::json!({"x".repeat(HEADERS_BYTES_MAX): 1}));
        let letter = letter(&original, "line 1");
        let kept: Vec<_> =
            letter.properties.headers.keys().filter(|name| !name.starts_with("x-")).collect();
        assert_eq!(kept, ["own"]);
        assert_eq!(letter.properties.headers["x-headers-dropped"], 3);
    }

    #[test]
    fn a_letters_id_depends_on_what_was_rejected_and_why() {
        let message = original();
        let id = dead_letter_id(&message, Reason::NotJson, NOWHERE);
        assert_eq!(id, dead_letter_id(&message.clone(), Reason::NotJson, NOWHERE));
        assert_eq!(id.get_version_num(), 8);
        assert_ne!(id, dead_letter_id(&message, Reason::NotUtf8, NOWHERE));
        let changes: [fn(&mut Message); 5] = [
            |m| m.routing_key.push('x'),
            |m| m.properties.message_id = None,
            |m| m.properties.timestamp = DateTime::from_timestamp(1, 0),
            |m| m.body.push(b'x'),
            |m| {
                m.properties.headers.extend([("replay-of".to_owned(), "x".into())]);
            },
        ];
        for change in changes {
            let mut other = message.clone();
            change(&mut other);
            assert_ne!(id, dead_letter_id(&other, Reason::NotJson, NOWHERE));
        }
    }
}
