//! What applies to an item, and how answers look.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sqlx::FromRow;

use crate::command::{Identifiers, Item, text};

#[derive(Deserialize)]
pub struct Program {
    pub id: i32,
    pub tiers: HashMap<String, i16>,
}

#[derive(FromRow)]
pub struct Customer {
    pub id: i64,
    pub mobile: Option<String>,
    pub email: Option<String>,
    pub external_id: Option<String>,
}

#[derive(Clone, FromRow)]
pub struct Enrolment {
    pub linked: bool,
    pub membership_id: Option<String>,
    pub tier_number: Option<i16>,
    pub tier_expires_at: Option<DateTime<Utc>>,
    pub linked_since: DateTime<Utc>,
    pub version: i64,
}

/// The kind of the effect and the enrolment after it, or the status of a failure.
pub type Decided = Result<(&'static str, Enrolment), u16>;

pub fn link(
    program: &Program,
    item: &Item,
    before: Option<&Enrolment>,
    taken: bool,
    now: DateTime<Utc>,
) -> Decided {
    if before.is_some_and(|before| before.linked) {
        return Err(2005);
    }
    if taken {
        return Err(2103);
    }
    let reference = &item.customer_partner_reference;
    let mut after = Enrolment {
        linked: true,
        membership_id: membership_id(item).map(str::to_owned),
        tier_number: None,
        tier_expires_at: None,
        linked_since: now,
        version: before.map_or(0, |before| before.version) + 1,
    };
    if !program.tiers.is_empty() {
        let tier = program.tiers.get(&normalised(&reference.partner_tier_name));
        after.tier_number = Some(*tier.ok_or(2007_u16)?);
        after.tier_expires_at = reference.partner_tier_expiry_date.map(Into::into);
    }
    Ok(("ENROLMENT", after))
}

pub fn update(program: &Program, item: &Item, before: Option<&Enrolment>) -> Decided {
    let before = before.filter(|before| before.linked).ok_or(2004_u16)?;
    let details = &item.update_details;
    let tier = *program.tiers.get(&normalised(&details.updated_tier_name)).ok_or(2007_u16)?;
    let expiry = details.updated_tier_expiry_date;
    let from = before.tier_number.unwrap_or_default();
    let kind = match item.update_type.as_deref() {
        Some("UPGRADE") if tier > from => "UPGRADE",
        Some("DOWNGRADE") if tier < from => "DOWNGRADE",
        Some("RENEW") if tier == from && expiry.is_some() => "RENEW",
        _ => return Err(2101),
    };
    let after = Enrolment {
        tier_number: Some(tier),
        tier_expires_at: expiry.map(Into::into).or(before.tier_expires_at),
        version: before.version + 1,
        ..before.clone()
    };
    Ok((kind, after))
}

pub fn delink(before: Option<&Enrolment>) -> Decided {
    let before = before.filter(|before| before.linked).ok_or(2004_u16)?;
    Ok(("DELINK", Enrolment { linked: false, version: before.version + 1, ..before.clone() }))
}

pub fn membership_id(item: &Item) -> Option<&str> {
    let id = item.customer_partner_reference.partner_membership_id.as_deref();
    id.filter(|id| !id.is_empty())
}

/// As registered, or as given if there is none.
pub fn customer_view(given: &Identifiers, customer: Option<Customer>) -> Value {
    let code = if customer.is_some() { 1000 } else { 1012 };
    let fields = match customer {
        Some(found) => [
            ("id", json!(found.id)),
            ("mobile", json!(found.mobile)),
            ("email", json!(found.email)),
            ("externalId", json!(found.external_id)),
        ],
        None => [
            ("id", Value::Null),
            ("mobile", json!(text(&given.mobile))),
            ("email", json!(given.email)),
            ("externalId", json!(text(&given.external_id))),
        ],
    };
    let fields = fields.into_iter().chain([("status", status(code))]);
    let present = fields.filter(|(_, value)| !value.is_null());
    present.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>().into()
}

pub fn status(code: u16) -> Value {
    let message = match code {
        1000 => "Customer successfully retrieved",
        1012 => "Customer not found",
        2001 => "Not processed because the customer failed",
        2004 => "Customer is not linked to the partner program",
        2005 => "Customer is already linked to the partner program",
        2006 => "Unknown partner program",
        2007 => "Unknown or missing tier, or the program has no tiers",
        2101 => "The tier or its expiry does not fit the update type",
        2103 => "Partner membership id is already linked to another customer",
        _ => "Success",
    };
    json!({ "status": matches!(code, 200 | 1000), "message": message, "code": code })
}

pub fn normalised(name: &str) -> String {
    name.trim().to_lowercase()
}
