//! A message as it is kept while it waits: everything but the body, as one JSON document.

use crate::message::Message;

/// The document; the body is kept beside it.
#[must_use]
pub fn encode(message: &Message) -> String {
    // Strings, numbers and maps with strings as keys: there is nothing to refuse.
    serde_json::to_string(message).unwrap_or_default()
}

/// The message again; nothing if it is no document of [`encode`].
#[must_use]
pub fn decode(document: &str, body: Vec<u8>) -> Option<Message> {
    let message: Message = serde_json::from_str(document).ok()?;
    Some(Message { body, ..message })
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::message::Properties;

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
        let written = concat!(
            r#"{"exchange":"e","routing_key":"acme.link.\u0000","message_id":"m","correlation_id":"c","#,
            r#""reply_to":"r","kind":"k","content_type":"application/json","content_encoding":"identity","#,
            r#""app_id":"a","user_id":"u","priority":9,"expiration":"1000","timestamp":"2023-11-14T22:13:20Z","#,
            r#""headers":{"list":[1,-1.5,null,{"x":true}],"nul":"a\u0000b"}}"#,
        );
        assert_eq!(document, written, "other releases read and write the same");
        let before = document.replace(r#""priority":9,"#, "");
        assert_ne!(before, document);
        let read = decode(&before, message.body.clone()).unwrap();
        assert_eq!(read.properties.priority, None, "a document of an earlier release");
        assert_eq!(decode(&document, message.body.clone()), Some(message));
        assert_eq!(decode("", Vec::new()), None);
    }
}
