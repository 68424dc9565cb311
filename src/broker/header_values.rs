//! Header values as JSON and back, without a loss.
//!
//! A value that JSON has, too, maps to the AMQP type that clients use for it: a text to a long string, a whole
//! number to a 64-bit integer, another number to a double, an object to a table. A value of any other
//! type is an object with one key, [`HEADER_TYPE`] and the type's name: `{"amqp:int32": 7}`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lapin::types::{AMQPValue, ByteArray, DecimalValue, FieldTable, LongString};
use serde_json::{Map, Number, Value, json};

use crate::message::HEADER_TYPE;

/// Deeper tables are cut: no publisher of ours nests, and a hostile one may not overflow us.
const DEPTH_MAX: usize = 8;

/// An AMQP value as JSON.
pub(super) fn json(value: &AMQPValue) -> Value {
    to_json(value, 0)
}

fn to_json(value: &AMQPValue, depth: usize) -> Value {
    if depth >= DEPTH_MAX {
        return Value::Null;
    }
    match value {
        AMQPValue::Boolean(value) => Value::Bool(*value),
        AMQPValue::ShortShortInt(value) => tagged("int8", *value),
        AMQPValue::ShortShortUInt(value) => tagged("uint8", *value),
        AMQPValue::ShortInt(value) => tagged("int16", *value),
        AMQPValue::ShortUInt(value) => tagged("uint16", *value),
        AMQPValue::LongInt(value) => tagged("int32", *value),
        AMQPValue::LongUInt(value) => tagged("uint32", *value),
        AMQPValue::LongLongInt(value) => Value::from(*value),
        // As text: no number of JSON is sure to be read as this one again.
        AMQPValue::Float(value) => tagged("float", value.to_string()),
        AMQPValue::Double(value) => double(*value),
        AMQPValue::DecimalValue(value) => {
            tagged("decimal", json!({ "scale": value.scale, "value": value.value }))
        }
        AMQPValue::ShortString(value) => tagged("short-string", value.to_string()),
        AMQPValue::LongString(value) => text(value.as_bytes()),
        AMQPValue::Timestamp(value) => tagged("timestamp", value.to_string()),
        AMQPValue::ByteArray(value) => tagged("bytes", STANDARD.encode(value.as_slice())),
        AMQPValue::FieldArray(values) => {
            Value::Array(values.as_slice().iter().map(|value| to_json(value, depth + 1)).collect())
        }
        AMQPValue::FieldTable(table) => {
            let fields = table.inner().iter();
            let fields: Map<String, Value> =
                fields.map(|(key, value)| (key.to_string(), to_json(value, depth + 1))).collect();
            // A publisher's table may look like a tag.
            if tag_of(&fields).is_some() {
                tagged("table", Value::Object(fields))
            } else {
                Value::Object(fields)
            }
        }
        AMQPValue::Void => Value::Null,
    }
}

fn tagged(kind: &str, value: impl Into<Value>) -> Value {
    Value::Object(Map::from_iter([(format!("{HEADER_TYPE}{kind}"), value.into())]))
}

/// A text of JSON that the database takes, or base64.
fn text(bytes: &[u8]) -> Value {
    match str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Value::from(text),
        Ok(_) | Err(_) => tagged("string", STANDARD.encode(bytes)),
    }
}

fn double(value: f64) -> Value {
    match Number::from_f64(value) {
        Some(number) if value.fract() != 0.0 && value.abs() < 1e15 => Value::Number(number),
        Some(_) | None => tagged("double", value.to_string()),
    }
}

/// The AMQP type and the value in an object whose only key names a type that JSON lacks.
fn tag_of(fields: &Map<String, Value>) -> Option<(&str, &Value)> {
    let (key, value) = fields.iter().next()?;
    (fields.len() == 1).then_some((key.strip_prefix(HEADER_TYPE)?, value))
}

