//! The text of a JSON document, whose values and keys stay as they were sent: `1.10` is no `1.1`, and of two
//! equal keys none is lost. Only the white space between tokens changes.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde::de::IgnoredAny;
use similar::{Algorithm, DiffOp, capture_diff_slices_deadline};

/// How long the edited places are looked for.
const DIFF_MAX: Duration = Duration::from_secs(1);
/// White space of a level.
const INDENT: &str = "  ";

/// A token with the white space before it.
#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    before: &'a str,
    text: &'a str,
}

/// Deeper documents are not taken apart.
const DEPTH_MAX: usize = 128;

/// A value of a document, in the words of its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node<'a> {
    /// A text in its quotes, a number or a word.
    Scalar(&'a str),
    /// A list.
    Array(Vec<Node<'a>>),
    /// Keys in their quotes, in their order, each as often as it occurs.
    Object(Vec<(&'a str, Node<'a>)>),
}

/// Takes a document apart; nothing if it is no JSON.
#[must_use]
pub fn parsed(text: &str) -> Option<Node<'_>> {
    node(&mut tokens(text)?.into_iter().map(|token| token.text).peekable(), 0)
}

fn node<'a>(
    tokens: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>,
    depth: usize,
) -> Option<Node<'a>> {
    if depth > DEPTH_MAX {
        return None;
    }
    match tokens.next()? {
        "[" => {
            let mut values = Vec::new();
            while tokens.next_if(|token| *token == "]").is_none() {
                values.push(node(tokens, depth + 1)?);
                tokens.next_if(|token| *token == ",");
            }
            Some(Node::Array(values))
        }
        "{" => {
            let mut fields = Vec::new();
            while tokens.next_if(|token| *token == "}").is_none() {
                let key = tokens.next()?;
                tokens.next_if(|token| *token == ":")?;
                fields.push((key, node(tokens, depth + 1)?));
                tokens.next_if(|token| *token == ",");
            }
            Some(Node::Object(fields))
        }
        scalar => Some(Node::Scalar(scalar)),
    }
}

/// The text of a key or a value in its quotes, as it is meant.
#[must_use]
pub fn unquoted(text: &str) -> String {
    serde_json::from_str(text).unwrap_or_else(|_| text.to_owned())
}

/// Why a body can't be shown as text that stands for all of its bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotText {
    /// It is of another encoding, or none.
    #[error("byte {0} of the body is no UTF-8")]
    Encoding(usize),
    /// An editor or a browser would change it.
    #[error("byte {0} of the body is a control character, which an editor may change")]
    Control(usize),
}

/// The body as text, if it is text that an editor gives back as it was.
pub fn text(body: &[u8]) -> Result<&str, NotText> {
    let text = str::from_utf8(body).map_err(|error| NotText::Encoding(error.valid_up_to()))?;
    let control = |(_, c): &(usize, char)| c.is_control() && !matches!(c, '\n' | '\t');
    match text.char_indices().find(control) {
        // Between the tokens of JSON it says nothing.
        Some((_, '\r')) if is_json(text) => Ok(text),
        Some((at, _)) => Err(NotText::Control(at)),
        None => Ok(text),
    }
}

/// All bytes, readable: what is no text stands as `\xE9`. The place of the first such byte comes with it.
#[must_use]
pub fn escaped(body: &[u8]) -> (String, Option<usize>) {
    let mut text = String::with_capacity(body.len());
    for chunk in body.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a String can't fail.
            let _infallible = write!(text, "\\x{byte:02X}");
        }
    }
    let first = str::from_utf8(body).err().map(|error| error.valid_up_to());
    (text, first)
}

/// The text over several lines, if it is JSON; any other as it is.
#[must_use]
pub fn readable(text: &str) -> String {
    indented(text).unwrap_or_else(|| text.to_owned())
}

fn indented(text: &str) -> Option<String> {
    let tokens = tokens(text)?;
    let mut out = String::with_capacity(text.len() * 2);
    let mut depth = 0_usize;
    let mut previous = "";
    for Token { text, .. } in tokens {
        let opens = matches!(previous, "{" | "[");
        let closes = matches!(text, "}" | "]");
        if closes {
            depth = depth.saturating_sub(1);
        }
        if (opens && !closes) || previous == "," || (closes && !opens) {
            out.push('\n');
            out.push_str(&INDENT.repeat(depth));
        } else if previous == ":" {
            out.push(' ');
        }
        out.push_str(text);
        if matches!(text, "{" | "[") {
            depth += 1;
        }
        previous = text;
    }
    Some(out)
}

