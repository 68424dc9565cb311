//! A result that is larger than the broker takes becomes a small event; a dead letter loses most of its
//! body. At any position in a batch, for any batch size, for one to three lanes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use partner_program_worker::broker::connection::Connection;
use partner_program_worker::broker::error::Error;
use partner_program_worker::broker::publisher::{Publisher, Receipt};
use partner_program_worker::clock::Clock;
use partner_program_worker::message::Message;
use partner_program_worker::worker::counters::LaneCounters;

use super::{DEAD_LETTERS, DEADLINE, counted};
use crate::harness::collector::{Collector, Received};
use crate::harness::environment::TestEnv;
use crate::harness::eventually;
use crate::harness::leftovers::assert_nothing_is_left;
use crate::harness::proxy::{Line, Proxy};
use crate::harness::publisher::command;
use crate::harness::servers::{Lent, Place};
use crate::harness::worker::{InProcess, Settings};
use crate::harness::workload::{self, steps};
use crate::model::Model;

/// Smaller than the results of [`large`], larger than their commands.
const TAKEN_BYTES: usize = 60_000;
/// As RabbitMQ 3.10 has it by itself.
const DEFAULT_BYTES: usize = 134_217_728;

/// Lets channels that are opened from now on take messages of at most so many bytes.
async fn take_at_most(own: &Lent, bytes: usize) {
    let set = format!(
        "application:set_env(rabbit, max_message_size, {bytes}), \
         persistent_term:put(max_message_size, {bytes})."
    );
    own.rabbitmq.control(&["eval", &set]).await;
}

/// A command of some kilobytes whose result has some 200.
fn large(id: &str, lane: usize) -> Message {
    let items = vec!["{}"; 2_000].join(",");
    let body = format!(
        r#"{{"linkCustomers":[{{"customer":{{"id":1}},"linkToPartnerPrograms":[{items}]}}]}}"#
    );
    command(&key("acme.link", lane), Some(id), body)
}

fn key(key: &str, lane: usize) -> String {
    if lane == 0 { key.to_owned() } else { format!("{key}.{}", lane + 1) }
}

struct Stage {
    own: Lent,
    env: TestEnv,
    settings: Settings,
}

async fn stage(name: &str, lanes: &str, batch: usize) -> Stage {
    let own = Lent::take().await;
    let place = Place::on(&own.servers, name).await;
    let env = TestEnv::at(place, &Model::new(Utc::now(), workload::world())).await;
    let settings = env.settings.clone().with("BATCH_SIZE", batch).with("LANES", lanes);
    settings.declare().await;
    Stage { own, env, settings }
}

fn is_small(event: &Received) -> bool {
    event.kind.as_deref() == Some("partner-program.link.result-unavailable.v1")
}

/// Checks a small event, and gives the command's id.
fn assert_small(event: &Received) -> String {
    let id = event.command_id();
    assert!(is_small(event), "{id}: {:?}", event.kind);
    assert_eq!(event.message_id, Some(format!("{id}.result")));
    assert_eq!(event.routing_key, "acme.link.failed");
    assert_eq!(event.header("items-total").as_deref(), Some("2000"));
    let body = event.json();
    assert_eq!(body["commandId"], id.as_str());
    assert_eq!(body["reason"], "too-large-for-broker");
    assert!(body["resultBytes"].as_u64() > Some(TAKEN_BYTES as u64), "{body}");
    assert!(body["detail"].as_str().is_some_and(|text| text.contains("show command")), "{body}");
    id
}

