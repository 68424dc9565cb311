//! JSON laid out for reading: indented, with short objects kept on one line.

use serde_json::Value;

/// Objects without objects in them stay on one line up to this length.
const LINE_CHARS: usize = 40;
const INDENT: &str = " ";

/// The document laid out; `None` if it is no JSON.
pub(super) fn indented(json: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(json).ok()?;
    Some(layout(&value, 0))
}

fn layout(value: &Value, depth: usize) -> String {
    let short = value.to_string();
    let fits = short.chars().count() + INDENT.len() * depth <= LINE_CHARS;
    let inside = |parts: Vec<String>| {
        let (inner, outer) = (INDENT.repeat(depth + 1), INDENT.repeat(depth));
        format!("\n{inner}{}\n{outer}", parts.join(&format!(",\n{inner}")))
    };
    match value {
        Value::Object(pairs) if !(fits && pairs.values().all(is_scalar)) => {
            let parts = pairs.iter();
            let parts =
                parts.map(|(name, value)| format!("\"{name}\": {}", layout(value, depth + 1)));
            format!("{{{}}}", inside(parts.collect()))
        }
        Value::Array(values) if !values.is_empty() => {
            format!("[{}]", inside(values.iter().map(|value| layout(value, depth + 1)).collect()))
        }
        _ => short,
    }
}

fn is_scalar(value: &Value) -> bool {
    !value.is_object() && !value.is_array()
}
