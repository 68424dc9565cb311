//! Replies: what is wrong with one costs that reply, a metric and a line of the log, nothing else.
//!
//! The properties hold at any position in a batch, for any batch size, for one to three lanes.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::Utc;
use partner_program_worker::clock::Clock;
use partner_program_worker::message::Message;
use partner_program_worker::worker::counters::LaneCounters;

use crate::faults::assert_no_dead_letters;
use crate::harness::collector::Collector;
use crate::harness::environment::TestEnv;
use crate::harness::eventually;
use crate::harness::leftovers::assert_nothing_is_left;
use crate::harness::servers::{Lent, Place};
use crate::harness::worker::{InProcess, Process};
use crate::harness::workload::{self, assert_done_in_order, steps};
use crate::model::Model;

/// Long enough for a slow machine; reached only by a failure.
const DEADLINE: Duration = Duration::from_mins(2);
const REQUESTER: &str = "requester";
/// It holds one message and refuses further ones.
const FULL: &str = "full";

async fn env(name: &str) -> TestEnv {
    TestEnv::new(name, &Model::new(Utc::now(), workload::world())).await
}

/// What the lanes have counted under that name.
fn counted(counters: &LaneCounters, name: &str) -> u64 {
    let of_lane = |(_, counts): (&str, &partner_program_worker::worker::counters::Counters)| {
        let all = counts.each();
        all.iter().find(|(counted, ..)| *counted == name).map_or(0, |(_, _, count)| *count)
    };
    counters.iter().map(of_lane).sum()
}

fn ask(message: &mut Message, reply_to: &str) {
    message.properties.reply_to = Some(reply_to.to_owned());
    message.properties.correlation_id = message.properties.message_id.clone();
}

/// Waits until each of these commands has a reply in the requester's queue.
async fn assert_replied(requester: &mut Collector, wanted: &BTreeSet<String>) {
    let replied = |received: &[crate::harness::collector::Received]| {
        received.iter().filter_map(|reply| reply.correlation_id.clone()).collect::<BTreeSet<_>>()
    };
    requester
        .read_until(DEADLINE, "a reply for each requester", |received| {
            received.len() >= wanted.len() && replied(received).is_superset(wanted)
        })
        .await;
    assert_eq!(&replied(&requester.received), wanted, "replies went where they were asked for");
}

/// Commands whose replies go to a good queue, but every third's to somewhere bad.
async fn bad_replies_harm_no_other(name: &str, lanes: usize, batch: usize, offset: usize) {
    let TestEnv { place, settings, mut rows, mut results, publisher } = env(name).await;
    let mut requester = Collector::bound(&place.amqp_url, REQUESTER, None).await;
    drop(Collector::bound(&place.amqp_url, FULL, None).await);
    place.broker.limit_length(FULL, 1);
    let mut messages = steps(0..120);
    let settings =
        workload::in_lanes(&settings, lanes, &mut messages).await.with("BATCH_SIZE", batch);
    // The first two break the connection of RabbitMQ 3.10.
    let bad = [
        "amq.rabbitmq.reply-to.a.b",
        "amq.rabbitmq.reply-to.!!!.???",
        FULL,
        "nowhere",
        "amq.rabbitmq.reply-to.g2gDdwNub2QAAAABAAAAAAA=.a2V5",
    ];
    let mut wanted = BTreeSet::new();
    for (number, message) in messages.iter_mut().enumerate() {
        if number % 3 == offset {
            ask(message, bad[number / 3 % bad.len()]);
        } else {
            ask(message, REQUESTER);
            wanted.extend(message.properties.message_id.clone());
        }
    }
    publisher.publish(&messages).await;
    let counters = LaneCounters::of(&settings.config());
    let worker = InProcess::start_counting(&settings, Clock::system(), counters.clone());
    assert_done_in_order(&messages, &mut results, &mut rows, DEADLINE).await;
    assert_replied(&mut requester, &wanted).await;
    eventually(DEADLINE, "each reply that went nowhere is counted", async || {
        // The full queue has room for one, or for some that are on their way together.
        (counted(&counters, "replies_lost") >= 40 - 8).then_some(())
    })
    .await;
    worker.stop().await;
    assert_eq!(counted(&counters, "lane_subscriptions"), lanes as u64, "generations");
    assert_eq!(results.received.len(), messages.len(), "each result once");
    assert_no_dead_letters(&place).await;
    assert_nothing_is_left(&place, workload::lane_names(lanes)).await;
}

#[tokio::test]
async fn bad_replies_harm_no_other_one_by_one() {
    bad_replies_harm_no_other("bad replies 1", 1, 1, 0).await;
}

#[tokio::test]
async fn bad_replies_harm_no_other_in_batches() {
    bad_replies_harm_no_other("bad replies 16", 2, 16, 1).await;
}

#[tokio::test]
async fn bad_replies_harm_no_other_in_full_batches() {
    bad_replies_harm_no_other("bad replies 512", 3, 512, 2).await;
}

