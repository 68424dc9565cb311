//! Results and dead letters that the broker does not take: after a bound the lane says so, gives the
//! queue back, and does not take it again before the broker takes what it refused. So an outage that
//! lasts costs each command one delivery of those that the broker allows, not one for each try.

use std::time::Duration;

use partner_program_worker::clock::Clock;
use partner_program_worker::message::Message;
use partner_program_worker::worker::counters::LaneCounters;

use super::{DEAD_LETTERS, DEADLINE, RESULTS, RESULTS_QUEUE, counted, env};
use crate::harness::collector::Collector;
use crate::harness::environment::TestEnv;
use crate::harness::eventually;
use crate::harness::leftovers::assert_nothing_is_left;
use crate::harness::management::Depth;
use crate::harness::publisher::command;
use crate::harness::worker::{InProcess, Settings};
use crate::harness::workload::{assert_done_in_order, steps};

/// A lane that gives up soon.
fn hasty(settings: &Settings, batch: usize) -> Settings {
    settings.clone().with("OUTAGE_GRACE_MS", 2_000).with("BATCH_SIZE", batch)
}

/// Waits until the lane has said that it can't publish, and for some more tries.
async fn says_so(counters: &LaneCounters) -> String {
    let trouble = || counters.iter().find_map(|(_, lane)| lane.publishing_trouble());
    eventually(DEADLINE, "the lane says that it can't publish", async || trouble()).await;
    let failures = || counted(counters, "publishing_failures");
    let before = failures();
    eventually(DEADLINE, "it has tried again", async || (failures() >= before + 4).then_some(()))
        .await;
    trouble().expect("it still can't")
}

async fn a_full_results_queue_is_waited_for(name: &str, batch: usize) {
    let TestEnv { place, settings, mut rows, mut results, publisher } = env(name).await;
    let messages = steps(0..80);
    publisher.publish(&messages).await;
    place.broker.limit_length(RESULTS_QUEUE, 1);
    let filler = Message {
        exchange: RESULTS.to_owned(),
        routing_key: "acme.link.rejected".to_owned(),
        ..Message::default()
    };
    eventually(DEADLINE, "the results' queue is full", async || {
        let taken = publisher.try_publish(&filler).await.expect("the broker answers");
        (!taken).then_some(())
    })
    .await;
    let settings = hasty(&settings, batch);
    let counters = LaneCounters::of(&settings.config());
    let worker = InProcess::start_counting(&settings, Clock::system(), counters.clone());
    let trouble = says_so(&counters).await;
    assert!(trouble.contains("refused"), "{trouble}");
    assert_eq!(counted(&counters, "lane_subscriptions"), 1, "deliveries were spent");
    eventually(DEADLINE, "nothing is acked that was not published", async || {
        let depth = place.broker.depth("partner-program.commands.main")?;
        (depth == Depth { ready: 80, unacked: 0 }).then_some(())
    })
    .await;
    place.broker.lift_limit();
    assert_done_in_order(&messages, &mut results, &mut rows, DEADLINE).await;
    assert!(counters.iter().all(|(_, lane)| lane.publishing_trouble().is_none()));
    worker.stop().await;
    assert_nothing_is_left(&place, &["main"]).await;
}

#[tokio::test]
async fn a_full_results_queue_is_waited_for_one_by_one() {
    a_full_results_queue_is_waited_for("full 1", 1).await;
}

#[tokio::test]
async fn a_full_results_queue_is_waited_for_in_batches() {
    a_full_results_queue_is_waited_for("full 512", 512).await;
}

/// The worker may not write to the results' exchange, which closes the channel.
#[tokio::test]
async fn forbidden_results_are_waited_for() {
    let TestEnv { place, settings, mut rows, mut results, publisher } = env("forbidden").await;
    let user = format!("user-of-{}", place.vhost());
    place.broker.permit_writing(&user, "secret", r"partner-program\.dead-letters");
    let settings = hasty(&settings, 16)
        .with("AMQP_URL", place.amqp_url.replace("guest:guest@", &format!("{user}:secret@")));
    let messages = steps(0..80);
    publisher.publish(&messages).await;
    let counters = LaneCounters::of(&settings.config());
    let worker = InProcess::start_counting(&settings, Clock::system(), counters.clone());
    let trouble = says_so(&counters).await;
    assert!(trouble.contains("permissions"), "{trouble}");
    assert_eq!(counted(&counters, "lane_subscriptions"), 1, "deliveries were spent");
    place.broker.permit_writing(&user, "secret", r"partner-program\..*");
    assert_done_in_order(&messages, &mut results, &mut rows, DEADLINE).await;
    worker.stop().await;
    place.broker.delete_user(&user);
    assert_nothing_is_left(&place, &["main"]).await;
}

/// The worker may not make the exchange again that is gone.
#[tokio::test]
async fn a_missing_results_exchange_is_waited_for() {
    let TestEnv { place, settings, mut rows, results, publisher } = env("missing").await;
    drop(results);
    let user = format!("user-of-{}", place.vhost());
    place.broker.permit_writing(&user, "secret", ".*");
    let plain = settings.clone();
    let settings = hasty(&settings, 16)
        .with("AMQP_URL", place.amqp_url.replace("guest:guest@", &format!("{user}:secret@")));
    let messages = steps(0..80);
    let counters = LaneCounters::of(&settings.config());
    let worker = InProcess::start_counting(&settings, Clock::system(), counters.clone());
    eventually(DEADLINE, "the lane has subscribed", async || {
        (counted(&counters, "lane_subscriptions") == 1).then_some(())
    })
    .await;
    place.broker.delete_exchange(RESULTS);
    publisher.publish(&messages).await;
    let trouble = says_so(&counters).await;
    assert!(trouble.contains(RESULTS), "{trouble}");
    assert_eq!(counted(&counters, "lane_subscriptions"), 1, "deliveries were spent");
    plain.declare().await;
    let mut results = Collector::of_results(&place.amqp_url).await;
    assert_done_in_order(&messages, &mut results, &mut rows, DEADLINE).await;
    worker.stop().await;
    place.broker.delete_user(&user);
    assert_nothing_is_left(&place, &["main"]).await;
}

/// Without a queue to hold it a dead letter would be lost: the lane binds it again.
#[tokio::test]
async fn an_unbound_dead_letter_queue_is_bound_again() {
    let TestEnv { place, settings, mut results, publisher, .. } = env("unbound").await;
    let mut messages = steps(0..40);
    messages.insert(21, command("acme.link", Some("bad"), "no JSON"));
    place.broker.unbind(DEAD_LETTERS, DEAD_LETTERS, "~");
    publisher.publish(&messages).await;
    let settings = hasty(&settings, 16);
    let counters = LaneCounters::of(&settings.config());
    let worker = InProcess::start_counting(&settings, Clock::system(), counters.clone());
    results.read(messages.len(), DEADLINE).await;
    let mut letters = Collector::of_queue(&place.amqp_url, DEAD_LETTERS);
    let letter = letters.read(1, Duration::from_secs(20)).await[0].clone();
    assert_eq!(letter.message_id.as_deref(), Some("bad"));
    worker.stop().await;
    assert!(counted(&counters, "lane_subscriptions") <= 2, "deliveries were spent");
    assert_nothing_is_left(&place, &["main"]).await;
}
