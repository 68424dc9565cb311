//! Tokens: made here, known only by their hashes afterwards.

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// A new token: 244 random bits. It is shown once, and its hash goes into the configuration.
#[must_use]
pub fn new() -> String {
    format!("pp_{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}

/// The hash of a token, as the configuration has it.
#[must_use]
pub fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.trim().as_bytes()).into()
}
