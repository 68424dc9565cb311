//! Reading one value, from the file or from text, with what to write where it can't be taken.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use toml::Value;
use url::Url;

use crate::config::hosts::{each_host, lacks_a_host};
use crate::config::{
    AfterDeadLetter, Lane, LogFormat, MAIN_LANE, OtherPriority, Publishers, SecretUrl,
};

const LANE_NAME_MAX: usize = 40;
const LANE_KEYS: [&str; 6] =
    ["name", "bindings", "after_dead_letter", "parked_max", "priority", "other_priority"];
const PARKED_MAX: i64 = 1_000_000;
/// AMQP's limit of a short string.
const BINDING_BYTES_MAX: usize = 255;

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
    fn of(self, key: &str) -> Self {
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

pub(super) fn url(given: Given, schemes: &[&str], example: &str) -> Result<SecretUrl, Problem> {
    let text = string(given)?.trim().to_owned();
    if lacks_a_host(&text) {
        return problem("lacks a host before or behind a comma", example);
    }
    for host in each_host(&text) {
        match Url::parse(&host) {
            Ok(url) if schemes.contains(&url.scheme()) => {}
            Ok(url) => {
                return problem(format!("is an address of scheme `{}`", url.scheme()), example);
            }
            Err(error) => return problem(format!("is not an address: {error}"), example),
        }
    }
    Ok(SecretUrl(text))
}

pub(super) fn worker_id(given: Given) -> Result<String, Problem> {
    let id = string(given)?;
    if id.is_empty() || id.len() > 100 || id.chars().any(char::is_control) {
        return problem("is empty, too long or not printable", "write 1 to 100 printable bytes");
    }
    Ok(id)
}

pub(super) fn log_format(given: Given) -> Result<LogFormat, Problem> {
    match string(given)?.as_str() {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        other => problem(format!("`{other}` is no log format"), "write \"text\" or \"json\""),
    }
}

pub(super) fn lanes(given: Given) -> Result<Vec<Lane>, Problem> {
    let example = "write [[lane]] with name = \"acme\" and bindings = [\"acme.*\"]";
    let lanes: Vec<Lane> = match structured(given)? {
        Given::Text(text) => {
            groups(&text)?.into_iter().map(|(name, bindings)| Lane::new(name, bindings)).collect()
        }
        Given::Toml(Value::Array(tables)) => {
            tables.into_iter().map(lane_of_table).collect::<Result<_, _>>()?
        }
        Given::Toml(other) => return problem(format!("is of type {}", other.type_str()), example),
    };
    let mut seen = BTreeSet::new();
    let mut lane_of: BTreeMap<&str, &str> = BTreeMap::new();
    for Lane { name, bindings, .. } in &lanes {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > LANE_NAME_MAX || !name.chars().all(allowed) {
            let rule = "write 1 to 40 of the characters a-z, 0-9 and hyphen";
            return problem(format!("`{name}` is no lane name"), rule);
        }
        if !seen.insert(name) {
            return problem(format!("lane `{name}` stands twice"), "put its bindings in one place");
        }
        if name == MAIN_LANE && !bindings.is_empty() {
            let remedy = "leave them out: it takes whatever no other lane takes";
            return problem(format!("lane `{MAIN_LANE}` has bindings"), remedy);
        }
        for pattern in bindings {
            check_pattern(pattern)?;
            match lane_of.insert(pattern, name) {
                Some(other) if other != name => {
                    let remedy = "leave it out of one of them";
                    return problem(
                        format!("`{pattern}` stands in lanes `{other}` and `{name}`"),
                        remedy,
                    );
                }
                Some(_) | None => {}
            }
        }
    }
    Ok(lanes)
}

fn lane_of_table(value: Value) -> Result<Lane, Problem> {
    let Value::Table(mut table) = value else {
        return problem("a lane is not a table", "write [[lane]]");
    };
    let Some(name) = table.remove("name") else {
        return problem("a lane has no name", "add name = \"…\" to it");
    };
    let bindings = table.remove("bindings").map_or(Ok(Vec::new()), strings)?;
    let mut lane = Lane::new(string(Given::Toml(name))?, bindings);
    if let Some(given) = table.remove("after_dead_letter") {
        lane.after_dead_letter = match string(Given::Toml(given))?.as_str() {
            "skip" => AfterDeadLetter::Skip,
            "hold-customer" => AfterDeadLetter::HoldCustomer,
            other => {
                let remedy = "write after_dead_letter = \"skip\" or \"hold-customer\"";
                return problem(format!("`{other}` is nothing to do after a dead letter"), remedy);
            }
        };
    }
    if let Some(given) = table.remove("parked_max") {
        let number = integer(Given::Toml(given), 1..=PARKED_MAX);
        lane.parked_max = number.map_err(|problem| problem.of("parked_max"))?;
    }
    if let Some(given) = table.remove("priority") {
        let number = integer(Given::Toml(given), 0..=255);
        lane.priority = number.map_err(|problem| problem.of("priority"))?;
    }
    if let Some(given) = table.remove("other_priority") {
        lane.other_priority = match string(Given::Toml(given))?.as_str() {
            "refuse" => OtherPriority::Refuse,
            "warn" => OtherPriority::Warn,
            other => {
                let remedy = "write other_priority = \"refuse\" or \"warn\"";
                return problem(format!("`{other}` is nothing to do about priorities"), remedy);
            }
        };
    }
    if let Some(other) = table.keys().next() {
        let nearest = nearest(other, LANE_KEYS.map(str::to_owned).into_iter());
        return problem(format!("a lane has no key `{other}`"), format!("write `{nearest}`"));
    }
    Ok(lane)
}

/// Whether a lane may be bound by the pattern.
pub(super) fn check_pattern(pattern: &str) -> Result<(), Problem> {
    if pattern == "#" {
        let remedy = "leave it out: the lane `main` takes whatever no other lane takes";
        return problem("the pattern `#` would take every command", remedy);
    }
    let word_is_fine = |word: &str| {
        matches!(word, "*" | "#")
            || !word.is_empty() && !word.contains(['*', '#']) && !word.contains(char::is_whitespace)
    };
    if pattern.len() > BINDING_BYTES_MAX || !pattern.split('.').all(word_is_fine) {
        let remedy = "write words between dots, e.g. `acme.*` or `acme.*.7`";
        return problem(format!("`{pattern}` is no topic pattern"), remedy);
    }
    Ok(())
}

pub(super) fn publishers(given: Given) -> Result<Publishers, Problem> {
    let example = "write [publishers] with user = [\"org\"]";
    let pairs = match structured(given)? {
        Given::Text(text) => groups(&text)?,
        Given::Toml(Value::Table(table)) => table
            .into_iter()
            .map(|(user, orgs)| Ok((user, strings(orgs)?)))
            .collect::<Result<_, _>>()?,
        Given::Toml(other) => return problem(format!("is of type {}", other.type_str()), example),
    };
    let mut publishers = Publishers::new();
    for (user, orgs) in pairs {
        publishers.entry(user).or_default().extend(orgs);
    }
    Ok(publishers)
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
fn groups(text: &str) -> Result<Vec<(String, Vec<String>)>, Problem> {
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

fn strings(value: Value) -> Result<Vec<String>, Problem> {
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
