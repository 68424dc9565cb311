//! The JSON documents of an input: one, several, or one a line.
//!
//! A document's bytes are kept as they were given, so that a body that is published again is the
//! same body. Deliberately absent: judging a command, or anything but its root key.

use std::collections::BTreeSet;
use std::fmt;
use std::io;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::domain::command::Operation;

/// How much is read at once, at least, if it is there.
const CHUNK_BYTES: usize = 256 * 1024;
/// The longest document that is taken: what a broker takes at most since RabbitMQ 4.0.
const DOCUMENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why an input can't be split.
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
    /// The operation that the root key names (`docs/contract.md#a-command-message`).
    pub fn operation(&self) -> Result<Operation, Error> {
        let found: Option<Operation> =
            Root::deserialize(&mut serde_json::Deserializer::from_slice(&self.body)).ok().and_then(
                |root| {
                    let mut keys = root.0.iter().filter_map(|key| operation_of(key));
                    keys.next().filter(|_| keys.next().is_none())
                },
            );
        found.ok_or(Error::NoOperation { number: self.number })
    }
}

/// The document's keys; a repeated one counts once.
struct Root(BTreeSet<String>);

impl<'de> Deserialize<'de> for Root {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RootVisitor)
    }
}

struct RootVisitor;

impl<'de> Visitor<'de> for RootVisitor {
    type Value = Root;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Root, A::Error> {
        let mut keys = BTreeSet::new();
        while let Some((key, IgnoredAny)) = map.next_entry()? {
            keys.insert(key);
        }
        Ok(Root(keys))
    }
}

fn operation_of(root_key: &str) -> Option<Operation> {
    Operation::ALL.into_iter().find(|operation| operation.root_key() == root_key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};
    use proptest::{collection, sample};

    use super::{Document, Documents, Error};
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
}
