//! How the law writes an answer: the seed's response bodies, byte for byte.

use serde_json::Value;

use crate::model::Customer;

/// Root key, list key and status key of an operation.
pub(super) fn words(operation: &str) -> (&'static str, &'static str, &'static str) {
    match operation {
        "link" => ("linkCustomers", "linkToPartnerPrograms", "partnerLinkStatus"),
        "update" => ("customersPartnerUpdates", "partnerProgramUpdates", "updateStatus"),
        _ => ("deLinkCustomers", "deLinkFromPartnerPrograms", "partnerDeLinkStatus"),
    }
}

/// An object of the members that are there, in this order.
pub(super) fn object(members: &[(&str, Option<String>)]) -> String {
    let members: Vec<String> = members
        .iter()
        .filter_map(|(name, value)| Some(format!("\"{name}\":{}", value.as_ref()?)))
        .collect();
    format!("{{{}}}", members.join(","))
}

pub(super) fn array(values: &[String]) -> String {
    format!("[{}]", values.join(","))
}

/// A field as it was sent: numbers as strings; left out where it was absent or null.
pub(super) fn echo(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Number(number) => Some(format!("\"{number}\"")),
        other => Some(other.to_string()),
    }
}

pub(super) fn known_customer(customer: &Customer) -> String {
    let quoted =
        |text: &Option<String>| text.as_ref().map(|text| Value::from(text.as_str()).to_string());
    object(&[
        ("id", Some(customer.id.to_string())),
        ("mobile", quoted(&customer.mobile)),
        ("email", quoted(&customer.email)),
        ("externalId", quoted(&customer.external_id)),
        ("status", Some(status(1000))),
    ])
}

pub(super) fn failed_customer(given: &Value, code: u16) -> String {
    object(&[
        ("mobile", echo(&given["mobile"])),
        ("email", echo(&given["email"])),
        ("externalId", echo(&given["externalId"])),
        ("status", Some(status(code))),
    ])
}

pub(super) fn status(code: u16) -> String {
    let success = code == 200 || code == 1000;
    format!(r#"{{"status":{success},"message":"{}","code":{code}}}"#, message(code))
}

pub(super) fn warning(code: u16, path: String) -> String {
    let path = Value::from(path);
    format!(r#"{{"status":false,"code":{code},"message":"{}","path":{path}}}"#, message(code))
}

fn message(code: u16) -> &'static str {
    match code {
        1000 => "Customer successfully retrieved",
        1012 => "Customer not found",
        1013 => "Customer is not registered for the loyalty program",
        1015 => "No customer identifier given",
        1042 => "Invalid mobile, email or external id",
        1047 => "Identifiers belong to different customers",
        1060 => "More than 50 customers in one command",
        8069 => "Customer is merged into another account",
        618 => "Customer is marked as fraud",
        200 => "Success",
        2001 => "Not processed because the customer failed",
        2002 => "A required field is empty",
        2003 => "The tier expiry date is in the past",
        2004 => "Customer is not linked to the partner program",
        2005 => "Customer is already linked to the partner program",
        2006 => "Unknown partner program",
        2007 => "Unknown or missing tier, or the program has no tiers",
        2008 => "More than 50 partner programs for one customer",
        2009 => "Update type is none of UPGRADE, RENEW and DOWNGRADE",
        2101 => "The tier or its expiry does not fit the update type",
        2102 => "Partner membership id is missing",
        2103 => "Partner membership id is already linked to another customer",
        2104 => "Partner program is inactive or has ended",
        2105 => "The date can't be read: RFC 3339 with an offset is needed",
        2106 => "Partner program is named twice for this customer",
        2107 => "Value is too long: at most 255 characters are kept",
        2201 => "Tier fields are ignored: the program has no tiers",
        2202 => "A further identifier matches no customer",
        2203 => "No message id given: duplicates can't be detected",
        other => panic!("the contract has no code {other}"),
    }
}
