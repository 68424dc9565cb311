//! The message that `lanes move` puts behind the commands of a lane: once it is delivered, everything
//! that came before it is processed.
//!
//! It goes straight to the queue, as no exchange routes to the lane any more. Its random number is
//! known to the database alone, so a publisher can't make one up. It has the lowest priority, so a broker
//! that delivers by priority delivers it last.

use serde_json::Value;
use uuid::Uuid;

use crate::message::{Message, Properties};

const HEADER: &str = "lane-move-marker";

/// The marker of a move for the given queue.
#[must_use]
pub fn message(queue: &str, marker: Uuid) -> Message {
    Message {
        exchange: String::new(),
        routing_key: queue.to_owned(),
        properties: Properties {
            message_id: Some(marker.to_string()),
            kind: Some("partner-program.lane-marker.v1".to_owned()),
            priority: Some(0),
            headers: [(HEADER.to_owned(), Value::from(marker.to_string()))].into(),
            ..Properties::default()
        },
        body: Vec::new(),
    }
}

/// The number that the message has if it may be a marker.
#[must_use]
pub fn read(message: &Message) -> Option<Uuid> {
    let text = message.properties.headers.get(HEADER)?.as_str()?;
    message.exchange.is_empty().then(|| Uuid::parse_str(text).ok()).flatten()
}
