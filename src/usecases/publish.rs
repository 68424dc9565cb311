//! The messages that carry commands.
//!
//! Deliberately absent: judging a command. Whatever is one JSON document goes out, because the
//! worker's answer to a bad one is what people want to try.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::command::Operation;
use crate::message::{JSON, Message, Properties};
use crate::usecases::documents;
use crate::usecases::documents::Document;

/// AMQP's limit of a routing key and of a message id.
const SHORT_BYTES_MAX: usize = 255;

/// A name that can't be part of the message.
#[derive(Debug, thiserror::Error)]
#[error("{what} `{value}` can't be taken: {remedy}")]
pub struct NameError {
    what: &'static str,
    value: String,
    remedy: &'static str,
}

/// How commands are addressed and marked; the same for all of one input.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// The exchange for commands.
    pub exchange: String,
    /// The org's code.
    pub org_code: String,
    /// The third word of the routing key.
    pub bucket: Option<String>,
    /// Of all commands; `None`: each names its own by its root key.
    pub operation: Option<Operation>,
    /// What the commands are called.
    pub ids: Ids,
    /// Echoed by the results.
    pub correlation_id: Option<String>,
    /// Where copies of the results go.
    pub reply_to: Option<String>,
}

/// Where the idempotency keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ids {
    /// A new UUID for each command.
    Random,
    /// This one; for a single command.
    Given(String),
    /// `{prefix}{number}`, the number counted from 1: publishing the same input again repeats
    /// the same commands, which then have no second effect.
    Numbered(String),
    /// None: duplicates can't be detected.
    Absent,
}

impl Envelope {
    /// Refuses names that would make another routing key than meant.
    pub fn check(&self) -> Result<(), NameError> {
        let word = "it is one word of the routing key: not empty, without dot, `*`, `#` and space";
        let words = [("org", Some(&self.org_code)), ("bucket", self.bucket.as_ref())];
        for (what, value) in words {
            if let Some(value) = value
                && (value.is_empty() || value.contains(['.', '*', '#', ' ']) || value.len() > 100)
            {
                return Err(NameError { what, value: value.clone(), remedy: word });
            }
        }
        let id = match &self.ids {
            Ids::Given(id) | Ids::Numbered(id) => Some(id),
            Ids::Random | Ids::Absent => None,
        };
        let shorts = [("message id", id), ("correlation id", self.correlation_id.as_ref())];
        for (what, value) in shorts {
            // The result's message id is this one and a suffix; the number comes on top.
            if let Some(value) = value
                && (value.is_empty() || value.len() > SHORT_BYTES_MAX - 30)
            {
                let remedy = "write 1 to 225 bytes";
                return Err(NameError { what, value: value.clone(), remedy });
            }
        }
        Ok(())
    }

    /// The message that carries the document; `number` counts over all inputs.
    pub fn message(
        &self,
        document: Document,
        number: u64,
        now: DateTime<Utc>,
    ) -> Result<Message, documents::Error> {
        let operation = self.operation.map_or_else(|| document.operation(), Ok)?;
        let mut routing_key = format!("{}.{operation}", self.org_code);
        if let Some(bucket) = &self.bucket {
            routing_key.push('.');
            routing_key.push_str(bucket);
        }
        let message_id = match &self.ids {
            Ids::Random => Some(Uuid::now_v7().to_string()),
            Ids::Given(id) => Some(id.clone()),
            Ids::Numbered(prefix) => Some(format!("{prefix}{number}")),
            Ids::Absent => None,
        };
        Ok(Message {
            exchange: self.exchange.clone(),
            routing_key,
            properties: Properties {
                message_id,
                correlation_id: self.correlation_id.clone(),
                reply_to: self.reply_to.clone(),
                content_type: Some(JSON.to_owned()),
                app_id: Some("partner-program".to_owned()),
                timestamp: Some(now),
                ..Properties::default()
            },
            body: document.body,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Document, Envelope, Ids};

    #[test]
    fn a_message_is_addressed_by_org_operation_and_bucket() {
        let envelope = Envelope {
            exchange: "commands".to_owned(),
            org_code: "acme".to_owned(),
            bucket: Some("7".to_owned()),
            operation: None,
            ids: Ids::Numbered("batch-".to_owned()),
            correlation_id: None,
            reply_to: None,
        };
        let document = Document { number: 3, body: br#"{"linkCustomers":[]}"#.to_vec() };
        let message = envelope.message(document, 3, chrono::Utc::now()).unwrap();
        assert_eq!(message.routing_key, "acme.link.7");
        assert_eq!(message.properties.message_id.as_deref(), Some("batch-3"));
        let other = Envelope { org_code: "acme.link".to_owned(), ..envelope };
        assert!(other.check().is_err());
    }
}
