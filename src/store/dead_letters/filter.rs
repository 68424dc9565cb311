//! Which letters are meant, and where a page of them goes on.

use std::fmt::{self, Display, Write as _};

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::domain::dead_letter::State;
use crate::store::connection::Connection;
use crate::store::error::Error;
use crate::store::text::replace_nul;

/// Which letters are meant; what is not set restricts nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// These letters; empty: any.
    pub ids: Vec<Uuid>,
    /// The org's code, as the routing key had it.
    pub org: Option<String>,
    /// `link`, `update`, `delink` or `unknown`.
    pub operation: Option<String>,
    /// A word of the contract, or the broker's.
    pub reason: Option<String>,
    /// The group.
    pub fingerprint: Option<String>,
    /// The lane that it died in.
    pub lane: Option<String>,
    /// Where it stands.
    pub state: Option<State>,
    /// Died at this moment or later.
    pub since: Option<DateTime<Utc>>,
    /// Died before.
    pub until: Option<DateTime<Utc>>,
    /// Stands in the detail, in whatever case.
    pub text: Option<String>,
    /// The publisher's message id.
    pub command_id: Option<String>,
    /// As the publisher set it.
    pub correlation_id: Option<String>,
    /// Any of these customers is named, see `wire::dead_letter::search_keys`; empty: any letter.
    pub customer_keys: Vec<i64>,
}

/// A place in a list: that of the last letter of a page. As text it fits into a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// When that letter died.
    pub died_at: DateTime<Utc>,
    /// Its number among all letters.
    pub sequence: i64,
}

impl Filter {
    /// These letters and no others.
    #[must_use]
    pub fn of_ids(ids: Vec<Uuid>) -> Self {
        Self { ids, ..Self::default() }
    }

    /// The letters of a group.
    #[must_use]
    pub fn of_group(fingerprint: impl Into<String>) -> Self {
        Self { fingerprint: Some(fingerprint.into()), ..Self::default() }
    }

    /// Whether the kept counts of groups can answer.
    fn is_of_groups(&self) -> bool {
        let Self { org, operation, reason, fingerprint, state, text, .. } = self.clone();
        // The groups have no numbers.
        let text = text.filter(|text| !text.contains(|c: char| c.is_ascii_digit()));
        *self == Self { org, operation, reason, fingerprint, state, text, ..Self::default() }
    }

    /// Whether they do: letters of an org that the catalogue does not have are counted under none.
    pub(super) async fn is_counted(&self, connection: &mut Connection) -> Result<bool, Error> {
        if !self.is_of_groups() {
            return Ok(false);
        }
        let Some(org) = &self.org else { return Ok(true) };
        let is_known = sqlx::query_scalar!(
            r#"select exists (select from org where code = $1) as "is_known!""#,
            replace_nul(org)
        );
        Ok(is_known.fetch_one(connection).await?)
    }

    /// As the database's function wants it: with the groups that the letters can be of.
    pub(super) async fn resolve(&self, connection: &mut Connection) -> Result<Value, Error> {
        let mut json = self.to_json();
        if self.operation.is_some() || self.reason.is_some() || self.text.is_some() {
            let fingerprints = sqlx::query_scalar!(
                r#"select array_agg(distinct fingerprint)::text from dead_letter_group
                where ($1::text is null or operation = $1) and ($2::text is null or reason = $2)
                    and ($3::text is null or strpos(detail, dead_letter_normalised($3)) > 0)"#,
                self.operation.as_deref().map(replace_nul),
                self.reason.as_deref().map(replace_nul),
                self.text.as_deref().map(replace_nul),
            )
            .fetch_one(connection)
            .await?;
            json["fingerprints"] = fingerprints.unwrap_or_else(|| "{}".to_owned()).into();
        }
        Ok(json)
    }

