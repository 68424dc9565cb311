//! Commands from JSON documents: splitting the input, and the messages made of it.
//!
//! A document's bytes are published as they were given, so that a body that is published again
//! is the same body. Deliberately absent: judging a command. Whatever is one JSON document goes
//! out, because the worker's answer to a bad one is what people want to try.

use std::collections::BTreeMap;
use std::io;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::io::{AsyncRead, AsyncReadExt};
use uuid::Uuid;

use crate::domain::command::Operation;
use crate::message::{Message, Properties};

/// How much is read at once, at least, if it is there.
const CHUNK_BYTES: usize = 256 * 1024;
/// The longest document that is taken: what a broker takes at most since RabbitMQ 4.0.
const DOCUMENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// AMQP's limit of a routing key and of a message id.
const SHORT_BYTES_MAX: usize = 255;

/// Why an input can't be published.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The input broke off.
    #[error("can't read the input")]
    Read(#[from] io::Error),
    /// What stands there is not JSON.
    #[error("document {number} is not JSON: {source}")]
    NotJson {
        /// Counted from 1.
        number: u64,
        /// Where and why, within the document.
        source: serde_json::Error,
    },
    /// A document is longer than any broker takes.
    #[error("document {number} is longer than 16 MiB")]
    TooLong {
        /// Counted from 1.
        number: u64,
    },
    /// The operation does not follow from the document.
    #[error(
        "document {number} does not name its operation: exactly one root key of linkCustomers, \
         customersPartnerUpdates and deLinkCustomers is needed; or say --operation"
    )]
    NoOperation {
        /// Counted from 1.
        number: u64,
    },
    /// A name that can't be part of the message.
    #[error("{what} `{value}` can't be taken: {remedy}")]
    Name {
        /// Which.
        what: &'static str,
        /// As it was given.
        value: String,
        /// What to write.
        remedy: &'static str,
    },
}

/// The JSON documents of an input, one after the other: one, several, or one a line.
pub struct Documents<R> {
    input: R,
    buffer: Vec<u8>,
    /// Where the next document begins in `buffer`.
    start: usize,
    ended: bool,
    count: u64,
}

/// One JSON document as it stood in the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Counted from 1.
    pub number: u64,
    /// Without the white space around it.
    pub body: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Documents<R> {
    /// Reads `input` from where it stands.
    pub fn new(input: R) -> Self {
        Self { input, buffer: Vec::new(), start: 0, ended: false, count: 0 }
    }

    /// The next document; `None` at the end. Never holds more than one and a chunk.
    pub async fn next(&mut self) -> Result<Option<Document>, Error> {
        loop {
            let rest = self.buffer.get(self.start..).unwrap_or_default();
            let blank = rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            self.start += blank;
            let rest = rest.get(blank..).unwrap_or_default();
            let number = self.count + 1;
            let mut documents =
                serde_json::Deserializer::from_slice(rest).into_iter::<IgnoredAny>();
            match documents.next() {
                None if self.ended => return Ok(None),
                Some(Ok(IgnoredAny)) if self.is_whole(rest, documents.byte_offset()) => {
                    let end = documents.byte_offset();
                    let body = rest.get(..end).unwrap_or_default().to_vec();
                    self.start += end;
                    self.count = number;
                    return Ok(Some(Document { number, body }));
                }
                Some(Err(source)) if self.ended || !source.is_eof() => {
                    return Err(Error::NotJson { number, source });
                }
                None | Some(Ok(_) | Err(_)) => {}
            }
            if rest.len() > DOCUMENT_BYTES_MAX {
                return Err(Error::TooLong { number });
            }
            self.fill().await?;
        }
    }

    /// A number or word at the end of what has been read may go on in the next chunk.
    fn is_whole(&self, rest: &[u8], end: usize) -> bool {
        self.ended || end < rest.len() || rest.first().is_some_and(|byte| b"{[\"".contains(byte))
    }

    async fn fill(&mut self) -> Result<(), Error> {
        self.buffer.drain(..self.start);
        self.start = 0;
        // What is there is taken as it comes, so that a pipe is followed and not waited out.
        self.buffer.reserve(self.buffer.len().max(CHUNK_BYTES));
        let read = self.input.read_buf(&mut self.buffer).await?;
        self.ended = read == 0;
        Ok(())
    }
}

impl Document {
    /// The operation that the root key names (contract, "A command message").
    pub fn operation(&self) -> Result<Operation, Error> {
        let found: Option<Operation> =
            Root::deserialize(&mut serde_json::Deserializer::from_slice(&self.body)).ok().and_then(
                |root| {
                    let mut keys = root.0.keys().filter_map(|key| operation_of(key));
                    keys.next().filter(|_| keys.next().is_none())
                },
            );
        found.ok_or(Error::NoOperation { number: self.number })
    }
}

