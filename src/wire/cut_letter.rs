//! A dead letter whose body the broker does not take: its beginning, its length and its hash (contract,
//! "What is a dead letter, what is an answer").

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::rejected::hex;
use crate::message::Message;

/// Bytes of the body that are kept.
const KEPT_BYTES: usize = 4_096;
/// The header with the length of the whole body.
pub(super) const BODY_BYTES: &str = "x-body-bytes";
/// The header with the SHA-256 of the whole body, in hexadecimal digits.
pub(super) const BODY_SHA256: &str = "x-body-sha256";

/// The letter without most of its body; nothing, if it is that short already.
#[must_use]
pub fn cut(letter: &Message) -> Option<Message> {
    if letter.body.len() <= KEPT_BYTES {
        return None;
    }
    let mut properties = letter.properties.clone();
    let hash: [u8; 32] = Sha256::digest(&letter.body).into();
    properties.headers.insert(BODY_BYTES.to_owned(), Value::from(letter.body.len()));
    properties.headers.insert(BODY_SHA256.to_owned(), Value::from(hex(&hash)));
    let (exchange, routing_key) = (letter.exchange.clone(), letter.routing_key.clone());
    Some(Message { exchange, routing_key, properties, body: letter.body[..KEPT_BYTES].to_vec() })
}

/// Whether a letter, by the headers that were added on its way, has lost most of its body: such a
/// one can't be replayed.
#[must_use]
pub fn is_cut(provenance: &Value) -> bool {
    provenance.get(BODY_BYTES).is_some()
}

/// The SHA-256 of the body that a letter had before it was cut.
pub(super) fn whole_bodys_hash(letter: &Message) -> Option<[u8; 32]> {
    let text = letter.properties.headers.get(BODY_SHA256)?.as_str()?;
    let mut hash = [0; 32];
    let digits = text.as_bytes().chunks_exact(2);
    if text.len() != 2 * hash.len() {
        return None;
    }
    for (byte, digits) in hash.iter_mut().zip(digits) {
        *byte = u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_cut_once_and_says_what_it_was() {
        let letter = Message { body: vec![b'x'; 4_097], ..Message::default() };
        let short = cut(&letter).unwrap();
        assert_eq!(short.body, letter.body[..4_096]);
        assert_eq!(short.properties.headers["x-body-bytes"], 4_097);
        let hash: [u8; 32] = Sha256::digest(&letter.body).into();
        assert_eq!(whole_bodys_hash(&short), Some(hash));
        assert_eq!(cut(&short), None);
        assert_eq!(whole_bodys_hash(&letter), None);
    }
}
