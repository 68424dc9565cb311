//! Message priority: a broker from 4.0 on delivers by it, which reorders a lane.

use std::collections::{BTreeMap, BTreeSet};

use partner_program_worker::clock::Clock;
use partner_program_worker::message::Message;
use partner_program_worker::worker::counters::LaneCounters;
use partner_program_worker::worker::priority_counts::Outcome;

use crate::brokers::{DEADLINE, env};
use crate::dead_letters::dead_letters;
use crate::harness::environment::TestEnv;
use crate::harness::eventually;
use crate::harness::leftovers::assert_nothing_is_left;
use crate::harness::worker::InProcess;
use crate::harness::worker::Process;
use crate::harness::workload::{CUSTOMERS, assert_done_in_order, steps};
use crate::hostile::raw::{MESSAGE_ID, PRIORITY, RawPublisher, Sent, USER_ID, short};

/// What publishers set. Many clients send 0 unless they are told otherwise, others nothing.
const PRIORITIES: [Option<u8>; 6] = [None, Some(0), Some(4), Some(5), Some(9), Some(255)];

/// Whether a broker of that version delivers a command of this priority in another order than one
/// without any.
fn reorders(version: (u32, u32), priority: Option<u8>) -> bool {
    match priority {
        Some(5..) => version >= (4, 0),
        Some(0..=3) => version >= (4, 3),
        None | Some(4) => false,
    }
}

fn with_priority(message: &Message, priority: Option<u8>) -> Sent {
    let mut properties = vec![(MESSAGE_ID, short(id(message).as_bytes()))];
    properties.extend(priority.map(|priority| (PRIORITY, vec![priority])));
    let routing_key = message.routing_key.as_bytes().to_vec();
    Sent { routing_key, properties, body: message.body.clone() }
}

fn id(message: &Message) -> &str {
    message.properties.message_id.as_deref().expect("steps have ids")
}

/// Everybody joins, and then everybody leaves: a leave that overtakes its join fails.
#[tokio::test]
async fn a_command_whose_priority_moves_it_in_its_lane_is_refused_and_replayed_in_its_place() {
    let TestEnv { place, settings, mut rows, mut results, publisher } = env("priority").await;
    let settings = settings.with("ARCHIVE_DEAD_LETTERS", true);
    let messages = steps(0..2 * CUSTOMERS);
    let (joins, leaves) = messages.split_at(CUSTOMERS);
    publisher.publish(joins).await;
    let mut raw = RawPublisher::open(&place.amqp_url).await;
    let version = place.broker.version();
    let mut expected = BTreeSet::new();
    for (leave, priority) in leaves.iter().zip(PRIORITIES.iter().cycle()) {
        raw.publish(&with_priority(leave, *priority)).await;
        if reorders(version, *priority) {
            expected.insert(format!("{} {}", id(leave), priority.expect("one that was set")));
        }
    }
    let worker = Process::start(&settings, "strict");
    results.read(messages.len(), DEADLINE).await;
    let refused = results.received.iter().filter(|event| event.routing_key.ends_with(".rejected"));
    assert_eq!(refused.count(), expected.len(), "commands refused on {version:?}");
    let letters = "select command_id || ' ' || (properties ->> 'priority') from dead_letter \
         where reason = 'priority'";
    eventually(DEADLINE, "the letters are archived", async || {
        (rows.count("select count(*) from dead_letter").await == expected.len()).then_some(())
    })
    .await;
    assert_eq!(rows.texts(letters).await.into_iter().collect::<BTreeSet<_>>(), expected);

    if !expected.is_empty() {
        let replay = ["replay", "--cause", "priority", "--reason", "t", "--yes", "--wait", "60"];
        dead_letters(&settings, &replay).await.expect(0);
    }
    assert_done_in_order(&messages, &mut results, &mut rows, DEADLINE).await;
    drop(worker);
    assert_nothing_is_left(&place, &["main"]).await;
}

/// Each of them is about a customer of its own, so that the order does not matter.
#[tokio::test]
async fn a_lane_that_only_warns_applies_what_comes_and_counts_its_publishers() {
    let TestEnv { place, settings, mut rows, mut results, .. } = env("priority_warned").await;
    let settings = settings.with("LANES", r#"[{"name":"main","other_priority":"warn"}]"#);
    let messages = steps(0..PRIORITIES.len());
    let mut raw = RawPublisher::open(&place.amqp_url).await;
    let version = place.broker.version();
    let mut expected = BTreeMap::new();
    for (n, (message, priority)) in messages.iter().zip(PRIORITIES).enumerate() {
        let mut sent = with_priority(message, priority);
        let named = n % 2 == 1;
        if named {
            sent.properties.push((USER_ID, short(b"guest")));
        }
        raw.publish(&sent).await;
        // A broker from 4.3 on tells apart what others don't.
        if reorders((4, 3), priority) {
            let outcome =
                if reorders(version, priority) { Outcome::Warned } else { Outcome::Harmless };
            let publisher = if named { "guest" } else { "(unnamed)" };
            *expected.entry((publisher.to_owned(), outcome)).or_insert(0) += 1;
        }
    }
    let counters = LaneCounters::of(&settings.config());
    let worker = InProcess::start_counting(&settings, Clock::system(), counters.clone());
    assert_done_in_order(&messages, &mut results, &mut rows, DEADLINE).await;
    let lane = counters.iter().next().expect("the lane").1;
    assert_eq!(lane.other_priorities().each().into_iter().collect::<BTreeMap<_, _>>(), expected);
    worker.stop().await;
    assert_nothing_is_left(&place, &["main"]).await;
}
