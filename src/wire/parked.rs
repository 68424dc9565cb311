//! A message as it is kept while it waits: everything but the body, as one JSON document.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::message::{Message, Properties};

#[derive(Serialize, Deserialize)]
struct Parked {
    exchange: String,
    routing_key: String,
    message_id: Option<String>,
    correlation_id: Option<String>,
    reply_to: Option<String>,
    kind: Option<String>,
    content_type: Option<String>,
    content_encoding: Option<String>,
    app_id: Option<String>,
    user_id: Option<String>,
    /// Not in the documents of earlier releases.
    priority: Option<u8>,
    /// Not in the documents of earlier releases.
    expiration: Option<String>,
    timestamp: Option<DateTime<Utc>>,
    headers: BTreeMap<String, Value>,
}

/// The document; the body is kept beside it.
#[must_use]
pub fn encode(message: &Message) -> String {
    let Message { exchange, routing_key, properties, body: _ } = message.clone();
    let parked = Parked {
        exchange,
        routing_key,
        message_id: properties.message_id,
        correlation_id: properties.correlation_id,
        reply_to: properties.reply_to,
        kind: properties.kind,
        content_type: properties.content_type,
        content_encoding: properties.content_encoding,
        app_id: properties.app_id,
        user_id: properties.user_id,
        priority: properties.priority,
        expiration: properties.expiration,
        timestamp: properties.timestamp,
        headers: properties.headers,
    };
    // Strings, numbers and maps with strings as keys: there is nothing to refuse.
    serde_json::to_string(&parked).unwrap_or_default()
}

/// The message again; nothing if it is no document of [`encode`].
#[must_use]
pub fn decode(document: &str, body: Vec<u8>) -> Option<Message> {
    let parked: Parked = serde_json::from_str(document).ok()?;
    let properties = Properties {
        message_id: parked.message_id,
        correlation_id: parked.correlation_id,
        reply_to: parked.reply_to,
        kind: parked.kind,
        content_type: parked.content_type,
        content_encoding: parked.content_encoding,
        app_id: parked.app_id,
        user_id: parked.user_id,
        priority: parked.priority,
        expiration: parked.expiration,
        timestamp: parked.timestamp,
        headers: parked.headers,
    };
    Some(Message { exchange: parked.exchange, routing_key: parked.routing_key, properties, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_out_as_it_went_in() {
        let text = |text: &str| Some(text.to_owned());
        let headers = serde_json::json!({"nul": "a\0b", "list": [1, -1.5, null, {"x": true}]});
        let message = Message {
            exchange: "e".into(),
            routing_key: "acme.link.\0".into(),
            properties: Properties {
                message_id: text("m"),
                correlation_id: text("c"),
                reply_to: text("r"),
                kind: text("k"),
                content_type: text("application/json"),
                content_encoding: text("identity"),
                app_id: text("a"),
                user_id: text("u"),
                priority: Some(9),
                expiration: Some("1000".to_owned()),
                timestamp: DateTime::from_timestamp(1_700_000_000, 0),
                headers: serde_json::from_value(headers).unwrap(),
            },
            body: vec![0, 255],
        };
        let document = encode(&message);
        assert!(!document.contains('\0'), "Postgres takes no NUL");
        let before = document.replace(r#""priority":9,"#, "");
        assert_ne!(before, document);
        let read = decode(&before, message.body.clone()).unwrap();
        assert_eq!(read.properties.priority, None, "a document of an earlier release");
        assert_eq!(decode(&document, message.body.clone()), Some(message));
        assert_eq!(decode("", Vec::new()), None);
    }
}
