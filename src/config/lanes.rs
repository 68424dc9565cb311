//! Lanes and publishers as the file or the environment has them.

use std::collections::{BTreeMap, BTreeSet};

use toml::Value;

use crate::config::values::{
    Given, Problem, groups, integer, nearest, problem, string, strings, structured,
};
use crate::config::{AfterDeadLetter, Lane, MAIN_LANE, OtherPriority, Publishers};

const LANE_NAME_MAX: usize = 40;
const LANE_KEYS: [&str; 6] =
    ["name", "bindings", "after_dead_letter", "parked_max", "priority", "other_priority"];
const PARKED_MAX: i64 = 1_000_000;
/// AMQP's limit of a short string.
const BINDING_BYTES_MAX: usize = 255;

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