#[derive(Deserialize)]
struct Root(BTreeMap<String, IgnoredAny>);

fn operation_of(root_key: &str) -> Option<Operation> {
    match root_key {
        "linkCustomers" => Some(Operation::Link),
        "customersPartnerUpdates" => Some(Operation::Update),
        "deLinkCustomers" => Some(Operation::Delink),
        _ => None,
    }
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
    pub fn check(&self) -> Result<(), Error> {
        let word = "it is one word of the routing key: not empty, without dot, `*`, `#` and space";
        let words = [("org", Some(&self.org_code)), ("bucket", self.bucket.as_ref())];
        for (what, value) in words {
            if let Some(value) = value
                && (value.is_empty() || value.contains(['.', '*', '#', ' ']) || value.len() > 100)
            {
                return Err(Error::Name { what, value: value.clone(), remedy: word });
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
                return Err(Error::Name { what, value: value.clone(), remedy });
            }
        }
        Ok(())
    }

    /// The message that carries the document.
    pub fn message(&self, document: Document, now: DateTime<Utc>) -> Result<Message, Error> {
        let operation = self.operation.map_or_else(|| document.operation(), Ok)?;
        let mut routing_key = format!("{}.{operation}", self.org_code);
        if let Some(bucket) = &self.bucket {
            routing_key.push('.');
            routing_key.push_str(bucket);
        }
        let message_id = match &self.ids {
            Ids::Random => Some(Uuid::now_v7().to_string()),
            Ids::Given(id) => Some(id.clone()),
            Ids::Numbered(prefix) => Some(format!("{prefix}{}", document.number)),
            Ids::Absent => None,
        };
        Ok(Message {
            exchange: self.exchange.clone(),
            routing_key,
            properties: Properties {
                message_id,
                correlation_id: self.correlation_id.clone(),
                reply_to: self.reply_to.clone(),
                content_type: Some("application/json".to_owned()),
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
    use proptest::prelude::{any, prop_assert_eq, proptest};
    use proptest::{collection, sample};

    use super::{Document, Documents, Envelope, Error, Ids};
    use crate::domain::command::Operation;

    fn split(input: &[u8]) -> Result<Vec<String>, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut documents = Documents::new(input);
            let mut bodies = Vec::new();
            while let Some(document) = documents.next().await? {
                bodies.push(String::from_utf8(document.body).unwrap());
            }
            Ok(bodies)
        })
    }

    #[test]
    fn one_several_and_line_by_line_are_all_split() {
        assert_eq!(split(b"").unwrap(), Vec::<String>::new());
        assert_eq!(split(b" {\n\"a\": 1 }\n").unwrap(), ["{\n\"a\": 1 }"]);
        assert_eq!(split(b"{}{}\n[1] 2 3").unwrap(), ["{}", "{}", "[1]", "2", "3"]);
    }

    #[test]
    fn what_breaks_off_names_its_document() {
        let error = split(b"{}\n{\"a\":").unwrap_err();
        assert!(error.to_string().starts_with("document 2 is not JSON"), "{error}");
    }

    proptest! {
        #[test]
        fn documents_are_split_wherever_the_chunks_end(
            sizes in collection::vec(0_usize..200_000, 0..12),
            separator in sample::select(vec!["", "\n", " \r\n "]),
            as_array in any::<bool>(),
        ) {
            let bodies: Vec<String> = sizes
                .iter()
                .map(|size| "x".repeat(*size))
                .map(|text| if as_array { format!("[\"{text}\"]") } else { format!("{{\"a\":\"{text}\"}}") })
                .collect();
            prop_assert_eq!(split(bodies.join(separator).as_bytes()).unwrap(), bodies);
        }
    }

    #[test]
    fn the_operation_follows_from_the_one_root_key() {
        let operation =
            |body: &str| Document { number: 1, body: body.as_bytes().to_vec() }.operation().ok();
        assert_eq!(operation(r#"{"linkCustomers":[]}"#), Some(Operation::Link));
        assert_eq!(operation(r#"{"note":1,"deLinkCustomers":[]}"#), Some(Operation::Delink));
        assert_eq!(operation(r#"{"linkCustomers":[],"deLinkCustomers":[]}"#), None);
        assert_eq!(operation("[]"), None);
    }

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
        let message = envelope.message(document, chrono::Utc::now()).unwrap();
        assert_eq!(message.routing_key, "acme.link.7");
        assert_eq!(message.properties.message_id.as_deref(), Some("batch-3"));
        let other = Envelope { org_code: "acme.link".to_owned(), ..envelope };
        assert!(other.check().is_err());
    }
}
