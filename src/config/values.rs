//! Values that are more than their type, each with what to write where it can't be taken.
//!
//! A variable is always text, so text that holds a number is a number, in the file, too.

use std::collections::BTreeMap;

use serde::de::{Deserialize, Deserializer, Error};
use toml::{Table, Value};

/// How tables are written in the environment.
const TABLE_FORMS: &str = "write JSON, or `name=value,value;name2=value`";

/// A number from `MIN` to `MAX`.
pub(super) fn whole<'de, const MIN: i64, const MAX: i64, T, D>(given: D) -> Result<T, D::Error>
where
    T: TryFrom<i64>,
    D: Deserializer<'de>,
{
    let value = Value::deserialize(given)?;
    let number = match &value {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_integer(),
    };
    let in_range = number.filter(|number| (MIN..=MAX).contains(number));
    in_range.and_then(|number| T::try_from(number).ok()).ok_or_else(|| {
        D::Error::custom(format!(
            "{value} can't be taken; write a whole number from {MIN} to {MAX}"
        ))
    })
}

pub(super) fn flag<'de, D: Deserializer<'de>>(given: D) -> Result<bool, D::Error> {
    let value = Value::deserialize(given)?;
    let text = value.as_str().and_then(|text| text.trim().parse().ok());
    text.or(value.as_bool())
        .ok_or_else(|| D::Error::custom(format!("{value} can't be taken; write true or false")))
}

/// Text of which `parse` makes something; `problem` also says what to write.
pub(super) fn text<'de, T, D: Deserializer<'de>>(
    given: D,
    problem: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, D::Error> {
    parse(&String::deserialize(given)?).ok_or_else(|| D::Error::custom(problem))
}

/// What logs and the audit call a worker or a user.
pub(super) fn name<'de, D: Deserializer<'de>>(given: D) -> Result<String, D::Error> {
    let problem = "is empty, too long or not printable; write 1 to 100 printable bytes";
    text(given, problem, |name| {
        let is_fine = (1..=100).contains(&name.len()) && !name.contains(char::is_control);
        is_fine.then(|| name.to_owned())
    })
}

/// The value of a variable: text, but for the keys that are tables.
pub(super) fn of_variable(key: &str, text: String) -> Result<Value, String> {
    match key {
        "lane" | "publishers" | "console" if text.trim_start().starts_with(['[', '{']) => {
            serde_json::from_str(&text)
                .map_err(|error| format!("is not JSON at column {}; {TABLE_FORMS}", error.column()))
        }
        "lane" => {
            let lanes = groups(&text)?.into_iter().map(|(name, bindings)| {
                Table::from_iter([
                    ("name".into(), name.into()),
                    ("bindings".into(), bindings.into()),
                ])
            });
            Ok(lanes.collect::<Vec<_>>().into())
        }
        "publishers" => {
            let mut orgs_of = BTreeMap::<_, Vec<_>>::new();
            for (user, orgs) in groups(&text)? {
                orgs_of.entry(user).or_default().extend(orgs);
            }
            Ok(orgs_of.into())
        }
        _ => Ok(text.into()),
    }
}

/// `name=value,value;name2=value`
fn groups(text: &str) -> Result<Vec<(String, Vec<String>)>, String> {
    let trimmed = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    text.split(';')
        .filter_map(trimmed)
        .map(|group| {
            let (name, values) =
                group.split_once('=').ok_or(format!("`{group}` has no `=`; {TABLE_FORMS}"))?;
            Ok((name.trim().to_owned(), values.split(',').filter_map(trimmed).collect()))
        })
        .collect()
}
