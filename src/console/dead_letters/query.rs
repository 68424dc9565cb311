//! Filters as an address has them: kept through every click, to be passed on to a colleague.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use url::form_urlencoded::Serializer;

use crate::domain::dead_letter::State;
use crate::store::dead_letters::filter::{Cursor, Filter};

/// The word for letters of whatever state.
const ANY: &str = "any";
/// Longest text that is looked for.
const TEXT_CHARS_MAX: usize = 200;
/// Customers' keys that are looked for at a time.
const KEYS_MAX: usize = 20;

/// Ages that can be asked for.
pub(super) const AGES: [(&str, &str); 5] = [
    ("1h", "last hour"),
    ("24h", "last 24 hours"),
    ("7d", "last 7 days"),
    ("30d", "last 30 days"),
    ("", "any age"),
];

/// The filters of an address; empty ones restrict nothing.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub(in crate::console) struct Asked {
    pub(super) org: String,
    pub(super) operation: String,
    pub(super) reason: String,
    pub(super) group: String,
    pub(super) lane: String,
    /// Empty: open ones.
    pub(super) state: String,
    pub(super) age: String,
    pub(super) text: String,
    pub(super) command: String,
    pub(super) correlation: String,
    /// Keys of a customer: an identifier would be personal data.
    pub(super) customer: String,
    /// The place in the list.
    pub(super) after: String,
}

impl Asked {
    /// What is meant; parts that mean nothing restrict nothing.
    pub(super) fn filter(&self, now: DateTime<Utc>) -> Filter {
        let given = |text: &str| {
            let text: String = text.trim().chars().take(TEXT_CHARS_MAX).collect();
            Some(text).filter(|text| !text.is_empty())
        };
        Filter {
            org: given(&self.org),
            operation: given(&self.operation),
            reason: given(&self.reason),
            fingerprint: given(&self.group),
            lane: given(&self.lane),
            state: self.chosen_state(),
            since: span(&self.age).map(|span| now - span),
            text: given(&self.text),
            command_id: given(&self.command),
            correlation_id: given(&self.correlation),
            customer_keys: self.customer_keys(),
            ..Filter::default()
        }
    }

    fn chosen_state(&self) -> Option<State> {
        if self.state == ANY {
            return None;
        }
        Some(State::parse(&self.state).unwrap_or(State::Open))
    }

    fn customer_keys(&self) -> Vec<i64> {
        self.customer.split('.').filter_map(|key| key.parse().ok()).take(KEYS_MAX).collect()
    }

    pub(super) fn cursor(&self) -> Option<Cursor> {
        Cursor::parse(&self.after)
    }

    /// The state as its menu has it.
    pub(super) fn state_word(&self) -> &str {
        self.chosen_state().map_or(ANY, State::as_str)
    }

    /// Whether anything but the state and the group is asked for.
    pub(super) fn is_narrowed(&self) -> bool {
        let Self { group, state, after, .. } = self.clone();
        *self != Self { group, state, after, ..Self::default() }
    }

    /// What is asked for: names and values, without empty ones.
    pub(super) fn fields(&self) -> Vec<(&'static str, &str)> {
        let fields = [
            ("org", &self.org),
            ("operation", &self.operation),
            ("reason", &self.reason),
            ("group", &self.group),
            ("lane", &self.lane),
            ("state", &self.state),
            ("age", &self.age),
            ("text", &self.text),
            ("command", &self.command),
            ("correlation", &self.correlation),
            ("customer", &self.customer),
            ("after", &self.after),
        ];
        let fields = fields.into_iter().map(|(name, value)| (name, value.as_str()));
        fields.filter(|(_, value)| !value.is_empty()).collect()
    }

    /// As an address's query, with its question mark; empty if there is nothing to ask.
    pub(super) fn query(&self) -> String {
        let query = Serializer::new(String::new()).extend_pairs(self.fields()).finish();
        if query.is_empty() { query } else { format!("?{query}") }
    }

    /// Likewise, of another group, from its beginning; the same one again means all of them.
    pub(super) fn of_group(&self, fingerprint: &str) -> String {
        let group = if self.group == fingerprint { "" } else { fingerprint };
        Self { group: group.to_owned(), after: String::new(), ..self.clone() }.query()
    }

    /// Likewise, from another place on.
    pub(super) fn from(&self, after: &str) -> String {
        Self { after: after.to_owned(), ..self.clone() }.query()
    }
}

fn span(age: &str) -> Option<TimeDelta> {
    let (number, unit) = age.split_at_checked(age.len().checked_sub(1)?)?;
    let number: i64 = number.parse().ok().filter(|number| (1..=1_000).contains(number))?;
    match unit {
        "h" => Some(TimeDelta::hours(number)),
        "d" => Some(TimeDelta::days(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_its_filters() {
        let asked = Asked {
            org: "acme".into(),
            text: "a & b=c".into(),
            age: "24h".into(),
            customer: "-5.7".into(),
            after: "1-2".into(),
            ..Asked::default()
        };
        assert_eq!(asked.query(), "?org=acme&age=24h&text=a+%26+b%3Dc&customer=-5.7&after=1-2");
        assert_eq!(asked.from(""), "?org=acme&age=24h&text=a+%26+b%3Dc&customer=-5.7");
        let now = DateTime::from_timestamp(100_000, 0).unwrap();
        let filter = asked.filter(now);
        assert_eq!(filter.since, DateTime::from_timestamp(13_600, 0));
        assert_eq!(filter.customer_keys, [-5, 7]);
        assert_eq!(filter.state, Some(State::Open));
    }

    #[test]
    fn nonsense_restricts_nothing() {
        let asked = Asked { age: "é".into(), customer: "x".into(), ..Asked::default() };
        let now = DateTime::from_timestamp(0, 0).unwrap();
        assert_eq!(asked.filter(now), Filter { state: Some(State::Open), ..Filter::default() });
        let any = Asked { state: "any".into(), ..Asked::default() };
        assert_eq!(any.filter(now), Filter::default());
    }
}
