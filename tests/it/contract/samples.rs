//! The API's own sample bodies, verbatim.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use partner_program_worker::clock::Clock;
use serde_json::Value;

use crate::contract::SOON;
use crate::harness::environment::TestEnv;
use crate::harness::leftovers::assert_nothing_is_left;
use crate::harness::publisher::command;
use crate::harness::worker::InProcess;
use crate::model::{Customer, Enrolment, Model, Org, Program};

const LINK: &str = include_str!("../fixtures/link.json");
const LINK_APPAREL: &str = include_str!("../fixtures/link_apparel.json");
const UPDATE: &str = include_str!("../fixtures/update.json");
const DELINK: &str = include_str!("../fixtures/delink.json");

/// The org that the samples are about, and the enrolments that they take for granted.
fn world(now: DateTime<Utc>) -> Model {
    let program =
        |name, tiers| Program { name, external: true, active: true, ends_at: None, tiers };
    let customer = |id: i64, mobile: &str| Customer {
        id,
        mobile: Some(mobile.to_owned()),
        email: Some(format!("{mobile}@mail.com")),
        external_id: Some(format!("X{mobile}")),
        state: "active",
    };
    let org = Org {
        code: "acme",
        country_code: "91",
        programs: vec![
            program("1stProgram", &["1stSlab", "2ndSlab"]),
            program("NoTierPartnerProgram", &[]),
            program("2ndProgram", &["1stSlab"]),
            program("Apparel-Partner", &["Bronze", "Silver"]),
            program("p3e1", &[]),
        ],
        customers: vec![
            customer(382_741_349, "916215000000"),
            customer(2, "919740390055"),
            customer(3, "919740000000"),
            customer(4, "919800000000"),
        ],
    };
    let mut model = Model::new(now, vec![org]);
    let mut enrolments = BTreeMap::new();
    for (customer_id, program, tier) in [
        (3, "Apparel-Partner", Some("Bronze")),
        (4, "1stProgram", Some("1stSlab")),
        (4, "p3e1", None),
    ] {
        let row = Enrolment {
            linked: true,
            membership_id: Some(format!("member-{customer_id}")),
            tier: tier.map(ToOwned::to_owned),
            tier_expires_at: None,
            linked_since: now - TimeDelta::days(1),
            version: 1,
        };
        enrolments.insert(("acme".to_owned(), customer_id, program.to_owned()), row);
    }
    model.enrolments = enrolments;
    model
}

/// The samples' results, at a time.
async fn results_at(name: &str, now: DateTime<Utc>) -> Vec<String> {
    let TestEnv { place, settings, mut rows, mut results, publisher } =
        TestEnv::new(name, &world(now)).await;
    let samples = [("link", LINK), ("link", LINK_APPAREL), ("update", UPDATE), ("delink", DELINK)];
    for (number, (operation, body)) in samples.iter().enumerate() {
        let id = format!("sample-{number}");
        publisher.publish(&[command(&format!("acme.{operation}"), Some(&id), *body)]).await;
    }
    let worker = InProcess::start(&settings, Clock::fixed(now));
    let received = results.read(samples.len(), SOON).await;
    let bodies = received.iter().map(|result| result.body().to_owned()).collect();
    worker.stop().await;

    let mut model = world(now);
    for (number, (operation, body)) in samples.iter().enumerate() {
        model.apply("acme", operation, Some(&format!("sample-{number}")), body.as_bytes());
    }
    assert_eq!(rows.enrolments().await, model.enrolments);
    assert_nothing_is_left(&place, &["main"]).await;
    bodies
}

/// Each item's code, in order.
fn codes(body: &str) -> Vec<u64> {
    fn walk(value: &Value, codes: &mut Vec<u64>) {
        match value {
            Value::Array(values) => values.iter().for_each(|value| walk(value, codes)),
            Value::Object(members) => {
                for (name, value) in members {
                    if name.ends_with("Status") {
                        codes.extend(value["code"].as_u64());
                    } else {
                        walk(value, codes);
                    }
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(&serde_json::from_str(body).expect("JSON"), &mut found);
    found
}

#[tokio::test]
async fn the_samples_succeed_in_their_own_time() {
    let now = Utc.with_ymd_and_hms(2022, 6, 1, 12, 0, 0).single().expect("a time");
    let bodies = results_at("samples 2022", now).await;
    // The sample response of the seed, but for its slip (a false "Success").
    let retrieved =
        r#""status":{"status":true,"message":"Customer successfully retrieved","code":1000}"#;
    let success = r#"{"status":true,"message":"Success","code":200}"#;
    assert_eq!(
        bodies[0],
        format!(
            r#"{{"linkCustomers":[{{"customer":{{"id":382741349,"mobile":"916215000000","email":"916215000000@mail.com","externalId":"X916215000000",{retrieved}}},"linkToPartnerPrograms":[{{"partnerProgramName":"1stProgram","partnerLinkStatus":{success}}},{{"partnerProgramName":"NoTierPartnerProgram","partnerLinkStatus":{success}}},{{"partnerProgramName":"2ndProgram","partnerLinkStatus":{success}}}]}}],"warnings":[]}}"#
        )
    );
    insta::assert_snapshot!("samples_in_2022", bodies.join("\n"));
}

#[tokio::test]
async fn the_samples_expiries_are_past_by_now() {
    let now = Utc.with_ymd_and_hms(2026, 1, 1, 0, 0, 0).single().expect("a time");
    let bodies = results_at("samples now", now).await;
    let codes: Vec<Vec<u64>> = bodies.iter().map(|body| codes(body)).collect();
    // Only what has no tier, and leaving, still succeeds.
    assert_eq!(codes, [vec![2003, 200, 2003], vec![2003], vec![2003], vec![200, 200]]);
}
