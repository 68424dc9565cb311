//! What is on the outside of a command: routing key and properties (`docs/contract.md#a-command-message`).

use chrono::{DateTime, Utc};

use crate::domain::command::Operation;
use crate::domain::rejection::{Reason, Rejection};
use crate::message::{JSON, Message, Properties};
use crate::wire::own_headers;

/// Longest org code, in bytes. A routing key has at most 255 bytes, and that of a result must
/// have room for the org, the operation and the verdict.
pub const ORG_CODE_BYTES_MAX: usize = 128;

/// A command message without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The first word of the routing key.
    pub org_code: String,
    /// The second word of the routing key.
    pub operation: Operation,
    /// The idempotency key; `None` if it is absent or empty.
    pub message_id: Option<String>,
    /// Echoed in the result.
    pub correlation_id: Option<String>,
    /// The queue that gets a copy of the result.
    pub reply_to: Option<String>,
    /// Passed on to the result.
    pub app_id: Option<String>,
    /// The publisher, as the broker authenticated it.
    pub user_id: Option<String>,
    /// When it was sent, as its publisher says.
    pub sent_at: Option<DateTime<Utc>>,
    /// Only when it is a valid W3C trace context.
    pub traceparent: Option<String>,
}

impl Envelope {
    /// Reads routing key and properties; the body is for [`decode`](crate::wire::decode::decode).
    pub fn parse(message: &Message) -> Result<Self, Rejection> {
        let (org_code, operation) = address(&message.routing_key).ok_or_else(|| {
            let detail = "expected {org}.{link|update|delink}, perhaps with a third word as bucket";
            Rejection::new(Reason::RoutingKey, detail)
        })?;
        let properties = &message.properties;
        check_content(properties)?;
        Ok(Self {
            org_code: org_code.to_owned(),
            operation,
            message_id: clean("message_id", properties.message_id.as_deref())?,
            correlation_id: clean("correlation_id", properties.correlation_id.as_deref())?,
            reply_to: clean("reply_to", properties.reply_to.as_deref())?,
            app_id: clean("app_id", properties.app_id.as_deref())?,
            user_id: clean("user_id", properties.user_id.as_deref())?,
            sent_at: properties.timestamp,
            traceparent: traceparent(properties).map(str::to_owned),
        })
    }
}

/// The org and the operation of a command's routing key.
fn address(routing_key: &str) -> Option<(&str, Operation)> {
    let mut words = routing_key.split('.');
    let org_code = org(routing_key)?;
    let operation = words.nth(1).and_then(Operation::parse)?;
    let bucket = words.next();
    (bucket != Some("") && words.next().is_none()).then_some((org_code, operation))
}

/// The org of a routing key that may be wrong otherwise.
pub(crate) fn org(routing_key: &str) -> Option<&str> {
    let word = routing_key.split('.').next()?;
    let usable =
        !word.is_empty() && word.len() <= ORG_CODE_BYTES_MAX && !word.contains(char::is_control);
    usable.then_some(word)
}

/// The operation of a routing key that may be wrong otherwise.
pub(super) fn operation(routing_key: &str) -> Option<Operation> {
    routing_key.split('.').nth(1).and_then(Operation::parse)
}

/// The header `traceparent`, when it is a valid W3C trace context.
pub(super) fn traceparent(properties: &Properties) -> Option<&str> {
    let text = properties.headers.get(own_headers::TRACEPARENT)?.as_str()?;
    let parts: Vec<&str> = text.split('-').collect();
    let [version, trace, parent, flags] = parts.as_slice() else {
        return None;
    };
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let id = |part: &str, length: usize| hex(part, length) && part.bytes().any(|b| b != b'0');
    (hex(version, 2) && *version != "ff" && id(trace, 32) && id(parent, 16) && hex(flags, 2))
        .then_some(text)
}

