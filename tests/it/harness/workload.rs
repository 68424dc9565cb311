//! A load whose order shows: customers who join and leave a program in turns.
//!
//! Done in order and once, every command succeeds and the history lists the commands as they
//! were sent. A command that is lost, doubled or out of turn fails itself or the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::DateTime;
use partner_program_worker::message::Message;
use serde_json::json;

use crate::harness::collector::{Collector, Received};
use crate::harness::database::TestDatabase;
use crate::harness::history::{HistoryRow, by_customer};
use crate::harness::publisher::command;
use crate::harness::worker::Settings;
use crate::model::{Answer, Customer, Model, Org, Program};

pub(crate) const ORG: &str = "acme";
pub(crate) const PROGRAM: &str = "Plain";
/// No workload is about it.
pub(crate) const OTHER_PROGRAM: &str = "Other";

/// So few that most batches hold several commands of one customer.
pub(crate) const CUSTOMERS: usize = 40;

/// The org of the workloads: its customers have the ids from 1 on and nothing else.
pub(crate) fn world() -> Vec<Org> {
    world_of(&[ORG], &[PROGRAM])
}

/// Orgs with these programs, each with customers of its own.
pub(crate) fn world_of(codes: &[&'static str], programs: &[&'static str]) -> Vec<Org> {
    let customer = |n: usize| Customer {
        id: i64::try_from(n).expect("few"),
        mobile: None,
        email: None,
        external_id: None,
        state: "active",
    };
    let program = |name: &&'static str| Program {
        name,
        external: true,
        active: true,
        ends_at: None,
        tiers: &[],
    };
    let org = |code: &&'static str| Org {
        code,
        country_code: "91",
        programs: programs.iter().map(program).collect(),
        customers: (1..=CUSTOMERS).map(customer).collect(),
    };
    codes.iter().map(org).collect()
}

/// The command of that number, from 0 on.
pub(crate) fn step(number: usize) -> Message {
    let customer = json!({ "id": number % CUSTOMERS + 1 });
    let joins = (number / CUSTOMERS).is_multiple_of(2);
    let (operation, body) = if joins {
        let reference = json!({ "partnerMembershipId": format!("m-{number}") });
        let item = json!({ "partnerProgramName": PROGRAM, "customerPartnerReference": reference });
        let entry = json!({ "customer": customer, "linkToPartnerPrograms": [item] });
        ("link", json!({ "linkCustomers": [entry] }))
    } else {
        let item = json!({ "partnerProgramName": PROGRAM, "reason": format!("step {number}") });
        let entry = json!({ "customer": customer, "deLinkFromPartnerPrograms": [item] });
        ("delink", json!({ "deLinkCustomers": [entry] }))
    };
    command(&format!("{ORG}.{operation}"), Some(&id(number)), body.to_string())
}

/// Whom a step is about.
pub(crate) fn customer(step: &Message) -> i64 {
    let body: serde_json::Value = serde_json::from_slice(&step.body).expect("steps are JSON");
    let mut lists = body.as_object().into_iter().flat_map(serde_json::Map::values);
    let id = lists.find_map(|list| list.pointer("/0/customer/id")?.as_i64());
    id.expect("steps name their customer")
}

/// Likewise, in an order in which links and delinks alternate.
pub(crate) fn alternating_step(number: usize) -> Message {
    let (round, place) = (number / (2 * CUSTOMERS), number % (2 * CUSTOMERS));
    step(round * 2 * CUSTOMERS + place / 2 + place % 2 * CUSTOMERS)
}

pub(crate) fn steps(numbers: std::ops::Range<usize>) -> Vec<Message> {
    numbers.map(step).collect()
}

/// The lanes of [`in_lanes`].
pub(crate) fn lane_names(lanes: usize) -> &'static [&'static str] {
    &["main", "second", "third"][..lanes]
}

/// Lets the settings have so many lanes, one to three, and each customer's steps one of them.
pub(crate) async fn in_lanes(settings: &Settings, lanes: usize, steps: &mut [Message]) -> Settings {
    let settings = match lanes {
        1 => settings.clone(),
        2 => settings.clone().with("LANES", "second=acme.*.2"),
        _ => settings.clone().with("LANES", "second=acme.*.2;third=acme.*.3"),
    };
    settings.declare().await;
    for step in steps {
        let lane = usize::try_from(customer(step)).expect("few") % lanes;
        if lane > 0 {
            step.routing_key = format!("{}.{}", step.routing_key, lane + 1);
        }
    }
    settings
}

fn id(number: usize) -> String {
    format!("step-{number:06}")
}

/// What of a history row does not depend on the time of day.
fn gist(row: &HistoryRow) -> HistoryRow {
    HistoryRow { occurred_at: DateTime::UNIX_EPOCH, ..row.clone() }
}

/// Waits until each of these commands has a result, and checks results, history and inbox.
///
/// `results` may hold a result several times, as after a fault; always with the same bytes.
pub(crate) async fn assert_done_in_order(
    messages: &[Message],
    results: &mut Collector,
    rows: &mut TestDatabase,
    deadline: Duration,
) {
    let mut model = Model::new(DateTime::UNIX_EPOCH, world());
    let mut expected: BTreeMap<String, String> = BTreeMap::new();
    for message in messages {
        let id = message.properties.message_id.clone().expect("steps have ids");
        let operation = message.routing_key.split('.').nth(1).expect("two words");
        match model.apply(ORG, operation, Some(&id), &message.body) {
            Answer::Result { verdict: "succeeded", body, .. } => {
                expected.insert(id, body);
            }
            other => panic!("not a workload: {id} {other:?}"),
        }
    }
    let wanted = expected.len();
    let distinct = |received: &[Received]| {
        answers(received).map(Received::command_id).collect::<BTreeSet<_>>().len()
    };
    // Counting all of them again for each one that comes would be slow.
    results
        .read_until(deadline, "a result for each command", |received| {
            received.len() >= wanted && distinct(received) >= wanted
        })
        .await;
    for result in answers(&results.received) {
        let id = result.command_id();
        assert_eq!(
            Some(&result.body().to_owned()),
            expected.get(&id),
            "{id} {}",
            result.routing_key
        );
    }

    let written = by_customer(rows.history().await.iter().map(gist).collect());
    let law = model.history.iter().map(|event| HistoryRow::expected(event, model.now));
    let law = by_customer(law.collect());
    for (place, (law, written)) in law.iter().zip(&written).enumerate() {
        assert_eq!(written, law, "history row {place}");
    }
    assert_eq!(written.len(), law.len(), "history rows");
    assert_eq!(rows.inbox().await.len(), wanted, "inbox rows");
}

/// What is not a rejection.
fn answers(received: &[Received]) -> impl Iterator<Item = &Received> {
    received.iter().filter(|event| !event.routing_key.ends_with(".rejected"))
}

/// Whether the first results of each command came in the order of the commands.
pub(crate) fn assert_first_results_in_order(results: &Collector) {
    let mut seen = BTreeSet::new();
    let firsts: Vec<String> = answers(&results.received)
        .map(Received::command_id)
        .filter(|id| seen.insert(id.clone()))
        .collect();
    let mut sorted = firsts.clone();
    sorted.sort();
    assert_eq!(firsts, sorted, "first results");
}