/// A load that is all replies loses none of them, in whatever batches.
#[tokio::test]
async fn each_of_many_good_replies_arrives() {
    const COMMANDS: usize = 3_000;
    let TestEnv { place, settings, mut rows, mut results, publisher } = env("many replies").await;
    let mut requester = Collector::bound(&place.amqp_url, REQUESTER, None).await;
    let mut messages = steps(0..COMMANDS);
    for message in &mut messages {
        ask(message, REQUESTER);
    }
    let wanted = messages.iter().filter_map(|m| m.properties.message_id.clone()).collect();
    publisher.publish(&messages).await;
    let counters = LaneCounters::of(&settings.config());
    let worker = InProcess::start_counting(&settings, Clock::system(), counters.clone());
    let begun = std::time::Instant::now();
    assert_done_in_order(&messages, &mut results, &mut rows, DEADLINE).await;
    let done = begun.elapsed();
    assert_replied(&mut requester, &wanted).await;
    eprintln!("{COMMANDS} commands in {done:?}, their replies in {:?}", begun.elapsed());
    worker.stop().await;
    assert_eq!(counted(&counters, "replies_lost"), 0);
    assert_eq!(requester.received.len(), COMMANDS, "each reply once");
    assert_nothing_is_left(&place, &["main"]).await;
}

/// RabbitMQ checks replies against the rights on the default exchange, and closes the channel.
async fn forbidden_replies_stop_nothing(name: &str, lanes: usize, batch: usize) {
    let TestEnv { place, settings, mut rows, mut results, publisher } = env(name).await;
    let user = format!("user-of-{}", place.vhost());
    place.broker.permit_writing(&user, "secret", r"partner-program\..*");
    let mut messages = steps(0..90);
    let settings = workload::in_lanes(&settings, lanes, &mut messages)
        .await
        .with("AMQP_URL", place.amqp_url.replace("guest:guest@", &format!("{user}:secret@")))
        .with("BATCH_SIZE", batch);
    drop(Collector::bound(&place.amqp_url, REQUESTER, None).await);
    for message in messages.iter_mut().skip(1).step_by(2) {
        ask(message, REQUESTER);
    }
    publisher.publish(&messages).await;
    let counters = LaneCounters::of(&settings.config());
    let worker = InProcess::start_counting(&settings, Clock::system(), counters.clone());
    assert_done_in_order(&messages, &mut results, &mut rows, DEADLINE).await;
    eventually(DEADLINE, "each reply is counted as lost", async || {
        (counted(&counters, "replies_lost") == 45).then_some(())
    })
    .await;
    worker.stop().await;
    assert_eq!(counted(&counters, "lane_subscriptions"), lanes as u64, "generations");
    assert_eq!(results.received.len(), messages.len(), "each result once");
    assert_no_dead_letters(&place).await;
    assert_nothing_is_left(&place, workload::lane_names(lanes)).await;
    place.broker.delete_user(&user);
}

#[tokio::test]
async fn forbidden_replies_stop_nothing_one_by_one() {
    forbidden_replies_stop_nothing("forbidden replies 1", 1, 1).await;
}

#[tokio::test]
async fn forbidden_replies_stop_nothing_in_batches() {
    forbidden_replies_stop_nothing("forbidden replies 512", 3, 512).await;
}

/// A classic queue whose process stands still confirms nothing.
#[tokio::test]
async fn replies_that_are_never_confirmed_stop_nothing() {
    let own = Lent::take().await;
    let place = Place::on(&own.servers, "silent requester").await;
    let model = Model::new(Utc::now(), workload::world());
    let TestEnv { place, settings, mut rows, mut results, publisher } =
        TestEnv::at(place, &model).await;
    let mut requester = Collector::bound(&place.amqp_url, REQUESTER, None).await;
    let connection = crate::harness::connect(&place.amqp_url, "tests").await.expect("the broker");
    let channel = connection.create_channel().await.expect("a channel");
    channel
        .queue_declare(
            "silent".into(),
            lapin::options::QueueDeclareOptions::durable(),
            lapin::types::FieldTable::default(),
        )
        .await
        .expect("a queue");
    let queue_process = |verb: &str| {
        format!(
            "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"{}\">>, queue, <<\"silent\">>)), \
             sys:{verb}(amqqueue:get_pid(Q)).",
            place.vhost()
        )
    };
    own.rabbitmq.control(&["eval", &queue_process("suspend")]).await;
    let mut messages = steps(0..400);
    let mut wanted = BTreeSet::new();
    for (number, message) in messages.iter_mut().enumerate() {
        if number % 2 == 0 {
            ask(message, "silent");
        } else {
            ask(message, REQUESTER);
            wanted.extend(message.properties.message_id.clone());
        }
    }
    publisher.publish(&messages).await;
    let mut worker = Process::start(&settings.with("BATCH_SIZE", 16), "tested");
    assert_done_in_order(&messages, &mut results, &mut rows, Duration::from_secs(30)).await;
    assert_replied(&mut requester, &wanted).await;
    eventually(DEADLINE, "the loss is said", async || {
        worker.words().contains("replies were lost").then_some(())
    })
    .await;
    worker.signal("TERM").await;
    assert!(worker.ended().await.success(), "{}", worker.words());
    let lines = worker.words().lines().filter(|line| line.contains("replies were lost")).count();
    assert!(lines <= 3, "{lines} lines: at most one in 30 s, and the last");
    own.rabbitmq.control(&["eval", &queue_process("resume")]).await;
    assert_eq!(results.received.len(), messages.len(), "each result once");
    assert_no_dead_letters(&place).await;
    assert_nothing_is_left(&place, &["main"]).await;
}
