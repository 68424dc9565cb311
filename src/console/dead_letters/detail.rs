//! All that is known of one dead letter, as far as the user may see it.

use std::collections::BTreeSet;

use serde_json::Value;
use uuid::Uuid;

use crate::console::database::PooledConnection;
use crate::console::error::Failure;
use crate::console::json::{self, Document, MASK, Masking};
use crate::console::time_format::grouped;
use crate::domain::dead_letter::State;
use crate::domain::identity::{CustomerId, Email, ExternalId, Lookup, Mobile};
use crate::domain::names::{CUSTOMER, EMAIL, EXTERNAL_ID, ID, MOBILE};
use crate::store::dead_letters::audit::{self, Action};
use crate::store::dead_letters::show::{self, Letter};
use crate::store::lookup::{self, Customer, Enrolment, Org};
use crate::usecases::dead_letters::eligible;

/// Customers of a body that are looked up.
const CUSTOMERS_MAX: usize = 5;
/// Longest value of a property that is shown, in characters.
const VALUE_CHARS_MAX: usize = 300;
/// Headers of the publisher's that name no customer.
const NOBODYS_HEADERS: [&str; 3] = ["traceparent", "tracestate", "content-version"];

/// A letter and what is around it.
pub(super) struct Detail {
    pub(super) letter: Letter,
    pub(super) body: Document,
    pub(super) body_bytes: usize,
    /// Names and values.
    pub(super) properties: Vec<(String, String)>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) provenance: Vec<(String, String)>,
    pub(super) timeline: Vec<Action>,
    pub(super) customers: Vec<Named>,
    pub(super) customers_left_out: usize,
}

/// A customer whom the body names, and how they stand now.
pub(super) struct Named {
    /// Where in the body.
    pub(super) place: usize,
    /// `None`: no customer has these identifiers.
    pub(super) customer: Option<Customer>,
    pub(super) enrolments: Vec<Enrolment>,
}

impl Detail {
    pub(super) fn may_be_discarded(&self) -> bool {
        self.letter.state == State::Open
    }

    /// Likewise, whether a copy may be edited.
    pub(super) fn may_be_replayed(&self) -> bool {
        self.letter.state == State::Open && self.whole_body().is_none()
    }

    /// Of a body that was cut: how many bytes it had, and the hash of them.
    pub(super) fn whole_body(&self) -> Option<(String, &str)> {
        let (length, hash) = eligible::whole_body(&self.letter)?;
        Some((grouped(i64::try_from(length).unwrap_or(i64::MAX)), hash))
    }

    pub(super) fn may_be_restored(&self) -> bool {
        matches!(self.letter.state, State::Discarded | State::Replayed)
    }

    /// The same on the command line; the id holds no character that a shell minds.
    pub(super) fn command_line(&self) -> String {
        let id = self.letter.id;
        match self.letter.state {
            State::Open if self.may_be_replayed() => {
                format!("partner-program dead-letters replay {id} --reason '…'")
            }
            State::Open => {
                format!("partner-program dead-letters discard {id} --reason '…'")
            }
            _ => format!("partner-program dead-letters show {id}"),
        }
    }

    pub(super) fn is_masked(&self) -> bool {
        self.body.is_masked
    }
}

/// Loads the letter and all around it; `open`: with personal data.
pub(super) async fn load(
    connection: &mut PooledConnection<'_>,
    id: Uuid,
    open: bool,
) -> Result<Detail, Failure> {
    let letter = show::show(connection, id)
        .await?
        .ok_or_else(|| Failure::NotFound(format!("There is no dead letter {id}.")))?;
    let timeline = audit::timeline(connection, id).await?;
    let (customers, customers_left_out) = customers(connection, &letter, open).await?;
    let masking = if open { Masking::Open } else { Masking::OfCommand };
    let nobodys = |name: &str| NOBODYS_HEADERS.contains(&name);
    Ok(Detail {
        body: json::document(&letter.body, letter.pointer.as_deref(), masking),
        body_bytes: letter.body.len(),
        properties: pairs(&letter.properties, |name| open || name != "reply_to"),
        headers: pairs(&letter.headers, |name| open || nobodys(name)),
        provenance: pairs(&letter.provenance, |_| true),
        timeline,
        customers,
        customers_left_out,
        letter,
    })
}

fn pairs(object: &Value, shows: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let pair = |(name, value): (&String, &Value)| {
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let text =
            if shows(name) { text.chars().take(VALUE_CHARS_MAX).collect() } else { MASK.into() };
        (name.clone(), text)
    };
    object.as_object().into_iter().flatten().map(pair).collect()
}

/// The customers whom the body names, as far as it can be read, and how many more there are.
async fn customers(
    connection: &mut PooledConnection<'_>,
    letter: &Letter,
    open: bool,
) -> Result<(Vec<Named>, usize), Failure> {
    let Some(org) = org_of(connection, letter).await? else { return Ok((Vec::new(), 0)) };
    let lookups = lookups(&letter.body);
    let left_out = lookups.len().saturating_sub(CUSTOMERS_MAX);
    let mut named = Vec::new();
    let mut seen = BTreeSet::new();
    for (place, lookup) in lookups.into_iter().take(CUSTOMERS_MAX) {
        let customer = lookup::customer(connection, &org, &lookup).await?;
        let enrolments = match &customer {
            Some(customer) if !seen.insert(customer.id) => continue,
            Some(customer) => lookup::enrolments(connection, org.id, customer.id).await?,
            None => Vec::new(),
        };
        let mut enrolments = enrolments;
        if !open {
            for enrolment in &mut enrolments {
                enrolment.membership_id = enrolment.membership_id.take().map(|_| MASK.to_owned());
            }
        }
        named.push(Named { place, customer, enrolments });
    }
    Ok((named, left_out))
}

async fn org_of(
    connection: &mut PooledConnection<'_>,
    letter: &Letter,
) -> Result<Option<Org>, Failure> {
    match &letter.org {
        Some(code) if !code.contains('\0') => Ok(lookup::org(connection, code).await?),
        _ => Ok(None),
    }
}

/// The customers of the body's entries; entries that match no customer are left out.
fn lookups(body: &[u8]) -> Vec<(usize, Lookup)> {
    let Ok(Value::Object(root)) = serde_json::from_slice(body) else { return Vec::new() };
    let entries = root.values().find_map(Value::as_array);
    let lookup = |(place, entry): (usize, &Value)| {
        let customer = entry.get(CUSTOMER)?;
        let text = |name: &str| match customer.get(name)? {
            Value::String(text) if !text.contains('\0') => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let lookup = Lookup {
            id: customer.get(ID).and_then(Value::as_i64).map(CustomerId),
            mobile: text(MOBILE).and_then(|text| Mobile::parse(&text).ok()),
            email: text(EMAIL).and_then(|text| Email::parse(&text).ok()),
            external_id: text(EXTERNAL_ID).and_then(|text| ExternalId::parse(&text).ok()),
        };
        (lookup != Lookup::default()).then_some((place, lookup))
    };
    entries.into_iter().flatten().enumerate().filter_map(lookup).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_can_be_read_is_looked_up() {
        let body = br#"{"x":1,"linkCustomers":[{"customer":{"id":"7","mobile":919800000000}},
            {"customer":[]},7,{"customer":{"email":"a@example.com"}}]}"#;
        let found = lookups(body);
        assert_eq!(found.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [0, 3]);
        assert!(found[0].1.id.is_none() && found[0].1.mobile.is_some());
        assert!(lookups(b"{").is_empty());
    }
}