async fn large_results_become_small_events(
    name: &str,
    lanes: &str,
    batch: usize,
    positions: &[usize],
) {
    let Stage { own, env, settings } = stage(name, lanes, batch).await;
    let TestEnv { place, mut rows, mut results, publisher, .. } = env;
    let count = settings.config().lanes.len();
    let mut all = Vec::new();
    for (number, mut step) in steps(0..60).into_iter().enumerate() {
        let lane = usize::try_from(workload::customer(&step)).expect("few") % count;
        step.routing_key = key(&step.routing_key, lane);
        if positions.contains(&number) {
            all.extend((0..count).map(|lane| large(&format!("large-{number}-{lane}"), lane)));
        }
        all.push(step);
    }
    publisher.publish(&all).await;
    take_at_most(&own, TAKEN_BYTES).await;
    let wanted: BTreeSet<String> =
        all.iter().filter_map(|message| message.properties.message_id.clone()).collect();
    let large_results = positions.len() * count;
    let counters = LaneCounters::of(&settings.config());
    let worker = InProcess::start_counting(&settings, Clock::system(), counters.clone());
    let answered = |received: &[Received]| {
        received.iter().map(Received::command_id).collect::<BTreeSet<_>>() == wanted
    };
    results.read_until(DEADLINE, "each command is answered", answered).await;
    let small: BTreeSet<String> =
        results.received.iter().filter(|event| is_small(event)).map(assert_small).collect();
    assert_eq!(small.len(), large_results, "{small:?}");
    assert!(small.iter().all(|id| id.starts_with("large-")), "{small:?}");

    // A duplicate is answered alike, to the byte. What was on its way with a large result may come twice.
    let first = results.received.iter().find(|event| is_small(event)).expect("one").clone();
    let again =
        all.iter().find(|message| message.properties.message_id == Some(first.command_id()));
    publisher.publish(std::slice::from_ref(again.expect("it was sent"))).await;
    eventually(DEADLINE, "the duplicate is answered", async || {
        let replaced = counted(&counters, "results_unavailable") == large_results as u64 + 1;
        (replaced && counted(&counters, "commands_duplicate") == 1).then_some(())
    })
    .await;
    worker.stop().await;
    assert_eq!(counted(&counters, "lane_subscriptions"), count as u64, "generations");
    assert_eq!(rows.inbox().await.len(), wanted.len());

    // So does the command line, and it has the result whole.
    let republish = ["results", "republish", "--org", "acme", "--since", "2000-01-01T00:00:00Z"];
    let republished = settings.command(&republish).output().await.expect("the program starts");
    let said = String::from_utf8_lossy(&republished.stderr);
    assert!(republished.status.success(), "{said}");
    assert!(said.contains(&format!("published {} answer(s)", wanted.len())), "{said}");
    assert!(said.contains(&format!("{large_results} are too large for the broker")), "{said}");
    let twice = |received: &[Received]| {
        received.iter().filter(|event| event.message_id == first.message_id).count() >= 3
    };
    results.read_until(DEADLINE, "first, duplicate and republished one", twice).await;
    for event in &results.received {
        let id = event.command_id();
        assert_eq!(is_small(event), small.contains(&id), "{id}");
        assert!(event.message_id != first.message_id || *event == first, "{id}");
    }
    let small: Vec<String> = small.into_iter().collect();
    let shown = settings
        .command(&["show", "command", "--org", "acme", &small[0], "-o", "json"])
        .output()
        .await
        .expect("the program starts");
    assert!(shown.stdout.len() > TAKEN_BYTES, "{} bytes", shown.stdout.len());
    take_at_most(&own, DEFAULT_BYTES).await;
    let names: Vec<String> = settings.config().lanes.iter().map(|lane| lane.name.clone()).collect();
    assert_nothing_is_left(&place, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn a_large_result_becomes_a_small_event_one_by_one() {
    large_results_become_small_events("large 1", "", 1, &[0, 7]).await;
}

#[tokio::test]
async fn a_large_result_becomes_a_small_event_in_batches() {
    large_results_become_small_events("large 16", "second=acme.*.2", 16, &[5, 6, 59]).await;
}

#[tokio::test]
async fn a_large_result_becomes_a_small_event_in_full_batches() {
    let lanes = "second=acme.*.2;third=acme.*.3";
    large_results_become_small_events("large 512", lanes, 512, &[0, 30, 59]).await;
}

/// The requester of a large result gets the small event, too.
#[tokio::test]
async fn a_large_reply_becomes_a_small_one() {
    let Stage { own, env, settings } = stage("large reply", "", 16).await;
    let TestEnv { place, publisher, .. } = env;
    let mut requester = Collector::bound(&place.amqp_url, "requester", None).await;
    let mut message = large("large", 0);
    message.properties.reply_to = Some("requester".to_owned());
    publisher.publish(&[message]).await;
    take_at_most(&own, TAKEN_BYTES).await;
    let worker = InProcess::start(&settings, Clock::system());
    let reply = requester.read(1, DEADLINE).await[0].clone();
    take_at_most(&own, DEFAULT_BYTES).await;
    assert!(is_small(&reply), "{:?}", reply.kind);
    worker.stop().await;
    assert_nothing_is_left(&place, &["main"]).await;
}

/// The broker's bound was lowered while a bad command waited: its letter can't be whole.
#[tokio::test]
async fn a_dead_letter_that_is_too_large_is_cut() {
    let Stage { own, env, settings } = stage("large letter", "", 16).await;
    let TestEnv { place, mut results, publisher, .. } = env;
    let mut messages = steps(0..20);
    let body = format!("no JSON{}", "!".repeat(2 * TAKEN_BYTES));
    messages.insert(7, command("acme.link", Some("bad"), body.clone()));
    publisher.publish(&messages).await;
    take_at_most(&own, TAKEN_BYTES).await;
    let counters = LaneCounters::of(&settings.config());
    let worker = InProcess::start_counting(&settings, Clock::system(), counters.clone());
    results.read(messages.len(), DEADLINE).await;
    let mut letters = Collector::of_queue(&place.amqp_url, DEAD_LETTERS);
    let letter = letters.read(1, DEADLINE).await[0].clone();
    take_at_most(&own, DEFAULT_BYTES).await;
    worker.stop().await;
    assert_eq!(counted(&counters, "lane_subscriptions"), 1, "generations");
    assert_eq!(letter.body, body.as_bytes()[..4_096]);
    assert_eq!(letter.header("x-body-length"), Some(body.len().to_string()));
    assert_eq!(letter.header("x-body-sha256").map(|hash| hash.len()), Some(64));
    assert_eq!(letter.header("x-reason").as_deref(), Some("not-json"));
    assert_eq!(letter.message_id.as_deref(), Some("bad"));
    assert_nothing_is_left(&place, &["main"]).await;
}

/// The connection is the lane's, with all of its deliveries. The line is slow, so that messages still
/// wait for the socket when the broker refuses the first.
#[tokio::test]
async fn a_message_that_is_too_large_costs_its_channel_alone() {
    let Stage { own, env, .. } = stage("large and many", "", 16).await;
    take_at_most(&own, TAKEN_BYTES).await;
    let proxy = Proxy::before(&env.place.amqp_url).await;
    let connection = Connection::open(proxy.url(), "many").await.expect("the broker answers");
    let mut publisher =
        Publisher::open(&Arc::new(connection), DEADLINE).await.expect("the broker answers");
    let body = |bytes| Message { body: vec![b'x'; bytes], ..Message::default() };
    let mut batch = vec![body(2 * TAKEN_BYTES)];
    batch.extend((0..800).map(|_| body(TAKEN_BYTES / 3)));
    proxy.set(Line::Delayed(Duration::from_millis(5)), Line::Open);
    let error = publisher.publish(&batch).await.expect_err("one is too large");
    assert!(matches!(error, Error::Precondition(_)), "{error}");
    proxy.heal();
    publisher.reopen().await.expect("the connection lives");
    let receipts = publisher.publish(&batch[1..]).await.expect("the connection lives");
    assert!(receipts.iter().all(|receipt| *receipt == Receipt::Unroutable));
}