/// JSON as an AMQP value; an object whose key names no known type is a table like others.
pub(super) fn amqp(value: &Value) -> AMQPValue {
    match value {
        Value::Null => AMQPValue::Void,
        Value::Bool(value) => AMQPValue::Boolean(*value),
        Value::Number(value) => match value.as_i64() {
            Some(integer) => AMQPValue::LongLongInt(integer),
            None => AMQPValue::Double(value.as_f64().unwrap_or_default()),
        },
        Value::String(text) => AMQPValue::LongString(LongString::from(text.as_str())),
        Value::Array(values) => {
            AMQPValue::FieldArray(values.iter().map(amqp).collect::<Vec<_>>().into())
        }
        Value::Object(fields) => tag_of(fields)
            .and_then(|(kind, value)| untagged(kind, value))
            .unwrap_or_else(|| AMQPValue::FieldTable(table(fields))),
    }
}

fn untagged(kind: &str, value: &Value) -> Option<AMQPValue> {
    let integer = || value.as_i64();
    let bytes = || STANDARD.decode(value.as_str()?).ok();
    Some(match kind {
        "int8" => AMQPValue::ShortShortInt(integer()?.try_into().ok()?),
        "uint8" => AMQPValue::ShortShortUInt(integer()?.try_into().ok()?),
        "int16" => AMQPValue::ShortInt(integer()?.try_into().ok()?),
        "uint16" => AMQPValue::ShortUInt(integer()?.try_into().ok()?),
        "int32" => AMQPValue::LongInt(integer()?.try_into().ok()?),
        "uint32" => AMQPValue::LongUInt(integer()?.try_into().ok()?),
        "float" => AMQPValue::Float(value.as_str()?.parse().ok()?),
        "double" => AMQPValue::Double(value.as_str()?.parse().ok()?),
        "decimal" => AMQPValue::DecimalValue(DecimalValue {
            scale: value.get("scale")?.as_u64()?.try_into().ok()?,
            value: value.get("value")?.as_u64()?.try_into().ok()?,
        }),
        "short-string" => AMQPValue::ShortString(value.as_str()?.into()),
        "string" => AMQPValue::LongString(LongString::from(bytes()?)),
        "timestamp" => AMQPValue::Timestamp(value.as_str()?.parse().ok()?),
        "bytes" => AMQPValue::ByteArray(ByteArray::from(bytes()?)),
        "table" => AMQPValue::FieldTable(table(value.as_object()?)),
        _ => return None,
    })
}

/// These fields as a table.
pub(super) fn table<'f>(fields: impl IntoIterator<Item = (&'f String, &'f Value)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in fields {
        table.insert(key.as_str().into(), amqp(value));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_comes_back_as_it_was() {
        let mut looks_tagged = FieldTable::default();
        looks_tagged.insert("amqp:int32".into(), AMQPValue::LongLongInt(7));
        let values = [
            AMQPValue::Boolean(true),
            AMQPValue::ShortShortInt(-8),
            AMQPValue::ShortShortUInt(200),
            AMQPValue::ShortInt(-300),
            AMQPValue::ShortUInt(60_000),
            AMQPValue::LongInt(-70_000),
            AMQPValue::LongUInt(4_000_000_000),
            AMQPValue::LongLongInt(i64::MIN),
            AMQPValue::Float(0.1),
            AMQPValue::Float(f32::INFINITY),
            AMQPValue::Double(1.5),
            AMQPValue::Double(5.0),
            AMQPValue::Double(1e300),
            AMQPValue::Double(-0.0),
            AMQPValue::Double(f64::NEG_INFINITY),
            AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 110 }),
            AMQPValue::LongString(LongString::from("text")),
            AMQPValue::LongString(LongString::from(b"caf\xe9".to_vec())),
            AMQPValue::LongString(LongString::from("nul \0")),
            AMQPValue::Timestamp(u64::MAX),
            AMQPValue::ByteArray(ByteArray::from(vec![0, 255])),
            AMQPValue::FieldArray(vec![AMQPValue::Void, AMQPValue::LongInt(1)].into()),
            AMQPValue::FieldTable(looks_tagged),
            AMQPValue::Void,
        ];
        for value in values {
            let text = json(&value).to_string();
            let read: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(amqp(&read), value, "{text}");
        }
        let Value::Object(odd) = json!({ "amqp:colour": 1, }) else { unreachable!() };
        assert_eq!(amqp(&Value::Object(odd.clone())), AMQPValue::FieldTable(table(&odd)));
    }
}
