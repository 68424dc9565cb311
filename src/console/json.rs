//! A body as a document to read: indented, the faulty place marked, personal data masked.
//!
//! What is masked is decided the safe way round: everything but the words that are known to be
//! not personal. A body that is no JSON is shown as text, or not at all where it has to be masked.

use crate::usecases::dead_letters::json_text::{self, Node};
use crate::usecases::dead_letters::mask;

/// Stands for a value that is not shown.
pub(super) const MASK: &str = "•••••";

/// Longest document that is shown; an export has all of it.
const LINES_MAX: usize = 3_000;
/// Longest value that is shown whole, in characters.
const VALUE_CHARS_MAX: usize = 1_000;
/// Longest text that is shown of a body that is no JSON, in bytes.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// Fields of a result that the worker wrote.
const NOBODYS_OF_RESULT: [&str; 4] = ["code", "message", "path", "status"];

/// Whether personal data is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Masking {
    /// For a command: values that may be personal data are masked.
    OfCommand,
    /// For a result: as for a command, but the fields that the worker itself writes are shown.
    OfResult,
    /// Everything is shown.
    Open,
}

impl Masking {
    fn hides(self, key: Option<&str>) -> bool {
        let is_nobodys = |words: &[&str]| key.is_some_and(|key| words.contains(&key));
        match self {
            Self::OfCommand => !is_nobodys(&mask::SHOWN),
            Self::OfResult => !is_nobodys(&mask::SHOWN) && !is_nobodys(&NOBODYS_OF_RESULT),
            Self::Open => false,
        }
    }
}

/// A document, line by line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Document {
    pub(super) lines: Vec<Line>,
    /// Why it is not shown as JSON.
    pub(super) problem: Option<String>,
    /// Whether it goes on.
    pub(super) is_cut: bool,
    pub(super) is_masked: bool,
}

/// A line of a document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) indent: String,
    /// In quotes, with its colon.
    pub(super) key: String,
    pub(super) value: String,
    /// `string`, `number`, `word`, `mask` or nothing.
    pub(super) class: &'static str,
    pub(super) comma: &'static str,
    /// Whether the fault is here.
    pub(super) is_marked: bool,
}

/// The body in its own words, with the place marked that the JSON pointer names, or the nearest one around
/// it.
pub(super) fn document(body: &[u8], pointer: Option<&str>, masking: Masking) -> Document {
    let is_masked = masking != Masking::Open;
    let parsed = match str::from_utf8(body) {
        Ok(text) => json_text::parsed(text),
        Err(_) => None,
    };
    match parsed {
        Some(node) => {
            let marked = pointer.map(|pointer| nearest(&node, pointer));
            let document = Document { is_masked, ..Document::default() };
            let mut writer = Writer { document, marked, masking };
            let root = Place { path: String::new(), key: None, indent: 0, comma: "" };
            writer.value(&node, &root);
            writer.document
        }
        None if is_masked => {
            Document { problem: Some(problem(body).0), is_masked, ..Document::default() }
        }
        None => text(body),
    }
}

/// Why a body is not shown as JSON, and in which line of it.
fn problem(body: &[u8]) -> (String, usize) {
    if let Err(error) = str::from_utf8(body) {
        let at = error.valid_up_to();
        let line = body[..at].split(|byte| *byte == b'\n').count();
        return (format!("Byte {at} is no UTF-8: `\\x` stands before such bytes."), line);
    }
    match serde_json::from_slice::<serde::de::IgnoredAny>(body) {
        Err(error) if error.line() > 0 => {
            let (line, column) = (error.line(), error.column());
            (format!("No JSON: it breaks off at line {line}, column {column}."), line)
        }
        Ok(_) | Err(_) => ("The body can't be read as JSON.".to_owned(), 0),
    }
}

