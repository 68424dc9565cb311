//! Reading one value, from the file or from text, with what to write where it can't be taken.

use std::ops::RangeInclusive;

use toml::Value;

/// A value as the file or the environment has it.
pub(super) enum Given {
    Toml(Value),
    Text(String),
}

/// What is wrong with a value, and what to write instead.
pub(super) struct Problem {
    pub(super) problem: String,
    pub(super) remedy: String,
}

impl Problem {
    /// The same, of a key in a table.
    pub(super) fn of(self, key: &str) -> Self {
        Self { problem: format!("{key}: {}", self.problem), remedy: self.remedy }
    }
}

pub(super) fn problem<T>(
    problem: impl Into<String>,
    remedy: impl Into<String>,
) -> Result<T, Problem> {
    Err(Problem { problem: problem.into(), remedy: remedy.into() })
}

pub(super) fn string(given: Given) -> Result<String, Problem> {
    match given {
        Given::Text(text) | Given::Toml(Value::String(text)) => Ok(text),
        Given::Toml(other) => {
            problem(format!("is of type {}", other.type_str()), "write a string in quotes")
        }
    }
}

pub(super) fn integer<T: TryFrom<i64>>(
    given: Given,
    range: RangeInclusive<i64>,
) -> Result<T, Problem> {
    let remedy = format!("write a whole number from {} to {}", range.start(), range.end());
    let number = match given {
        Given::Toml(Value::Integer(number)) => number,
        Given::Toml(other) => return problem(format!("is of type {}", other.type_str()), remedy),
        Given::Text(text) => match text.trim().parse() {
            Ok(number) => number,
            Err(_) => return problem(format!("`{text}` is not a whole number"), remedy),
        },
    };
    if range.contains(&number)
        && let Ok(taken) = T::try_from(number)
    {
        return Ok(taken);
    }
    problem(format!("{number} is out of range"), remedy)
}

pub(super) fn boolean(given: Given) -> Result<bool, Problem> {
    let remedy = "write true or false";
    match given {
        Given::Toml(Value::Boolean(value)) => Ok(value),
        Given::Toml(other) => problem(format!("is of type {}", other.type_str()), remedy),
        Given::Text(text) => match text.trim() {
            "true" => Ok(true),
            "false" => Ok(false),
            other => problem(format!("`{other}` is neither true nor false"), remedy),
        },
    }
}

pub(super) fn worker_id(given: Given) -> Result<String, Problem> {
    let id = string(given)?;
    if id.is_empty() || id.len() > 100 || id.chars().any(char::is_control) {
        return problem("is empty, too long or not printable", "write 1 to 100 printable bytes");
    }
    Ok(id)
}

/// Text that is JSON becomes the structure that the file would have.
pub(super) fn structured(given: Given) -> Result<Given, Problem> {
    match given {
        Given::Text(text) if text.trim_start().starts_with(['[', '{']) => {
            match serde_json::from_str(&text) {
                Ok(value) => Ok(Given::Toml(value)),
                Err(error) => problem(
                    format!("is not JSON at column {}", error.column()),
                    "write JSON, or `name=value,value;name2=value`",
                ),
            }
        }
        other => Ok(other),
    }
}

/// `name=value,value;name2=value`
pub(super) fn groups(text: &str) -> Result<Vec<(String, Vec<String>)>, Problem> {
    let trimmed = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    text.split(';')
        .filter_map(trimmed)
        .map(|group| match group.split_once('=') {
            Some((name, values)) => {
                Ok((name.trim().to_owned(), values.split(',').filter_map(trimmed).collect()))
            }
            None => {
                problem(format!("`{group}` has no `=`"), "write `name=value,value;name2=value`")
            }
        })
        .collect()
}

pub(super) fn strings(value: Value) -> Result<Vec<String>, Problem> {
    match value {
        Value::Array(values) => {
            values.into_iter().map(|value| string(Given::Toml(value))).collect()
        }
        other => problem(format!("is of type {}", other.type_str()), "write a list: [\"…\"]"),
    }
}

pub(super) fn nearest(given: &str, known: impl Iterator<Item = String>) -> String {
    known.min_by_key(|candidate| strsim::levenshtein(given, candidate)).unwrap_or_default()
}
