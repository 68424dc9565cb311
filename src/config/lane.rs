//! The lanes: which routing keys each takes, and how it treats its commands.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::Deserializer;

use crate::config::values;

/// The lane that takes whatever no other lane is bound to; it always exists.
pub const MAIN_LANE: &str = "main";

const NAME_CHARS_MAX: usize = 40;
/// AMQP's limit of a short string.
const BINDING_BYTES_MAX: usize = 255;
const PARKED_MAX: usize = 10_000;
/// What a command without a priority counts as.
const PRIORITY: u8 = 4;

/// A lane and the routing keys that it takes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "LaneTable")]
pub struct Lane {
    /// Lower-case letters, digits and hyphens, at most 40.
    pub name: String,
    /// Topic patterns such as `acme.*` or `acme.*.7`.
    pub bindings: Vec<String>,
    /// What becomes of a customer's later commands once one is dead-lettered. Default: `skip`.
    pub after_dead_letter: AfterDeadLetter,
    /// The message priority of the lane's commands; those without any count as 4. Default: 4.
    pub priority: u8,
    /// What becomes of a command with another priority, if the broker reorders by it. Default: `refuse`.
    pub other_priority: OtherPriority,
}

/// What becomes of a command whose priority moves it in its lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OtherPriority {
    /// It becomes a dead letter, which a replay puts in its place.
    #[default]
    Refuse,
    /// It takes effect where the broker delivers it, and a log line and a metric say so.
    Warn,
}

/// What becomes of a customer's later commands once one of them is a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterDeadLetter {
    /// They are applied.
    Skip,
    /// They are parked until the letter is replayed or discarded.
    HoldCustomer {
        /// Most commands that the lane parks; those beyond it are dead-lettered themselves, each at
        /// its place. Default: 10,000.
        parked_max: usize,
    },
}

/// A lane as the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table, [[lane]]")]
struct LaneTable {
    name: String,
    #[serde(default)]
    bindings: Vec<String>,
    #[serde(default)]
    after_dead_letter: AfterDeadLetterWord,
    #[serde(default, deserialize_with = "parked_max")]
    parked_max: Option<usize>,
    #[serde(default = "priority", deserialize_with = "values::whole::<0, 255, _, _>")]
    priority: u8,
    #[serde(default)]
    other_priority: OtherPriority,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum AfterDeadLetterWord {
    #[default]
    Skip,
    HoldCustomer,
}

fn parked_max<'de, D: Deserializer<'de>>(given: D) -> Result<Option<usize>, D::Error> {
    values::whole::<1, 1_000_000, _, _>(given).map(Some)
}

const fn priority() -> u8 {
    PRIORITY
}

impl Lane {
    /// The lane with every other setting at its default.
    #[must_use]
    pub fn new(name: String, bindings: Vec<String>) -> Self {
        Self {
            name,
            bindings,
            after_dead_letter: AfterDeadLetter::Skip,
            priority: PRIORITY,
            other_priority: OtherPriority::default(),
        }
    }
}

impl TryFrom<LaneTable> for Lane {
    type Error = String;

    fn try_from(table: LaneTable) -> Result<Self, String> {
        let LaneTable { name, bindings, priority, other_priority, .. } = table;
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(allowed) {
            return Err(format!(
                "`{name}` is no lane name; write 1 to 40 of the characters a-z, 0-9 and hyphen"
            ));
        }
        if name == MAIN_LANE && !bindings.is_empty() {
            return Err(format!(
                "lane `{name}` has bindings; leave them out: it takes whatever no other lane takes"
            ));
        }
        bindings.iter().try_for_each(|pattern| check_pattern(pattern))?;
        let after_dead_letter = match (table.after_dead_letter, table.parked_max) {
            (AfterDeadLetterWord::Skip, None) => AfterDeadLetter::Skip,
            (AfterDeadLetterWord::Skip, Some(_)) => {
                return Err(format!(
                    "lane `{name}` has parked_max, but parks no commands; leave it out, or write \
                     after_dead_letter = \"hold-customer\""
                ));
            }
            (AfterDeadLetterWord::HoldCustomer, parked_max) => {
                AfterDeadLetter::HoldCustomer { parked_max: parked_max.unwrap_or(PARKED_MAX) }
            }
        };
        Ok(Self { name, bindings, after_dead_letter, priority, other_priority })
    }
}

/// Whether the lanes can stand beside each other, each with its name and its patterns.
pub(super) fn check(lanes: &[Lane]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    let mut lane_of: BTreeMap<&str, &str> = BTreeMap::new();
    for Lane { name, bindings, .. } in lanes {
        if !seen.insert(name) {
            return Err(format!("lane `{name}` stands twice; put its bindings in one place"));
        }
        for pattern in bindings {
            if let Some(other) = lane_of.insert(pattern, name).filter(|other| other != name) {
                return Err(format!(
                    "`{pattern}` stands in lanes `{other}` and `{name}`; leave it out of one of them"
                ));
            }
        }
    }
    Ok(())
}

/// Whether a lane may be bound by the pattern.
pub(super) fn check_pattern(pattern: &str) -> Result<(), String> {
    if pattern == "#" {
        return Err(
            "the pattern `#` would take every command; leave it out: the lane `main` takes \
                    whatever no other lane takes"
                .to_owned(),
        );
    }
    let word_is_fine = |word: &str| {
        matches!(word, "*" | "#")
            || !word.is_empty() && !word.contains(['*', '#']) && !word.contains(char::is_whitespace)
    };
    if pattern.len() > BINDING_BYTES_MAX || !pattern.split('.').all(word_is_fine) {
        return Err(format!(
            "`{pattern}` is no topic pattern; write words between dots, e.g. `acme.*` or `acme.*.7`"
        ));
    }
    Ok(())
}
