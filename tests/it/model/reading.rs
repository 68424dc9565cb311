//! How the law reads a command's fields, and whom it takes the customer to be.

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::model::{Customer, Org, Program};

/// Text that means something: trimmed; `None` where absent, null or empty.
pub(super) fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    Some(text).filter(|text| !text.is_empty())
}

/// The contract's dates: RFC 3339, perhaps with a space for `T`, a space before the offset, or
/// an offset without colon.
pub(super) fn date(value: &Value) -> Result<Option<DateTime<Utc>>, ()> {
    let Some(text) = text(value) else {
        return Ok(None);
    };
    if !text.is_ascii() || text.len() < 20 {
        return Err(());
    }
    let (day, rest) = text.split_at(10);
    let time = rest[1..].replace(' ', "");
    let time = match time.find(['+', '-', 'Z']).map(|at| time.split_at(at)) {
        Some((time, offset)) if offset.len() == 5 => {
            format!("{time}{}:{}", &offset[..3], &offset[3..])
        }
        _ => time,
    };
    DateTime::parse_from_rfc3339(&format!("{day}T{time}"))
        .map(|at| Some(at.to_utc()))
        .map_err(|_| ())
}

/// The tier's place, from the lowest.
pub(super) fn rank(program: &Program, name: &str) -> Option<usize> {
    program.tiers.iter().position(|tier| tier.to_lowercase() == name.trim().to_lowercase())
}

/// The customer, and the fields of further identifiers that match nobody; or why not.
pub(super) fn find<'a>(
    org: &'a Org,
    given: &Value,
) -> Result<(&'a Customer, Vec<&'static str>), u16> {
    let id = given["id"].as_i64();
    let mobile = text(&given["mobile"]);
    let email = text(&given["email"]).map(|email| email.to_lowercase());
    let external_id = text(&given["externalId"]);
    if id.is_none() && mobile.is_none() && email.is_none() && external_id.is_none() {
        return Err(1015);
    }
    let numbers = mobile.map(|mobile| numbers(org, &mobile)).transpose()?;
    if email.as_ref().is_some_and(|email| !email_is_valid(email)) {
        return Err(1042);
    }
    if external_id
        .as_ref()
        .is_some_and(|id| id.chars().count() > 255 || id.chars().any(char::is_control))
    {
        return Err(1042);
    }

    // Each given identifier with whom it matches, in order of precedence.
    let mut matches: Vec<(&'static str, Option<&Customer>)> = Vec::new();
    if let Some(id) = id {
        matches.push(("id", org.customers.iter().find(|known| known.id == id)));
    }
    if let Some(numbers) = numbers {
        let found = numbers.iter().find_map(|number| {
            org.customers.iter().find(|known| known.mobile.as_ref() == Some(number))
        });
        matches.push(("mobile", found));
    }
    if let Some(email) = email {
        let found = org
            .customers
            .iter()
            .find(|known| known.email.as_ref().map(|e| e.to_lowercase()).as_ref() == Some(&email));
        matches.push(("email", found));
    }
    if let Some(external_id) = external_id {
        let found =
            org.customers.iter().find(|known| known.external_id.as_ref() == Some(&external_id));
        matches.push(("externalId", found));
    }

    let customer = matches[0].1.ok_or(1012_u16)?;
    let mut unmatched = Vec::new();
    for (field, further) in &matches[1..] {
        match further {
            None => unmatched.push(*field),
            Some(other) if other.id != customer.id => return Err(1047),
            Some(_) => {}
        }
    }
    match customer.state {
        "active" => Ok((customer, unmatched)),
        "not_enrolled" => Err(1013),
        "merged" => Err(8069),
        _ => Err(618),
    }
}

/// The numbers to try, in order.
fn numbers(org: &Org, mobile: &str) -> Result<Vec<String>, u16> {
    let stripped = mobile.replace(['+', ' ', '-', '(', ')', '.'], "");
    let international = mobile.starts_with('+') || stripped.starts_with("00");
    let digits = stripped.strip_prefix("00").unwrap_or(&stripped).to_owned();
    if digits.len() < 7 || digits.len() > 15 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(1042);
    }
    let mut numbers = vec![digits.clone()];
    if !international {
        numbers.push(format!("{}{digits}", org.country_code));
    }
    Ok(numbers)
}

fn email_is_valid(email: &str) -> bool {
    let parts: Vec<&str> = email.split('@').collect();
    email.len() <= 254
        && parts.len() == 2
        && parts.iter().all(|part| !part.is_empty())
        && !email.chars().any(|c| c.is_whitespace() || c.is_control())
}
