//! A command as it comes in.

use chrono::{DateTime, FixedOffset};
use lapin::message::Delivery;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::apply::Error;

/// A command message.
pub struct Command {
    pub org: String,
    pub id: String,
    pub correlation_id: Option<String>,
    pub body_hash: Vec<u8>,
    pub operation: Operation,
    pub entries: Vec<Entry>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Link,
    Update,
    Delink,
}

#[derive(Deserialize)]
enum Body {
    #[serde(rename = "linkCustomers")]
    Link(Vec<Entry>),
    #[serde(rename = "customersPartnerUpdates")]
    Update(Vec<Entry>),
    #[serde(rename = "deLinkCustomers")]
    Delink(Vec<Entry>),
}

#[derive(Deserialize)]
pub struct Entry {
    pub customer: Identifiers,
    #[serde(
        alias = "linkToPartnerPrograms",
        alias = "partnerProgramUpdates",
        alias = "deLinkFromPartnerPrograms"
    )]
    pub items: Vec<Item>,
}

/// Texts may come as numbers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
pub struct Identifiers {
    pub id: Option<i64>,
    pub mobile: Value,
    pub email: Option<String>,
    pub external_id: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    pub partner_program_name: String,
    #[serde(default)]
    pub customer_partner_reference: Reference,
    pub update_type: Option<String>,
    #[serde(default)]
    pub update_details: Details,
    pub reason: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Reference {
    pub partner_membership_id: Option<String>,
    pub partner_tier_name: String,
    pub partner_tier_expiry_date: Option<DateTime<FixedOffset>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Details {
    pub updated_tier_name: String,
    pub updated_tier_expiry_date: Option<DateTime<FixedOffset>>,
}

impl Command {
    pub fn parse(delivery: &Delivery) -> Result<Self, Error> {
        let body: Body = serde_json::from_slice(&delivery.data)
            .map_err(|error| Error::Refused(error.to_string()))?;
        let (operation, entries) = match body {
            Body::Link(entries) => (Operation::Link, entries),
            Body::Update(entries) => (Operation::Update, entries),
            Body::Delink(entries) => (Operation::Delink, entries),
        };
        let id = delivery.properties.message_id().as_ref();
        Ok(Self {
            org: delivery.routing_key.as_str().split('.').next().unwrap_or_default().to_owned(),
            id: id.ok_or_else(|| Error::Refused("no message id".to_owned()))?.to_string(),
            correlation_id: delivery.properties.correlation_id().as_ref().map(ToString::to_string),
            body_hash: Sha256::digest(&delivery.data).to_vec(),
            operation,
            entries,
        })
    }
}

impl Operation {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Update => "update",
            Self::Delink => "delink",
        }
    }

    /// The root key, the key of the items, and the key of an item's status.
    pub const fn keys(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Link => ("linkCustomers", "linkToPartnerPrograms", "partnerLinkStatus"),
            Self::Update => ("customersPartnerUpdates", "partnerProgramUpdates", "updateStatus"),
            Self::Delink => ("deLinkCustomers", "deLinkFromPartnerPrograms", "partnerDeLinkStatus"),
        }
    }
}

/// A text or number; empty and null mean absent.
pub fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