    /// As an operation's row has it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let moment =
            |at: DateTime<Utc>| Value::from(at.to_rfc3339_opts(SecondsFormat::Micros, true));
        let text = |text: &Option<String>| text.clone().map(|text| replace_nul(&text).into());
        let fields = [
            ("ids", array(&self.ids)),
            ("org", text(&self.org)),
            ("operation", text(&self.operation)),
            ("reason", text(&self.reason)),
            ("fingerprint", text(&self.fingerprint)),
            ("lane", text(&self.lane)),
            ("state", self.state.map(|state| state.as_str().into())),
            ("since", self.since.map(moment)),
            ("until", self.until.map(moment)),
            ("text", text(&self.text)),
            ("command_id", text(&self.command_id)),
            ("correlation_id", text(&self.correlation_id)),
            ("customer_keys", array(&self.customer_keys)),
        ];
        let given = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Value::Object(given.collect::<Map<_, _>>())
    }

    /// The inverse of [`to_json`](Self::to_json); `None` for what another version wrote.
    #[must_use]
    pub fn from_json(json: &Value) -> Option<Self> {
        let text = |name: &str| json.get(name).and_then(Value::as_str).map(str::to_owned);
        let moment = |name: &str| match text(name) {
            Some(text) => DateTime::parse_from_rfc3339(&text).ok().map(|at| Some(at.to_utc())),
            None => Some(None),
        };
        let parsed = Self {
            ids: elements(text("ids"))?,
            org: text("org"),
            operation: text("operation"),
            reason: text("reason"),
            fingerprint: text("fingerprint"),
            lane: text("lane"),
            state: match text("state") {
                Some(word) => Some(State::parse(&word)?),
                None => None,
            },
            since: moment("since")?,
            until: moment("until")?,
            text: text("text"),
            command_id: text("command_id"),
            correlation_id: text("correlation_id"),
            customer_keys: elements(text("customer_keys"))?,
        };
        // A key that this version does not know would widen what is meant.
        (parsed.to_json() == *json).then_some(parsed)
    }
}

impl Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.died_at.timestamp_micros(), self.sequence)
    }
}

impl Cursor {
    /// The inverse of its text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (died_at, sequence) = text.split_once('-')?;
        Some(Self {
            died_at: DateTime::from_timestamp_micros(died_at.parse().ok()?)?,
            sequence: sequence.parse().ok()?,
        })
    }
}

/// An array literal; none for an empty one.
fn array<T: Display>(elements: &[T]) -> Option<Value> {
    let mut literal = String::from("{");
    for (place, element) in elements.iter().enumerate() {
        let separator = if place == 0 { "" } else { "," };
        // Writing to a String can't fail.
        let _infallible = write!(literal, "{separator}{element}");
    }
    literal.push('}');
    (!elements.is_empty()).then(|| literal.into())
}

fn elements<T: std::str::FromStr>(literal: Option<String>) -> Option<Vec<T>> {
    let Some(literal) = literal else { return Some(Vec::new()) };
    let inner = literal.strip_prefix('{')?.strip_suffix('}')?;
    inner.split(',').map(|element| element.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_reads_back_and_nothing_else_passes_for_one() {
        let filter = Filter {
            ids: vec![Uuid::from_u128(1), Uuid::from_u128(2)],
            org: Some("acme".into()),
            state: Some(State::Open),
            since: DateTime::from_timestamp_micros(1_700_000_000_000_001),
            text: Some("a,b}\"".into()),
            customer_keys: vec![-1, 2],
            ..Filter::default()
        };
        assert_eq!(Filter::from_json(&filter.to_json()), Some(filter));
        assert_eq!(Filter::from_json(&Filter::default().to_json()), Some(Filter::default()));
        for other in [r#"{"color":"red"}"#, r#"{"state":"lost"}"#, r#"{"org":1}"#, "[]", "null"] {
            assert_eq!(Filter::from_json(&serde_json::from_str(other).unwrap()), None, "{other}");
        }
    }

    #[test]
    fn a_cursor_reads_back() {
        let died_at = DateTime::from_timestamp_micros(1_700_000_000_000_001).unwrap();
        let cursor = Cursor { died_at, sequence: 42 };
        assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
        assert_eq!(Cursor::parse("1700000000"), None);
    }
}
