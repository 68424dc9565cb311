//! Texts as Postgres can store them.

/// The text with U+FFFD for each NUL, which Postgres refuses.
#[must_use]
pub fn replace_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
