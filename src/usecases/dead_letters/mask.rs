//! Bodies without personal data, for readers who have not asked to see it.

use serde_json::Value;

/// Fields whose values are not personal: those of the catalogue.
pub const SHOWN: [&str; 6] = [
    "partnerProgramName",
    "partnerTierName",
    "partnerTierExpiryDate",
    "updateType",
    "updatedTierName",
    "updatedTierExpiryDate",
];

/// The body with every value hidden that is not of the catalogue: its shape, and of which type each
/// value is. `None` if it is no JSON, which can't be shown in part.
#[must_use]
pub fn masked(body: &[u8]) -> Option<Value> {
    let mut body = serde_json::from_slice(body).ok()?;
    hide(&mut body);
    Some(body)
}

fn hide(value: &mut Value) {
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::Number(_) => *value = "••• (a number)".into(),
        Value::String(text) if text.is_empty() => {}
        Value::String(_) => *value = "•••".into(),
        Value::Array(values) => values.iter_mut().for_each(hide),
        Value::Object(fields) => {
            for (name, value) in fields {
                let scalar = !(value.is_array() || value.is_object());
                if !(scalar && SHOWN.contains(&name.as_str())) {
                    hide(value);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_catalogues_values_are_shown() {
        let body = r#"{"linkCustomers":[{"customer":{"id":7,"email":"j@x.org","new":["s"]},
            "linkToPartnerPrograms":[{"partnerProgramName":"P","partnerTierName":{"a":"s"}}]}]}"#;
        assert_eq!(
            masked(body.as_bytes()).unwrap().to_string(),
            r#"{"linkCustomers":[{"customer":{"id":"••• (a number)","email":"•••","new":["•••"]},"#
                .to_owned()
                + r#""linkToPartnerPrograms":[{"partnerProgramName":"P","partnerTierName":{"a":"•••"}}]}]}"#
        );
        assert_eq!(masked(b"+919876543210 {"), None);
    }
}