fn text(body: &[u8]) -> Document {
    let (problem, marked) = problem(body);
    let shown = &body[..body.len().min(TEXT_BYTES_MAX)];
    let (lines, _not_utf8) = json_text::escaped(shown);
    let lines = lines.lines().take(LINES_MAX).enumerate().map(|(place, text)| Line {
        value: text.to_owned(),
        is_marked: place + 1 == marked,
        ..Line::default()
    });
    Document {
        lines: lines.collect(),
        problem: Some(problem),
        is_cut: shown.len() < body.len(),
        is_masked: false,
    }
}

/// The longest part of the pointer that leads somewhere.
fn nearest(root: &Node<'_>, pointer: &str) -> String {
    let mut path = String::new();
    let mut node = root;
    for step in pointer.split('/').skip(1) {
        let inner = match node {
            Node::Object(fields) => {
                let key = step.replace("~1", "/").replace("~0", "~");
                fields
                    .iter()
                    .find(|(name, _)| json_text::unquoted(name) == key)
                    .map(|(_, node)| node)
            }
            Node::Array(values) => step.parse::<usize>().ok().and_then(|place| values.get(place)),
            Node::Scalar(_) => None,
        };
        let Some(inner) = inner else { break };
        node = inner;
        path.push('/');
        path.push_str(step);
    }
    path
}

struct Writer {
    document: Document,
    marked: Option<String>,
    masking: Masking,
}

struct Place<'a> {
    path: String,
    /// In its quotes, and as it is meant.
    key: Option<(&'a str, &'a str)>,
    indent: usize,
    comma: &'static str,
}

impl Writer {
    fn value(&mut self, node: &Node<'_>, place: &Place<'_>) {
        match node {
            Node::Object(fields) if !fields.is_empty() => {
                self.line(place, "{".to_owned(), "", "");
                let last = fields.len() - 1;
                for (number, (key, value)) in fields.iter().enumerate() {
                    let name = json_text::unquoted(key);
                    let escaped = name.replace('~', "~0").replace('/', "~1");
                    self.value(value, &place.inner(&escaped, Some((key, &name)), number == last));
                }
                self.close(place, "}");
            }
            Node::Array(elements) if !elements.is_empty() => {
                self.line(place, "[".to_owned(), "", "");
                let last = elements.len() - 1;
                for (number, value) in elements.iter().enumerate() {
                    // Elements mean what their list means.
                    self.value(value, &place.inner(&number.to_string(), None, number == last));
                }
                self.close(place, "]");
            }
            Node::Object(_) => self.line(place, "{}".to_owned(), "", place.comma),
            Node::Array(_) => self.line(place, "[]".to_owned(), "", place.comma),
            Node::Scalar(text @ ("null" | "true" | "false")) => {
                self.line(place, (*text).to_owned(), "word", place.comma);
            }
            Node::Scalar(text) if self.masking.hides(place.name()) => {
                let quote = if text.starts_with('"') { "\"" } else { "" };
                self.line(place, format!("{quote}{MASK}{quote}"), "mask", place.comma);
            }
            Node::Scalar(text) => {
                let class = if text.starts_with('"') { "string" } else { "number" };
                self.line(place, shortened(text), class, place.comma);
            }
        }
    }

    fn line(&mut self, place: &Place<'_>, value: String, class: &'static str, comma: &'static str) {
        if self.document.lines.len() >= LINES_MAX {
            self.document.is_cut = true;
            return;
        }
        let key = place.key.map_or_else(String::new, |(key, _)| format!("{}: ", shortened(key)));
        self.document.lines.push(Line {
            indent: "  ".repeat(place.indent),
            key,
            value,
            class,
            comma,
            is_marked: self.marked.as_deref() == Some(&place.path),
        });
    }

    /// Closing lines are never marked.
    fn close(&mut self, place: &Place<'_>, bracket: &str) {
        if self.document.lines.len() >= LINES_MAX {
            self.document.is_cut = true;
            return;
        }
        self.document.lines.push(Line {
            indent: "  ".repeat(place.indent),
            value: bracket.to_owned(),
            comma: place.comma,
            ..Line::default()
        });
    }
}

