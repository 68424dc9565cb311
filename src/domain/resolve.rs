//! Finds the customer that an entry means (`docs/contract.md#identifying-the-customer`).

use crate::domain::command::{Command, Identifiers};
use crate::domain::identity::{Customer, CustomerId, CustomerState, Lookup};
use crate::domain::names::{EMAIL, EXTERNAL_ID, ID, MOBILE};
use crate::domain::program::{Org, OrgId};
use crate::domain::snapshot::Snapshot;
use crate::domain::status::{Checked, Status};

/// The customer, who may be acted on.
pub(super) struct Resolved {
    pub(super) customer: Customer,
    /// The fields of further identifiers that match no customer.
    pub(super) unmatched: Vec<&'static str>,
}

/// The highest identifier given decides: where it matches no customer, the customer is unknown,
/// even if a further one matches, so that a mistyped id never acts on another customer.
pub(super) fn resolve(
    org: &Org,
    snapshot: &Snapshot,
    identifiers: &Identifiers,
) -> Checked<Resolved> {
    let lookup = Lookup::parse(identifiers)?;
    let mut matches = matches(org, snapshot, &lookup).into_iter();
    let (_, decisive) = matches.next().ok_or(Status::NoIdentifier)?;
    let id = decisive.ok_or(Status::CustomerUnknown)?;
    let mut unmatched = Vec::new();
    for (field, further) in matches {
        match further {
            None => unmatched.push(field),
            Some(other) if other != id => return Err(Status::IdentifiersConflict),
            Some(_) => {}
        }
    }
    let customer = snapshot.customer(org.id, id).ok_or(Status::CustomerUnknown)?;
    match customer.state {
        CustomerState::Active => Ok(Resolved { customer: customer.clone(), unmatched }),
        CustomerState::NotEnrolled => Err(Status::CustomerNotEnrolled),
        CustomerState::Merged => Err(Status::CustomerMerged),
        CustomerState::Fraud => Err(Status::CustomerFraud),
    }
}

/// Every customer that a command may mean; whom its items act on is among them.
#[must_use]
pub fn meant(org: &Org, snapshot: &Snapshot, command: &Command) -> Vec<(OrgId, CustomerId)> {
    let lookups = command.identifiers().filter_map(|given| Lookup::parse(given).ok());
    lookups
        .flat_map(|lookup| matches(org, snapshot, &lookup))
        .filter_map(|(_, id)| Some((org.id, id?)))
        .collect()
}

/// Whom each given identifier matches, in order of precedence.
pub(super) fn matches(
    org: &Org,
    snapshot: &Snapshot,
    lookup: &Lookup,
) -> Vec<(&'static str, Option<CustomerId>)> {
    let by_id = lookup.id.map(|id| {
        let found = snapshot.customer(org.id, id).map(|customer| customer.id);
        (ID, found)
    });
    let by_mobile = lookup.mobile.as_ref().map(|mobile| {
        let found = mobile
            .candidates(&org.country_code)
            .find_map(|number| snapshot.by_mobile(org.id, number));
        (MOBILE, found)
    });
    let by_email = lookup
        .email
        .as_ref()
        .map(|email| (EMAIL, snapshot.by_email(org.id, email.as_str().to_owned())));
    let by_external_id = lookup.external_id.as_ref().map(|external_id| {
        (EXTERNAL_ID, snapshot.by_external_id(org.id, external_id.as_str().to_owned()))
    });
    [by_id, by_mobile, by_email, by_external_id].into_iter().flatten().collect()
}
