//! Basic properties and field tables as plain data, and back.

use std::collections::BTreeMap;

use lapin::BasicProperties;
use lapin::types::ShortString;
use serde_json::Value;

use crate::broker::header_values::{json, table};
use crate::message::{Message, Properties, UNREADABLE_TIMESTAMP, sent_at};

/// AMQP's delivery mode of a message that survives a restart.
const PERSISTENT: u8 = 2;

type SetText = fn(BasicProperties, ShortString) -> BasicProperties;

/// A delivery as plain data.
pub(super) fn message(
    exchange: &str,
    routing_key: &str,
    properties: &BasicProperties,
    body: Vec<u8>,
) -> Message {
    let text = |text: &Option<ShortString>| text.as_ref().map(ToString::to_string);
    let headers = properties.headers().as_ref().map(|table| {
        table.inner().iter().map(|(key, value)| (key.to_string(), json(value))).collect()
    });
    let mut headers: BTreeMap<String, Value> = headers.unwrap_or_default();
    let timestamp = properties.timestamp().and_then(sent_at);
    if let (Some(seconds), None) = (properties.timestamp(), timestamp) {
        headers.insert(UNREADABLE_TIMESTAMP.to_owned(), Value::from(*seconds));
    }
    Message {
        exchange: exchange.to_owned(),
        routing_key: routing_key.to_owned(),
        properties: Properties {
            message_id: text(properties.message_id()),
            correlation_id: text(properties.correlation_id()),
            reply_to: text(properties.reply_to()),
            kind: text(properties.kind()),
            content_type: text(properties.content_type()),
            content_encoding: text(properties.content_encoding()),
            app_id: text(properties.app_id()),
            user_id: text(properties.user_id()),
            priority: *properties.priority(),
            expiration: text(properties.expiration()),
            timestamp,
            headers,
        },
        body,
    }
}

/// The properties to publish with; without an expiration, as a message that expires leaves its place in the
/// queue. The broker refuses any `user_id` but the connection's own.
pub(super) fn of(properties: &Properties) -> BasicProperties {
    let texts: [(&Option<String>, SetText); 8] = [
        (&properties.message_id, BasicProperties::with_message_id),
        (&properties.correlation_id, BasicProperties::with_correlation_id),
        (&properties.reply_to, BasicProperties::with_reply_to),
        (&properties.kind, BasicProperties::with_type),
        (&properties.content_type, BasicProperties::with_content_type),
        (&properties.content_encoding, BasicProperties::with_content_encoding),
        (&properties.app_id, BasicProperties::with_app_id),
        (&properties.user_id, BasicProperties::with_user_id),
    ];
    let mut out = BasicProperties::default().with_delivery_mode(PERSISTENT);
    for (text, with) in texts {
        if let Some(text) = text {
            out = with(out, text.as_str().into());
        }
    }
    if let Some(priority) = properties.priority {
        out = out.with_priority(priority);
    }
    let as_it_came = properties.headers.get(UNREADABLE_TIMESTAMP).and_then(Value::as_u64);
    let timestamp = properties.timestamp.and_then(|at| u64::try_from(at.timestamp()).ok());
    if let Some(seconds) = timestamp.or(as_it_came) {
        out = out.with_timestamp(seconds);
    }
    let table = table(properties.headers.iter().filter(|(name, _)| *name != UNREADABLE_TIMESTAMP));
    if !table.inner().is_empty() {
        out = out.with_headers(table);
    }
    out
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use lapin::types::AMQPValue;
    use lapin::types::parsing::{parse_short_string, parse_value};

    use super::*;

    #[test]
    fn what_is_published_reads_back_the_same() {
        let sent = Properties {
            message_id: Some("m".into()),
            correlation_id: Some("c".into()),
            reply_to: Some("r".into()),
            kind: Some("k".into()),
            content_type: Some("application/json".into()),
            content_encoding: Some("identity".into()),
            app_id: Some("a".into()),
            user_id: None,
            priority: Some(9),
            expiration: None,
            timestamp: DateTime::from_timestamp(1_700_000_000, 0),
            headers: [
                ("n".to_owned(), Value::from(3)),
                ("t".to_owned(), serde_json::json!({"a": [true, null, "x", 1.5]})),
            ]
            .into(),
        };
        assert_eq!(message("e", "k", &of(&sent), vec![]).properties, sent);
    }

    #[test]
    fn a_timestamp_that_is_no_time_is_kept_among_the_headers() {
        for (seconds, is_time) in [
            (0, false),
            (946_684_799, false),
            (946_684_800, true),
            (4_102_444_799, true),
            (4_102_444_800, false),
            // Milliseconds.
            (1_790_000_000_000, false),
            (u64::MAX, false),
        ] {
            let properties = BasicProperties::default().with_timestamp(seconds);
            let read = message("e", "k", &properties, vec![]).properties;
            assert_eq!(read.timestamp.is_some(), is_time, "{seconds}");
            let kept = read.headers.get(UNREADABLE_TIMESTAMP).and_then(Value::as_u64);
            assert_eq!(kept, (!is_time).then_some(seconds));
            assert_eq!(*of(&read).timestamp(), Some(seconds), "it goes back as it came");
        }
    }

    #[test]
    fn a_deeply_nested_table_is_cut() {
        let mut value = AMQPValue::Void;
        for _ in 0..1000 {
            value = AMQPValue::FieldArray(vec![value].into());
        }
        assert_eq!(json(&value).to_string(), "[[[[[[[[null]]]]]]]]");
    }

    /// Upstream fails at the first and never returns from the second: see `vendor/README.md`.
    #[test]
    fn what_is_not_utf8_and_what_nests_without_end_is_read_harmlessly() {
        let (_, text) = parse_short_string(&b"\x05a\xff\xc3\xa9\xc3"[..]).unwrap();
        assert_eq!(text.as_str(), "a\u{1a}é\u{1a}");
        let mut value = b"V".to_vec();
        for _ in 0..100_000 {
            let bytes = u32::try_from(value.len()).unwrap().to_be_bytes();
            // Built from the inside, so in reverse.
            value.extend(bytes.iter().rev().chain(b"A"));
        }
        value.reverse();
        let (rest, value) = parse_value(&value[..]).unwrap();
        assert!(rest.is_empty());
        assert_eq!(json(&value).to_string(), "[[[[[[[[null]]]]]]]]");
    }
}
