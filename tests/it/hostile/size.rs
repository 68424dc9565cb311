//! Bodies and lists at their bounds and beyond.

use chrono::{SubsecRound, Utc};
use partner_program_worker::clock::Clock;
use partner_program_worker::message::Message;
use serde_json::{Value, json};

use crate::harness::collector::Collector;
use crate::harness::environment::TestEnv;
use crate::harness::leftovers::assert_nothing_is_left;
use crate::harness::publisher::command;
use crate::harness::worker::InProcess;
use crate::harness::workload::{ORG, PROGRAM};
use crate::hostile::{DEAD_LETTERS, DEADLINE};
use crate::model::{Answer, Customer, Model, Org, Program};

const BODY_BYTES_MAX: usize = 1024 * 1024;
/// What is kept of a larger body.
const KEPT_BYTES: usize = 4096;
/// The contract's most of customers, and of programs for each.
const MOST: usize = 50;
/// The contract's most of entries and items of all lists together.
const ELEMENTS_MAX: usize = 51 + 51 * 51;

/// More customers and programs than a command may name.
fn world() -> Model {
    let names: Vec<&'static str> =
        (0..=MOST + 1).map(|n| &*Box::leak(format!("Program {n}").into_boxed_str())).collect();
    let program = |name| Program { name, external: true, active: true, ends_at: None, tiers: &[] };
    let customer = |n: usize| Customer {
        id: i64::try_from(n).expect("few") + 1,
        mobile: None,
        email: None,
        external_id: None,
        state: "active",
    };
    let org = Org {
        code: ORG,
        country_code: "91",
        programs: names.into_iter().chain([PROGRAM]).map(program).collect(),
        customers: (0..=MOST).map(customer).collect(),
    };
    Model::new(Utc::now().trunc_subsecs(0), vec![org])
}

fn link(id: &str, customers: usize, programs: usize) -> Message {
    let item = |customer: usize, n: usize| {
        json!({ "partnerProgramName": format!("Program {n}"),
            "customerPartnerReference": { "partnerMembershipId": format!("{id}-{customer}-{n}") } })
    };
    let entry = |customer: usize| {
        let items: Vec<Value> = (0..programs).map(|n| item(customer, n)).collect();
        json!({ "customer": { "id": customer + 1 }, "linkToPartnerPrograms": items })
    };
    let entries: Vec<Value> = (0..customers).map(entry).collect();
    command("acme.link", Some(id), json!({ "linkCustomers": entries }).to_string())
}

/// The same command with so many bytes; spaces mean nothing.
fn padded(mut message: Message, bytes: usize) -> Message {
    message.body.resize(bytes, b' ');
    message
}

#[tokio::test]
async fn what_is_at_a_bound_is_answered_and_what_is_beyond_it_is_not_applied() {
    let mut model = world();
    let TestEnv { place, settings, mut rows, mut results, publisher } =
        TestEnv::new("size", &model).await;
    let many = format!(r#"{{"linkCustomers":[{}]}}"#, vec!["{}"; ELEMENTS_MAX + 1].join(","));
    let empty = r#"{"customer":{},"linkToPartnerPrograms":[]}"#;
    let customers =
        |count: usize| format!(r#"{{"linkCustomers":[{}]}}"#, vec![empty; count].join(","));
    let items = |count: usize| {
        let items = vec!["{}"; count].join(",");
        format!(
            r#"{{"linkCustomers":[{{"customer":{{"id":1}},"linkToPartnerPrograms":[{items}]}}]}}"#
        )
    };
    let acme = |id: &str, body: String| command("acme.link", Some(id), body);
    let messages: Vec<(Message, Option<&str>)> = vec![
        (padded(link("exactly", 1, 1), BODY_BYTES_MAX), None),
        (padded(link("a byte more", 1, 1), BODY_BYTES_MAX + 1), Some("too-large")),
        (padded(link("far more", 1, 1), 8 * BODY_BYTES_MAX), Some("too-large")),
        (link("full", MOST, MOST), None),
        (link("customers", MOST + 1, 1), None),
        (link("programs", 2, MOST + 1), None),
        (acme("elements", many), Some("not-an-array")),
        (link("both", MOST + 1, MOST + 1), None),
        (link("both and more", MOST + 1, MOST + 2), Some("too-large")),
        (acme("all customers", customers(ELEMENTS_MAX)), None),
        (acme("a customer more", customers(ELEMENTS_MAX + 1)), Some("too-large")),
        (acme("all items", items(ELEMENTS_MAX - 1)), None),
        (acme("an item more", items(ELEMENTS_MAX)), Some("too-large")),
        (link("last", 1, 1), None),
    ];
    let all: Vec<Message> = messages.iter().map(|(message, _)| message.clone()).collect();
    publisher.publish(&all).await;
    let worker = InProcess::start(&settings, Clock::fixed(model.now));
    let events = results.read(messages.len(), DEADLINE).await.to_vec();
    worker.stop().await;

    for ((message, reason), event) in messages.iter().zip(&events) {
        let id = message.properties.message_id.as_deref();
        if let Some(reason) = reason {
            let body = event.json();
            assert_eq!((body["commandId"].as_str(), body["reason"].as_str()), (id, Some(*reason)));
            continue;
        }
        let Answer::Result { verdict, body, .. } = model.apply(ORG, "link", id, &message.body)
        else {
            panic!("{id:?} is well-formed");
        };
        assert_eq!(event.routing_key, format!("acme.link.{verdict}"), "{id:?}");
        assert_eq!(event.body(), body, "{id:?}");
    }
    assert_eq!(rows.enrolments().await, model.enrolments);
    let rejected = messages.iter().filter(|(_, reason)| reason.is_some());
    let mut letters = Collector::of_queue(&place.amqp_url, DEAD_LETTERS);
    letters.read(rejected.clone().count(), DEADLINE).await;
    for ((message, _), letter) in rejected.zip(&letters.received) {
        let kept =
            if message.body.len() > BODY_BYTES_MAX { KEPT_BYTES } else { message.body.len() };
        assert!(letter.body == message.body[..kept], "{:?}", letter.message_id);
        let length = (kept == KEPT_BYTES).then(|| message.body.len().to_string());
        assert_eq!(letter.header("x-body-length"), length, "{:?}", letter.message_id);
    }
    assert_nothing_is_left(&place, &["main"]).await;
}