impl Place<'_> {
    fn name(&self) -> Option<&str> {
        self.key.map(|(_, name)| name)
    }

    fn inner<'a>(&self, step: &str, key: Option<(&'a str, &'a str)>, is_last: bool) -> Place<'a> {
        Place {
            path: format!("{}/{step}", self.path),
            key,
            indent: self.indent + 1,
            comma: if is_last { "" } else { "," },
        }
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        None => text.to_owned(),
        Some((end, _)) => {
            format!("{}… ({} more bytes)", &text[..end], text.len() - end)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn text_of(document: &Document) -> String {
        let line = |line: &Line| {
            let mark = if line.is_marked { "> " } else { "" };
            format!("{mark}{}{}{}{}\n", line.indent, line.key, line.value, line.comma)
        };
        document.lines.iter().map(line).collect()
    }

    const BODY: &[u8] = br#"{"linkCustomers":[{"customer":{"mobile":"9198","id":7},
        "note":"ask Jane","linkToPartnerPrograms":[{"partnerProgramName":"Air"}]}]}"#;

    #[test]
    fn all_but_known_words_is_masked() {
        let masked = text_of(&document(BODY, None, Masking::OfCommand));
        for hidden in ["9198", "7", "Jane"] {
            assert!(!masked.contains(hidden), "{masked}");
        }
        assert!(masked.contains("\"partnerProgramName\": \"Air\""), "{masked}");
        let open = text_of(&document(BODY, None, Masking::Open));
        assert_eq!(
            serde_json::from_str::<Value>(&open).unwrap(),
            serde_json::from_slice::<Value>(BODY).unwrap()
        );
    }

    #[test]
    fn the_faulty_place_is_marked_or_the_nearest_around_it() {
        for (pointer, marked) in [
            ("/linkCustomers/0/customer/id", "\"id\": 7"),
            ("/linkCustomers/0/customer/gone/deeper", "\"customer\": {"),
            ("", "{"),
            ("/nowhere", "{"),
        ] {
            let shown = document(BODY, Some(pointer), Masking::Open);
            let lines: Vec<&Line> = shown.lines.iter().filter(|line| line.is_marked).collect();
            assert_eq!(lines.len(), 1, "{pointer}");
            assert_eq!(format!("{}{}", lines[0].key, lines[0].value), marked, "{pointer}");
        }
    }

    #[test]
    fn what_is_there_is_shown_as_it_is() {
        let body = br#"{"a":1.10,"a":123456789012345678901234,"b":"\u00e9"}"#;
        let shown = text_of(&document(body, None, Masking::Open));
        assert_eq!(
            shown,
            "{\n  \"a\": 1.10,\n  \"a\": 123456789012345678901234,\n  \"b\": \"\\u00e9\"\n}\n"
        );
        let latin = document(b"{\n\"name\":\"caf\xe9\"}", None, Masking::Open);
        assert!(latin.problem.is_some_and(|text| text.contains("Byte 13")));
        assert_eq!(latin.lines[1].value, "\"name\":\"caf\\xE9\"}");
        assert!(latin.lines[1].is_marked);
    }

    #[test]
    fn a_body_that_is_no_json_is_text_and_never_shown_masked() {
        let broken = b"{\"mobile\":\n 9198 oops";
        let masked = document(broken, None, Masking::OfCommand);
        assert!(masked.lines.is_empty() && masked.problem.is_some());
        let open = document(broken, None, Masking::Open);
        assert!(open.lines[1].is_marked, "{open:?}");
        let deep = "[".repeat(100_000);
        assert!(document(deep.as_bytes(), None, Masking::Open).problem.is_some());
        let long = format!("[{}1]", "1,".repeat(10_000));
        assert!(document(long.as_bytes(), None, Masking::Open).is_cut);
    }
}
