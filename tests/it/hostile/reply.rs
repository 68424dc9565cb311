//! Where replies may not go, and where they must.

use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use partner_program_worker::clock::Clock;

use crate::faults::assert_no_dead_letters;
use crate::harness::collector::Collector;
use crate::harness::environment::TestEnv;
use crate::harness::leftovers::assert_nothing_is_left;
use crate::harness::worker::InProcess;
use crate::harness::workload::{assert_done_in_order, assert_first_results_in_order, step, steps};
use crate::hostile::{DEAD_LETTERS, DEADLINE, LANE_QUEUE, assert_one_generation, workload_env};

#[tokio::test]
async fn a_reply_into_the_systems_own_queues_is_not_sent() {
    let TestEnv { place, settings, mut rows, mut results, publisher } = workload_env("own").await;
    let settings = settings.with("LANES", "second=globex.*");
    settings.declare().await;
    let mut requester = Collector::bound(&place.amqp_url, "requester", None).await;
    let queues = [LANE_QUEUE, "partner-program.commands.second", DEAD_LETTERS, "requester"];
    let mut messages = steps(0..queues.len());
    for (message, queue) in messages.iter_mut().zip(queues) {
        message.properties.reply_to = Some(queue.to_owned());
    }
    publisher.publish(&messages).await;
    let worker = InProcess::start(&settings, Clock::system());
    assert_done_in_order(&messages, &mut results, &mut rows, DEADLINE).await;
    // The last one's reply: those of the others went before it, or nowhere.
    requester.read(1, DEADLINE).await;
    worker.stop().await;
    assert_eq!(results.received.len(), messages.len(), "a reply came back as a command");
    assert_no_dead_letters(&place).await;
    assert_nothing_is_left(&place, &["main", "second"]).await;
}

#[tokio::test]
async fn a_made_up_direct_reply_to_harms_no_other_command() {
    let TestEnv { place, settings, mut rows, mut results, publisher } =
        workload_env("made up").await;
    let mut requester = Collector::bound(&place.amqp_url, "requester", None).await;
    let mut messages = steps(0..40);
    // Not the bare name: the broker takes that for a wish to be answered, and only from those who
    // wait. The others it looks at only when something is sent there.
    let made_up = [".", ".a.b", ".!!!.???", ".g2gDdwNub2QAAAABAAAAAAA=.a2V5", "x"];
    for (message, address) in messages.iter_mut().step_by(3).zip(made_up.iter().cycle()) {
        message.properties.reply_to = Some(format!("amq.rabbitmq.reply-to{address}"));
    }
    messages[1].properties.reply_to = Some("requester".to_owned());
    publisher.publish(&messages).await;
    let worker = InProcess::start(&settings, Clock::system());
    assert_done_in_order(&messages, &mut results, &mut rows, DEADLINE).await;
    assert_first_results_in_order(&results);
    requester.read(1, DEADLINE).await;
    assert_one_generation(&mut rows).await;
    worker.stop().await;
    assert_eq!(results.received.len(), messages.len(), "each result once");
    assert_no_dead_letters(&place).await;
    assert_nothing_is_left(&place, &["main"]).await;
}

#[tokio::test]
async fn a_requester_who_waits_by_direct_reply_to_is_answered() {
    let TestEnv { place, settings, mut results, .. } = workload_env("direct").await;
    let properties = ConnectionProperties::default().with_connection_name("tests".into());
    let connection = Connection::connect(&place.amqp_url, properties).await.expect("the broker");
    let channel = connection.create_channel().await.expect("a channel");
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let direct = "amq.rabbitmq.reply-to";
    let mut replies = channel
        .basic_consume(direct.into(), "test".into(), options, FieldTable::default())
        .await
        .expect("a consumer");
    let command = step(0);
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_message_id("asked".into())
        .with_reply_to(direct.into());
    channel
        .basic_publish(
            command.exchange.as_str().into(),
            command.routing_key.as_str().into(),
            BasicPublishOptions::default(),
            &command.body,
            properties,
        )
        .await
        .expect("it is sent");
    let worker = InProcess::start(&settings, Clock::system());
    let result = results.read(1, DEADLINE).await[0].clone();
    let reply = tokio::time::timeout(DEADLINE, replies.next()).await.expect("a reply in time");
    assert_eq!(reply.expect("the consumer lives").expect("a reply").data, result.body);
    worker.stop().await;
    assert_nothing_is_left(&place, &["main"]).await;
}
