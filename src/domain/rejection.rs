//! Why a command can't be processed at all (`docs/contract.md#answers-and-dead-letters`).
//!
//! Deliberately absent: business failures. Those are answers, see [`status`](crate::domain::status).

use std::fmt;

/// A command that goes to the dead letters, and what its publisher is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Rejection {
    /// What is wrong, in one word.
    pub reason: Reason,
    /// For people. Names places and kinds, never values: these may be personal data.
    pub detail: String,
}

impl Rejection {
    /// A rejection; see the fields.
    #[must_use]
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// The reasons, one word each in headers, tables, events and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The body is not UTF-8.
    NotUtf8,
    /// The body is not JSON.
    NotJson,
    /// Something follows the JSON document.
    TrailingData,
    /// A field that is read occurs twice in one object.
    DuplicateKey,
    /// The root is no object, or names no or several operations.
    RootKeys,
    /// A list is absent, or something other than an array.
    NotAnArray,
    /// A field, or an element of a list, is of the wrong JSON type.
    WrongType,
    /// A text holds what can't be stored, such as NUL.
    InvalidText,
    /// The body, a text or the number of elements is over its bound.
    TooLarge,
    /// The routing key's org is not in the catalogue.
    UnknownOrg,
    /// The routing key is not `{org}.{operation}[.{bucket}]`.
    RoutingKey,
    /// The routing key names another operation than the root key.
    OperationMismatch,
    /// The publisher may not command this org.
    PublisherNotAllowed,
    /// The command has another priority than its lane, and the broker reorders by it.
    Priority,
    /// The message id was used before, with another body.
    MessageIdReused,
    /// Content type or encoding is something other than plain JSON.
    UnsupportedContent,
    /// The command alone kept failing, for reasons that are not its form.
    ProcessingFailed,
    /// It waits for a dead letter of its customer, and no more may be parked.
    Held,
    /// The routing map gives its routing key to another lane.
    WrongLane,
}

impl Reason {
    /// Every reason, in the order of the declaration.
    pub const ALL: [Self; 19] = [
        Self::NotUtf8,
        Self::NotJson,
        Self::TrailingData,
        Self::DuplicateKey,
        Self::RootKeys,
        Self::NotAnArray,
        Self::WrongType,
        Self::InvalidText,
        Self::TooLarge,
        Self::UnknownOrg,
        Self::RoutingKey,
        Self::OperationMismatch,
        Self::PublisherNotAllowed,
        Self::Priority,
        Self::MessageIdReused,
        Self::UnsupportedContent,
        Self::ProcessingFailed,
        Self::Held,
        Self::WrongLane,
    ];

    /// The word on the wire; part of the contract, so it does not change.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotUtf8 => "not-utf8",
            Self::NotJson => "not-json",
            Self::TrailingData => "trailing-data",
            Self::DuplicateKey => "duplicate-key",
            Self::RootKeys => "root-keys",
            Self::NotAnArray => "not-an-array",
            Self::WrongType => "wrong-type",
            Self::InvalidText => "invalid-text",
            Self::TooLarge => "too-large",
            Self::UnknownOrg => "unknown-org",
            Self::RoutingKey => "routing-key",
            Self::OperationMismatch => "operation-mismatch",
            Self::PublisherNotAllowed => "publisher-not-allowed",
            Self::Priority => "priority",
            Self::MessageIdReused => "message-id-reused",
            Self::UnsupportedContent => "unsupported-content",
            Self::ProcessingFailed => "processing-failed",
            Self::Held => "held",
            Self::WrongLane => "wrong-lane",
        }
    }

    /// Whether it is about the publisher's right, and not about what it has sent.
    #[must_use]
    pub const fn is_of_stranger(self) -> bool {
        matches!(self, Self::UnknownOrg | Self::PublisherNotAllowed)
    }

    /// The inverse of [`as_str`](Self::as_str).
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_reads_back() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Some(reason));
        }
        assert_eq!(Reason::parse("nonsense"), None);
    }
}
