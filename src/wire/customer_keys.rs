//! Finding dead letters by their customers: hashes of the identifiers, so that no index holds personal
//! data in the clear.
//!
//! Any body is read that is JSON, for most letters are commands that could not be decoded.

use std::collections::BTreeSet;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::domain::identity::Mobile;
use crate::domain::names::{CUSTOMER, IDENTIFIERS};
use crate::message::BODY_BYTES_MAX;

/// Most keys that are kept of a dead letter; a command names 50 customers at most, by four identifiers.
const KEYS_MAX: usize = 200;
/// Longer texts identify no customer.
const TEXT_BYTES_MAX: usize = 1_024;

/// The keys of the customers that a body names, as far as it can be read.
#[must_use]
pub fn of_body(body: &[u8]) -> Vec<i64> {
    if body.len() > BODY_BYTES_MAX {
        return Vec::new();
    }
    let Ok(Value::Object(root)) = serde_json::from_slice(body) else {
        return Vec::new();
    };
    let entries = root.values().filter_map(Value::as_array).flatten();
    let customers = entries.filter_map(|entry| entry.get(CUSTOMER));
    let identifiers = customers
        .flat_map(|customer| IDENTIFIERS.into_iter().filter_map(|name| customer.get(name)));
    let keys = identifiers.filter_map(|identifier| match identifier {
        Value::String(text) => normalised(text),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    });
    keys.take(KEYS_MAX).map(|text| key(&text)).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The keys under which the customer with this identifier, of whatever kind, may be found; a
/// mobile with and without each of the country codes.
#[must_use]
pub fn of_search(text: &str, country_codes: &[String]) -> Vec<i64> {
    let mut texts = BTreeSet::from([text.trim().to_owned()]);
    texts.extend(normalised(text));
    if let Ok(mobile) = Mobile::parse(text) {
        for code in country_codes {
            texts.extend(mobile.candidates(code));
            texts.extend(mobile.digits().strip_prefix(code.as_str()).map(str::to_owned));
        }
    }
    texts.iter().map(|text| key(text)).collect()
}

/// One spelling of those that mean the same.
fn normalised(text: &str) -> Option<String> {
    let text = text.trim();
    if text.is_empty() || text.len() > TEXT_BYTES_MAX {
        return None;
    }
    Some(match Mobile::parse(text) {
        Ok(mobile) => mobile.digits().to_owned(),
        Err(_) => text.to_lowercase(),
    })
}

fn key(text: &str) -> i64 {
    let digest: [u8; 32] = Sha256::digest(text).into();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    i64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(customer: &str) -> Vec<i64> {
        of_body(format!(r#"{{"linkCustomers":[{{"customer":{customer},"x":[]}}]}}"#).as_bytes())
    }

    #[test]
    fn a_customer_is_found_however_the_identifier_is_spelt() {
        let codes = ["91".to_owned()];
        for (customer, search) in [
            (r#"{"id":4711}"#, "4711"),
            (r#"{"mobile":"+91 98765-43210"}"#, "919876543210"),
            (r#"{"mobile":9876543210}"#, "+919876543210"),
            (r#"{"mobile":"919876543210"}"#, "98765 43210"),
            (r#"{"email":"Jane@Example.com"}"#, "jane@EXAMPLE.com "),
            (r#"{"externalId":"CRM-7","id":true}"#, "crm-7"),
        ] {
            let keys = body(customer);
            assert!(of_search(search, &codes).iter().any(|key| keys.contains(key)), "{customer}");
        }
        assert!(!of_search("4712", &codes).iter().any(|key| body(r#"{"id":4711}"#).contains(key)));
    }

    #[test]
    fn any_bytes_are_read_harmlessly() {
        for bytes in ["", "[", "{}", "[1]", r#"{"a":[1,{"customer":3}]}"#, &"[".repeat(100_000)] {
            assert_eq!(of_body(bytes.as_bytes()), [0_i64; 0], "{bytes:.20}");
        }
        let many: Vec<String> =
            (0..1000).map(|id| format!(r#"{{"customer":{{"id":{id}}}}}"#)).collect();
        assert_eq!(of_body(format!(r#"{{"a":[{}]}}"#, many.join(",")).as_bytes()).len(), KEYS_MAX);
    }
}
