//! What upstreams send: one customer and one item a command, unless said otherwise. Half are
//! links, three in ten updates, two in ten delinks; all of them succeed.

use partner_program_worker::message::Message;
use serde_json::{Value, json};

use crate::harness::publisher::command;
use crate::stage::{ORGS, Stage};

/// So many customers a command, for whom half of the items of a batch are links.
pub(crate) const BATCH: usize = 50;

/// Commands whose ids start with `run`, for customers that no command has named before.
pub(crate) fn singles(stage: &mut Stage, run: &str, count: usize, orgs: usize) -> Vec<Message> {
    assert!(orgs <= ORGS && count.is_multiple_of(orgs), "each org gets as many");
    let firsts: Vec<usize> = (0..orgs).map(|org| stage.take_customers(org, count / orgs)).collect();
    let single = |number: usize| {
        let (org, customer) = (number % orgs, firsts[number % orgs] + number / orgs);
        let (operation, root, entry) = one(customer, number / orgs % 10);
        let body = json!({ root: [entry] }).to_string();
        let key = format!("org-{}.{operation}", org + 1);
        let mut message = command(&key, Some(&format!("{run}-{number}")), body);
        // For `bare`, which reads no bodies.
        message.properties.app_id = Some(customer.to_string());
        message
    };
    (0..count).map(single).collect()
}

/// Links of [`BATCH`] customers each.
pub(crate) fn batches(stage: &mut Stage, run: &str, count: usize) -> Vec<Message> {
    let first = stage.take_customers(0, count * BATCH);
    let batch = |number: usize| {
        let customers = first + number * BATCH..first + (number + 1) * BATCH;
        let entries: Vec<Value> = customers.map(|customer| one(customer, 0).2).collect();
        let body = json!({ "linkCustomers": entries }).to_string();
        command("org-1.link", Some(&format!("{run}-{number}")), body)
    };
    (0..count).map(batch).collect()
}

/// The operation, the root key and the entry of one customer.
fn one(customer: usize, kind: usize) -> (&'static str, &'static str, Value) {
    let who = match customer % 4 {
        0 => json!({ "mobile": format!("{}", 9_000_000_000 + customer) }),
        1 => json!({ "email": format!("C{customer}@Example.com") }),
        2 => json!({ "externalId": format!("x-{customer}") }),
        _ => json!({ "id": customer }),
    };
    match kind {
        0..5 => {
            let reference = json!({ "partnerMembershipId": format!("new-{customer}") });
            let item =
                json!({ "partnerProgramName": "Plain", "customerPartnerReference": reference });
            let entry = json!({ "customer": who, "linkToPartnerPrograms": [item] });
            ("link", "linkCustomers", entry)
        }
        5..8 => {
            let details = json!({
                "updatedTierName": "Gold", "updatedTierExpiryDate": "2098-12-29T23:59:59+05:30",
            });
            let item = json!({
                "partnerProgramName": "Tiered", "updateType": "UPGRADE", "updateDetails": details,
            });
            let entry = json!({ "customer": who, "partnerProgramUpdates": [item] });
            ("update", "customersPartnerUpdates", entry)
        }
        _ => {
            let item = json!({ "partnerProgramName": "Other", "reason": "moved" });
            let entry = json!({ "customer": who, "deLinkFromPartnerPrograms": [item] });
            ("delink", "deLinkCustomers", entry)
        }
    }
}