/// A property's text; empty means absent.
fn clean(name: &str, text: Option<&str>) -> Result<Option<String>, Rejection> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    if text.contains(char::is_control) {
        let detail = format!("{name} holds a control character");
        return Err(Rejection::new(Reason::InvalidText, detail));
    }
    Ok(Some(text.to_owned()))
}

fn check_content(properties: &Properties) -> Result<(), Rejection> {
    let encoding = properties.content_encoding.as_deref().unwrap_or_default().trim();
    if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity") {
        let detail = "content_encoding: only identity is taken";
        return Err(Rejection::new(Reason::UnsupportedContent, detail));
    }
    let content_type = properties.content_type.as_deref().unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let json =
        essence == JSON || (essence.starts_with("application/") && essence.ends_with("+json"));
    if !content_type.is_empty() && !json {
        let detail = "content_type: only application/json is taken";
        return Err(Rejection::new(Reason::UnsupportedContent, detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(routing_key: &str) -> Message {
        Message { routing_key: routing_key.to_owned(), ..Message::default() }
    }

    fn reason(message: &Message) -> Option<Reason> {
        Envelope::parse(message).err().map(|rejection| rejection.reason)
    }

    #[test]
    fn the_routing_key_gives_org_and_operation() {
        for key in ["acme.link", "acme.link.7", "acme.link.a-b"] {
            let envelope = Envelope::parse(&message(key)).unwrap();
            assert_eq!((envelope.org_code.as_str(), envelope.operation), ("acme", Operation::Link));
        }
        let long = format!("{}.link", "a".repeat(ORG_CODE_BYTES_MAX + 1));
        for key in [
            "",
            "acme",
            "acme.",
            ".link",
            "acme.Link",
            "acme.link.",
            "acme.link.7.8",
            "a\0.link",
            &long,
        ] {
            assert_eq!(reason(&message(key)), Some(Reason::RoutingKey), "{key:?}");
        }
    }

    #[test]
    fn empty_properties_are_absent_and_control_characters_are_refused() {
        let mut given = message("acme.link");
        given.properties.message_id = Some(String::new());
        assert_eq!(Envelope::parse(&given).unwrap().message_id, None);
        given.properties.message_id = Some("a b".to_owned());
        assert_eq!(Envelope::parse(&given).unwrap().message_id.as_deref(), Some("a b"));
        for text in ["a\0", "a\nb", "\u{85}"] {
            given.properties.message_id = Some(text.to_owned());
            assert_eq!(reason(&given), Some(Reason::InvalidText), "{text:?}");
        }
    }

    #[test]
    fn only_plain_json_is_taken() {
        for (content_type, encoding, taken) in [
            ("", "", true),
            ("application/json", "identity", true),
            ("Application/JSON; charset=utf-8", "IDENTITY", true),
            ("application/vnd.acme+json", "", true),
            ("application/jsonp", "", false),
            ("text/plain", "", false),
            ("; charset=utf-8", "", false),
            ("application/json", "gzip", false),
        ] {
            let mut given = message("acme.link");
            given.properties.content_type = Some(content_type.to_owned());
            given.properties.content_encoding = Some(encoding.to_owned());
            let expected = (!taken).then_some(Reason::UnsupportedContent);
            assert_eq!(reason(&given), expected, "{content_type:?} {encoding:?}");
        }
    }

    #[test]
    fn a_trace_is_kept_only_if_valid() {
        let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for (text, kept) in [
            (valid.to_owned(), true),
            (valid.to_uppercase(), false),
            (valid.replace("00-4", "ff-4"), false),
            (format!("{valid}-x"), false),
            (valid.replace("00f067aa0ba902b7", "0000000000000000"), false),
            ("nonsense".to_owned(), false),
        ] {
            let mut given = message("acme.link");
            given.properties.headers.insert("traceparent".to_owned(), text.clone().into());
            let envelope = Envelope::parse(&given).unwrap();
            assert_eq!(envelope.traceparent, kept.then_some(text));
        }
    }
}
