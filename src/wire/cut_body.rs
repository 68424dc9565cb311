//! Messages that are not kept whole (`docs/contract.md#answers-and-dead-letters`).
//!
//! A publisher may send as much as the broker takes, and as often. So a body beyond the contract's
//! bound is cut as soon as it is there: what is left is enough to tell which message it was, and
//! never enough to apply it. Headers are dropped beyond a bound of their own: a value takes one byte
//! in a frame and eighty in memory.

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::message::{BODY_BYTES_MAX, BODY_HASH, BODY_LENGTH, Message};
use crate::wire::own_headers::{self, HEADERS_DROPPED};

/// How many bytes are left of a body that is cut.
pub const KEPT_BYTES: usize = 4_096;
/// What a message's headers may take in memory, about; those beyond it are dropped.
const HEADERS_BYTES_MAX: usize = 65_536;

/// Cuts the body if it is too large, and notes in the headers what it was. Headers of these names
/// that a publisher has set are dropped, and so are those that take too much memory.
pub fn cut(message: &mut Message) {
    let headers = &mut message.properties.headers;
    headers.remove(BODY_LENGTH);
    headers.remove(BODY_HASH);
    drop_headers(headers);
    if message.body.len() > BODY_BYTES_MAX {
        headers.extend(whole_of(&message.body));
        message.body.truncate(KEPT_BYTES);
    }
    // The client library lets a body grow by doubling, so up to half of its room is unused.
    message.body.shrink_to_fit();
}

/// A dead letter without most of its body, for a broker that does not take the whole; nothing, if it
/// is that short already.
#[must_use]
pub fn shortened(letter: &Message) -> Option<Message> {
    if letter.body.len() <= KEPT_BYTES {
        return None;
    }
    let Message { exchange, routing_key, properties, body } = letter;
    let mut short = Message {
        exchange: exchange.clone(),
        routing_key: routing_key.clone(),
        properties: properties.clone(),
        body: body[..KEPT_BYTES].to_vec(),
    };
    short.properties.headers.extend(whole_of(body));
    Some(short)
}

/// The SHA-256 of the body before it was cut, if it was.
pub(super) fn whole_hash(message: &Message) -> Option<[u8; 32]> {
    let text = message.properties.headers.get(BODY_HASH)?.as_str()?;
    let mut hash = [0; 32];
    hex::decode_to_slice(text, &mut hash).ok()?;
    Some(hash)
}

/// How many bytes the body had, if it was cut.
#[must_use]
pub fn whole_length(message: &Message) -> Option<usize> {
    length_in(message.properties.headers.get(BODY_LENGTH))
}

/// How many bytes the body of an archived dead letter had, by its header [`BODY_LENGTH`].
#[must_use]
pub fn length_in(header: Option<&Value>) -> Option<usize> {
    header.and_then(Value::as_u64).and_then(|length| usize::try_from(length).ok())
}

/// Takes both headers out.
pub(super) fn take(headers: &mut BTreeMap<String, Value>) -> Vec<(String, Value)> {
    [BODY_LENGTH, BODY_HASH].into_iter().filter_map(|name| headers.remove_entry(name)).collect()
}

fn drop_headers(headers: &mut BTreeMap<String, Value>) {
    let bytes = |name: &str, value: &Value| name.len() + memory_bytes(value);
    let dropped = own_headers::keep_within(headers, HEADERS_BYTES_MAX, bytes);
    if dropped > 0 {
        headers.insert(HEADERS_DROPPED.to_owned(), dropped.into());
    }
}

fn memory_bytes(value: &Value) -> usize {
    let inner = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(memory_bytes).sum(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| name.len() + memory_bytes(value)).sum()
        }
    };
    size_of::<Value>() + inner
}

/// The headers that say what a body was, for one that is cut.
#[must_use]
pub fn whole_of(body: &[u8]) -> [(String, Value); 2] {
    let hash = hex::encode(Sha256::digest(body));
    [(BODY_LENGTH.to_owned(), body.len().into()), (BODY_HASH.to_owned(), hash.into())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: usize) -> Message {
        let mut message = Message { body: vec![b' '; bytes], ..Message::default() };
        let forged =
            [(BODY_LENGTH, Value::from(7)), (BODY_HASH, "00".into()), ("own", "kept".into())];
        message.properties.headers = forged.map(|(name, value)| (name.to_owned(), value)).into();
        message
    }

    #[test]
    fn what_the_contract_takes_is_kept_whole_and_forged_headers_are_dropped() {
        for bytes in [0, 1, KEPT_BYTES + 1, BODY_BYTES_MAX] {
            let mut message = message(bytes);
            cut(&mut message);
            assert_eq!((message.body.len(), whole_length(&message)), (bytes, None));
            assert_eq!(message.properties.headers.keys().collect::<Vec<_>>(), ["own"]);
        }
    }

    #[test]
    fn headers_that_fill_a_frame_with_small_values_are_dropped() {
        let mut message = message(0);
        let headers = &mut message.properties.headers;
        headers.insert("many".to_owned(), vec![Value::Null; 100_000].into());
        headers.insert("z".to_owned(), "short".into());
        cut(&mut message);
        let names: Vec<_> = message.properties.headers.keys().collect();
        assert_eq!(names, ["own", HEADERS_DROPPED, "z"]);
        assert_eq!(message.properties.headers[HEADERS_DROPPED], Value::from(1));
    }

    #[test]
    fn a_letter_that_the_broker_does_not_take_is_shortened_once() {
        let letter = Message { body: vec![b'x'; KEPT_BYTES + 1], ..Message::default() };
        let short = shortened(&letter).unwrap();
        assert_eq!(short.body, letter.body[..KEPT_BYTES]);
        assert_eq!(whole_length(&short), Some(KEPT_BYTES + 1));
        assert_eq!(whole_hash(&short), Some(Sha256::digest(&letter.body).into()));
        assert_eq!(shortened(&short), None);
        assert_eq!(whole_hash(&letter), None);
    }

    #[test]
    fn a_larger_body_leaves_its_beginning_its_length_and_its_hash() {
        let mut message = message(BODY_BYTES_MAX + 1);
        let whole = message.body.clone();
        cut(&mut message);
        assert_eq!(message.body, whole[..KEPT_BYTES]);
        assert!(message.body.capacity() < 2 * KEPT_BYTES, "the rest is given back");
        assert_eq!(whole_length(&message), Some(BODY_BYTES_MAX + 1));
        // sha256sum of so many spaces.
        let expected = "9d78de4e5b12fc166bed811cd230621ea1e1e353553fe31b92a73bfbf45d68ee";
        assert_eq!(message.properties.headers[BODY_HASH], Value::from(expected));
    }
}