/// The edited text with all that was not edited as it was in the original, byte for byte. Where one of the
/// two is no JSON it is the edited text.
#[must_use]
pub fn merged(original: &str, edited: &str) -> String {
    let (Some(before), Some(after)) = (tokens(original), tokens(edited)) else {
        return edited.to_owned();
    };
    let texts = |tokens: &[Token<'_>]| tokens.iter().map(|token| token.text.to_owned()).collect();
    let (old, new): (Vec<String>, Vec<String>) = (texts(&before), texts(&after));
    let mut out = String::with_capacity(original.len());
    // Beyond it the parts around the edit are kept all the same, and fewer in between.
    let deadline = Some(Instant::now() + DIFF_MAX);
    for operation in capture_diff_slices_deadline(Algorithm::Myers, &old, &new, deadline) {
        let (kept, space) = match operation {
            DiffOp::Equal { old_index, len, .. } => (&before[old_index..old_index + len], None),
            DiffOp::Insert { new_index, new_len, .. } => {
                (&after[new_index..new_index + new_len], None)
            }
            // What stands in the place of something else stands as far from what is before it.
            DiffOp::Replace { old_index, new_index, new_len, .. } => {
                (&after[new_index..new_index + new_len], Some(before[old_index].before))
            }
            DiffOp::Delete { .. } => (&after[..0], None),
        };
        for (number, token) in kept.iter().enumerate() {
            out.push_str(space.filter(|_| number == 0).unwrap_or(token.before));
            out.push_str(token.text);
        }
    }
    let end = |text: &str| text.len() - text.trim_ascii_end().len();
    out.push_str(&original[original.len() - end(original)..]);
    out
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// The tokens of a JSON document; nothing if it is none.
fn tokens(text: &str) -> Option<Vec<Token<'_>>> {
    if !is_json(text) {
        return None;
    }
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let begin = at;
        while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        let start = at;
        match bytes.get(at)? {
            b'{' | b'}' | b'[' | b']' | b',' | b':' => at += 1,
            b'"' => {
                at += 1;
                while *bytes.get(at)? != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            _ => {
                let ends = |byte: &u8| byte.is_ascii_whitespace() || b"{}[],:\"".contains(byte);
                at += bytes[at..].iter().position(ends).unwrap_or(bytes.len() - at);
            }
        }
        tokens.push(Token { before: &text[begin..start], text: &text[start..at] });
        if text[at..].trim_ascii().is_empty() {
            break;
        }
    }
    Some(tokens)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn values_and_keys_stay_as_they_were_sent() {
        let sent = r#"{"a":1.10,"a":123456789012345678901234,"b":[],"c":{},"d":["\u00e9",-0,1E2]}"#;
        let shown = indented(sent).unwrap();
        assert_eq!(
            shown,
            "{\n  \"a\": 1.10,\n  \"a\": 123456789012345678901234,\n  \"b\": [],\n  \"c\": {},\n  \"d\": [\n    \"\\u00e9\",\n    -0,\n    1E2\n  ]\n}"
        );
        assert_eq!(merged(sent, &shown), sent, "nothing was edited");
        let edited = shown.replace("1.10", "1.20").replace('\n', "\r\n");
        assert_eq!(merged(sent, &edited), sent.replace("1.10", "1.20"));
        assert_eq!(indented("{\"a\":"), None);
        assert_eq!(merged("{\"a\":", "{ }"), "{ }");
    }

    #[test]
    fn what_is_no_text_is_told_with_its_place() {
        assert_eq!(text(b"caf\xe9"), Err(NotText::Encoding(3)));
        assert_eq!(text(b"a\0"), Err(NotText::Control(1)));
        assert_eq!(text(b"no json\r\n"), Err(NotText::Control(7)));
        assert_eq!(text(b"{\r\n}"), Ok("{\r\n}"));
        assert_eq!(escaped(b"caf\xe9!"), ("caf\\xE9!".to_owned(), Some(3)));
    }

    proptest! {
        #[test]
        fn an_unedited_document_is_the_same_to_the_byte(
            keys in proptest::collection::vec("[a-z\"\\\\{é]{0,4}", 0..6),
            numbers in proptest::collection::vec(any::<f64>(), 0..6),
            space in "[ \n\t\r]{0,3}",
        ) {
            let fields: Vec<String> = keys
                .iter()
                .zip(numbers.iter().chain(&[0.5]).cycle())
                .map(|(key, number)| {
                    let key = serde_json::to_string(key).unwrap();
                    format!("{space}{key}{space}:{}{space}", if number.is_finite() { *number } else { 1.0 })
                })
                .collect();
            let sent = format!("{space}[{{{}}}]{space}", fields.join(","));
            let shown = indented(&sent).unwrap();
            prop_assert_eq!(merged(&sent, &shown), sent);
        }
    }
}
