//! What of a message's headers the broker can be given.
//!
//! All properties of a message travel in one frame, whose size both sides agree upon when they connect
//! (the broker's `frame_max`). A message that does not fit ends the connection, and would end the next
//! one, too. So would headers that the broker routes by and can't read. Read and written again, headers
//! can be several times as large as they came. Deliberately absent: any bound on what a publisher sends;
//! the broker has that.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::message::{Message, Properties};
use crate::wire::own_headers::{self, DETAIL, HEADERS_DROPPED, ROUTED_BY};
use crate::wire::rejected::{cut, field_bytes};

/// Least that is left of the detail, which may be long and is for people.
const DETAIL_BYTES_MIN: usize = 64;
/// Frame: type, channel, size and end. Header: class, weight, size of the body and flags. Properties:
/// delivery mode, priority and timestamp; length of the headers.
const FIXED_BYTES: usize = 8 + 14 + 10 + 4;
/// A field that counts what was dropped.
const COUNT_BYTES: usize = 32;

/// Drops the publisher's headers that the broker would refuse, and the largest of the others until the
/// message's properties fit into a frame of `frame_max` bytes. Returns how many were dropped; the header
/// `x-headers-dropped` counts them, too.
pub fn fit(message: &mut Message, frame_max: usize) -> usize {
    let properties = &mut message.properties;
    let before = properties.headers.len();
    properties.headers.retain(|name, value| !is_refused(name, value));
    let mut dropped = before - properties.headers.len();
    let mut bytes = FIXED_BYTES + texts_bytes(properties) + table_bytes(&properties.headers);
    if dropped > 0 || bytes > frame_max {
        bytes += COUNT_BYTES;
    }
    if bytes > frame_max {
        let mut sizes: Vec<(usize, String)> = properties
            .headers
            .iter()
            .map(|(name, value)| (field_bytes(name, value), name.clone()))
            .filter(|(bytes, name)| !own_headers::is_spared(name, *bytes))
            .collect();
        sizes.sort();
        while bytes > frame_max
            && let Some((size, name)) = sizes.pop()
        {
            properties.headers.remove(&name);
            bytes -= size;
            dropped += 1;
        }
        cut_detail(&mut properties.headers, bytes.saturating_sub(frame_max));
    }
    if dropped > 0 {
        let earlier = properties.headers.get(HEADERS_DROPPED).and_then(Value::as_u64);
        let all = earlier.unwrap_or_default().saturating_add(dropped as u64);
        properties.headers.insert(HEADERS_DROPPED.to_owned(), all.into());
    }
    dropped
}

fn is_refused(name: &str, value: &Value) -> bool {
    let is_list_of_texts =
        |value: &Value| value.as_array().is_some_and(|all| all.iter().all(Value::is_string));
    // It closes the channel for them.
    ROUTED_BY.contains(&name) && !is_list_of_texts(value)
}

fn cut_detail(headers: &mut BTreeMap<String, Value>, bytes: usize) {
    if let Some(Value::String(detail)) = headers.get_mut(DETAIL)
        && bytes > 0
    {
        let left = detail.len().saturating_sub(bytes).max(DETAIL_BYTES_MIN);
        *detail = cut(detail, left).to_owned();
    }
}

fn table_bytes(headers: &BTreeMap<String, Value>) -> usize {
    headers.iter().map(|(name, value)| field_bytes(name, value)).sum()
}

/// The properties that are texts, each with its length.
fn texts_bytes(properties: &Properties) -> usize {
    let texts = [
        &properties.message_id,
        &properties.correlation_id,
        &properties.reply_to,
        &properties.kind,
        &properties.content_type,
        &properties.content_encoding,
        &properties.app_id,
        &properties.user_id,
    ];
    texts.into_iter().flatten().map(|text| 1 + text.len()).sum()
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use serde_json::json;

    use super::*;
    use crate::domain::dead_letter::QueuePosition;
    use crate::domain::rejection::{Reason, Rejection};
    use crate::wire::rejected::{Origin, PlaceOfDeath, dead_letter, dead_letter_id};

    fn with(headers: &Value) -> Message {
        let mut message = Message::default();
        message.properties.headers = serde_json::from_value(headers.clone()).unwrap();
        message
    }

    #[test]
    fn what_fits_is_left_as_it_is() {
        let mut message = with(&json!({"a": "x".repeat(1_000), "CC": ["k"], "BCC": []}));
        let before = message.clone();
        assert_eq!(fit(&mut message, 4_096), 0);
        assert_eq!(message, before);
    }

    #[test]
    fn the_largest_go_first_and_are_counted() {
        let mut message = with(&json!({
            "a": "x".repeat(3_000), "b": "x".repeat(3_100), "traceparent": "t", "replay-of": "r",
            "x-headers-dropped": 2,
        }));
        assert_eq!(fit(&mut message, 4_096), 1);
        let names: Vec<_> = message.properties.headers.keys().collect();
        assert_eq!(names, ["a", "replay-of", "traceparent", "x-headers-dropped"]);
        assert_eq!(message.properties.headers["x-headers-dropped"], 3);
    }

    #[test]
    fn what_the_broker_would_route_by_and_can_not_read_goes() {
        for value in [json!("k"), json!(["k", 1]), json!({"k": 1}), json!(null), json!([["k"]])] {
            let mut message = with(&json!({"CC": value, "BCC": value, "cc": value}));
            assert_eq!(fit(&mut message, 131_072), 2, "{value}");
            let names: Vec<_> = message.properties.headers.keys().collect();
            assert_eq!(names, ["cc", "x-headers-dropped"]);
        }
    }

    /// AMQP's least frame, and the longest of everything that a dead letter says.
    #[test]
    fn a_letter_fits_the_least_frame() {
        let long = || Some("x".repeat(255));
        let mut original = with(&json!({"own": "x".repeat(50_000)}));
        original.exchange = "x".repeat(255);
        original.routing_key = "x".repeat(255);
        original.properties = Properties {
            message_id: long(),
            correlation_id: long(),
            reply_to: long(),
            kind: long(),
            content_type: long(),
            content_encoding: long(),
            app_id: long(),
            user_id: long(),
            priority: Some(9),
            timestamp: DateTime::from_timestamp(1, 0),
            ..original.properties
        };
        let rejection = Rejection::new(Reason::UnsupportedContent, "x".repeat(5_000));
        let at = DateTime::from_timestamp(1_700_000_000, 123_456_789).unwrap();
        let (lane, worker) = (&"x".repeat(40), &"x".repeat(100));
        let origin = Origin {
            lane,
            worker,
            attempts: 50,
            at,
            position: QueuePosition::new(i64::MAX, i64::MAX),
            worker_user: None,
        };
        let place = PlaceOfDeath { lane, position: origin.position };
        let id = dead_letter_id(&original, rejection.reason, place);
        let mut letter = dead_letter("dead", &original, &rejection, id, &origin);
        fit(&mut letter, 4_096);
        let properties = &letter.properties;
        let bytes = FIXED_BYTES + texts_bytes(properties) + table_bytes(&properties.headers);
        assert!(bytes <= 4_096, "{bytes}");
        assert_eq!(properties.headers["x-dead-letter-id"], id.to_string());
        assert_eq!(properties.headers["x-priority"], 9);
    }
}
