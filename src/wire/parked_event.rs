//! The event that tells a command's publisher that it waits for a dead letter (`docs/contract.md#the-result-event`).

use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::message::{JSON, Message, Properties};
use crate::wire::envelope::Envelope;
use crate::wire::own_headers::TRACEPARENT;
use crate::wire::result::{COMMAND_ID, json, message_id};

/// For what a command waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The dead letter at the head of those that it waits for, as far as its lane knows it.
    pub dead_letter_id: Option<Uuid>,
    /// Its place among the commands that wait there, from 1 on.
    pub position: usize,
}

/// The event, to the given exchange.
#[must_use]
pub fn event(exchange: &str, envelope: &Envelope, command_id: &str, waiting: Waiting) -> Message {
    let body = json(&Parked {
        command_id,
        dead_letter_id: waiting.dead_letter_id.map(|id| id.to_string()),
        position: waiting.position,
    });
    let headers = [(COMMAND_ID, Some(command_id)), (TRACEPARENT, envelope.traceparent.as_deref())];
    let headers = headers.into_iter().filter_map(|(name, text)| Some((name, Value::from(text?))));
    Message {
        exchange: exchange.to_owned(),
        routing_key: format!("{}.{}.parked", envelope.org_code, envelope.operation),
        properties: Properties {
            message_id: Some(message_id(command_id, ".parked")),
            correlation_id: Some(
                envelope.correlation_id.clone().unwrap_or_else(|| command_id.to_owned()),
            ),
            kind: Some(format!("partner-program.{}.parked.v1", envelope.operation)),
            content_type: Some(JSON.to_owned()),
            app_id: envelope.app_id.clone(),
            timestamp: envelope.sent_at,
            headers: headers.map(|(name, value)| (name.to_owned(), value)).collect(),
            ..Properties::default()
        },
        body,
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Parked<'a> {
    command_id: &'a str,
    dead_letter_id: Option<String>,
    position: usize,
}
