//! Messages that can't be processed at all, each with the reason it has to be rejected for.

use crate::generate::Sent;
use crate::harness::random::Random;

/// Makes the message one that has to be rejected.
pub(crate) fn spoil(random: &mut Random, sent: &mut Sent) {
    let (root, list) = match sent.operation {
        "link" => ("linkCustomers", "linkToPartnerPrograms"),
        "update" => ("customersPartnerUpdates", "partnerProgramUpdates"),
        _ => ("deLinkCustomers", "deLinkFromPartnerPrograms"),
    };
    let entry = |customer: &str, item: &str| {
        format!(r#"{{"{root}":[{{"customer":{customer},"{list}":[{item}]}}]}}"#)
    };
    let name = r#"{"partnerProgramName":"Tiered"}"#;
    let (reason, body) = match random.below(16) {
        0 => ("not-utf8", entry(r#"{"id":1}"#, "").replace("\"id\"", "\u{1}").into_bytes()),
        1 => ("not-json", format!(r#"{{"{root}":["#).into_bytes()),
        2 => ("not-json", Vec::new()),
        3 => ("trailing-data", format!(r#"{{"{root}":[]}} {{}}"#).into_bytes()),
        4 => ("duplicate-key", entry(r#"{"id":1,"id":1}"#, name).into_bytes()),
        5 => ("root-keys", b"{}".to_vec()),
        6 => {
            let other = if sent.operation == "link" { "deLinkCustomers" } else { "linkCustomers" };
            ("root-keys", format!(r#"{{"{root}":[],"{other}":[]}}"#).into_bytes())
        }
        7 => ("not-an-array", format!(r#"{{"{root}":{{}}}}"#).into_bytes()),
        8 => ("wrong-type", entry(r#"{"email":5}"#, name).into_bytes()),
        9 => ("wrong-type", entry(r#"{"mobile":-5}"#, name).into_bytes()),
        10 => ("wrong-type", entry(r#"{"id":1}"#, r#"{"partnerProgramName":5}"#).into_bytes()),
        11 => (
            "invalid-text",
            entry(r#"{"id":1}"#, r#"{"partnerProgramName":"a\u0000b"}"#).into_bytes(),
        ),
        12 => {
            let other = if sent.operation == "link" { "deLinkCustomers" } else { "linkCustomers" };
            ("operation-mismatch", format!(r#"{{"{other}":[]}}"#).into_bytes())
        }
        13 => {
            sent.content_type = Some("text/xml");
            ("unsupported-content", entry(r#"{"id":1}"#, name).into_bytes())
        }
        14 => (
            "not-an-array",
            format!(r#"{{"{root}":[{{"customer":{{"id":1}},"{list}":{{}}}}]}}"#).into_bytes(),
        ),
        _ => ("wrong-type", entry("[]", name).into_bytes()),
    };
    sent.spoiled = Some(reason);
    sent.body = body;
    if reason == "not-utf8" {
        sent.body.iter_mut().filter(|byte| **byte == 1).for_each(|byte| *byte = 0xff);
    }
}
