//! What is published in place of a result that the broker refuses because of its size
//! (`docs/contract.md#the-result-event`).
//!
//! The event is made of the result's own message, so that it is the same for a first result, a
//! duplicate and a republished one, to the byte.

use serde::Serialize;
use serde_json::Value;

use crate::message::Message;
use crate::wire::result::{COMMAND_ID, json};

/// The word for the reason; part of the contract.
const TOO_LARGE: &str = "too-large-for-broker";
/// The part of the type between operation and version: of a result, and of the event in its place.
const KIND: (&str, &str) = (".result.", ".result-unavailable.");

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Unavailable<'a> {
    command_id: Option<&'a str>,
    reason: &'static str,
    result_bytes: usize,
    detail: String,
}

/// The small event, with the address, ids and headers of the result; nothing, if the message is no
/// result.
#[must_use]
pub fn in_place_of(result: &Message) -> Option<Message> {
    let kind = result.properties.kind.as_deref()?;
    if !kind.contains(KIND.0) {
        return None;
    }
    let command_id = result.properties.headers.get(COMMAND_ID).and_then(Value::as_str);
    let body = json(&Unavailable {
        command_id,
        reason: TOO_LARGE,
        result_bytes: result.body.len(),
        detail: format!(
            "the command took effect; its result has {} bytes, which the broker does not take: \
             `partner-program show command` has it",
            result.body.len()
        ),
    });
    let mut properties = result.properties.clone();
    properties.kind = Some(kind.replacen(KIND.0, KIND.1, 1));
    let (exchange, routing_key) = (result.exchange.clone(), result.routing_key.clone());
    Some(Message { exchange, routing_key, properties, body })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Properties;

    #[test]
    fn a_result_keeps_all_but_its_body_and_its_type() {
        let result = Message {
            exchange: "results".to_owned(),
            routing_key: "acme.link.partial".to_owned(),
            properties: Properties {
                message_id: Some("c-1.result".to_owned()),
                correlation_id: Some("asked".to_owned()),
                kind: Some("partner-program.link.result.v1".to_owned()),
                headers: [("command-id".to_owned(), Value::from("c-1"))].into(),
                ..Properties::default()
            },
            body: vec![b' '; 2_138_648],
        };
        let small = in_place_of(&result).unwrap();
        let kind = Some("partner-program.link.result-unavailable.v1".to_owned());
        assert_eq!(small.properties, Properties { kind, ..result.properties.clone() });
        assert_eq!((&small.exchange, &small.routing_key), (&result.exchange, &result.routing_key));
        assert_eq!(
            String::from_utf8(small.body.clone()).unwrap(),
            concat!(
                r#"{"commandId":"c-1","reason":"too-large-for-broker","resultBytes":2138648,"#,
                r#""detail":"the command took effect; its result has 2138648 bytes, which the broker "#,
                r#"does not take: `partner-program show command` has it"}"#
            )
        );
        assert_eq!(in_place_of(&small), None, "it is small already");
        assert_eq!(in_place_of(&Message::default()), None);
    }
}
