//! What the broker itself takes out of a lane still ends in the dead letters.

use futures_util::StreamExt;
use lapin::options::{BasicNackOptions, BasicPublishOptions};
use lapin::{BasicProperties, Connection, ConnectionProperties};

use crate::faults::trial::{DEADLINE, LANE};
use crate::harness::collector::{Collector, Received, try_subscribe};
use crate::harness::environment::TestEnv;
use crate::harness::servers::Place;
use crate::harness::workload;
use crate::model::Model;

const DEAD_LETTERS: &str = "partner-program.dead-letters";
/// A policy lowers the lane's limit to it: the declared one is far beyond what a test can reach.
const DELIVERIES_MAX: usize = 5;

async fn env(name: &str) -> TestEnv {
    let model = Model::new(chrono::DateTime::UNIX_EPOCH, workload::world());
    TestEnv::at(Place::new(name).await, &model).await
}

/// Takes the one message of the lane and gives it back, until it does not come again.
async fn give_back(env: &TestEnv, requeue: bool) -> (usize, Received) {
    let queue = format!("partner-program.commands.{LANE}");
    let (_connection, mut consumer) =
        try_subscribe(&env.place.amqp_url, &queue).await.expect("the broker answers");
    let mut letters = Collector::of_queue(&env.place.amqp_url, DEAD_LETTERS);
    let mut deliveries = 0;
    let giving = async {
        while let Some(Ok(delivery)) = consumer.next().await {
            deliveries += 1;
            let options = BasicNackOptions { requeue, ..BasicNackOptions::default() };
            delivery.nack(options).await.expect("it is given back");
        }
    };
    let letter = tokio::select! {
        () = giving => panic!("the subscription ended"),
        letters = letters.read(1, DEADLINE) => letters[0].clone(),
    };
    (deliveries, letter)
}

#[tokio::test]
async fn a_message_beyond_the_delivery_limit_is_a_dead_letter() {
    let env = env("delivery limit").await;
    env.place.broker.limit_deliveries(DELIVERIES_MAX);
    env.publisher.publish(&[workload::step(0)]).await;
    let (deliveries, letter) = give_back(&env, true).await;
    assert_eq!(letter.body, workload::step(0).body);
    assert!((DELIVERIES_MAX..=DELIVERIES_MAX + 2).contains(&deliveries), "{deliveries}");
}

#[tokio::test]
async fn a_rejected_message_is_a_dead_letter() {
    let env = env("rejected").await;
    env.publisher.publish(&[workload::step(0)]).await;
    let (deliveries, letter) = give_back(&env, false).await;
    assert_eq!(letter.body, workload::step(0).body);
    assert_eq!(deliveries, 1);
}

#[tokio::test]
async fn an_expired_message_is_a_dead_letter() {
    let env = env("expired").await;
    let step = workload::step(0);
    let connection = Connection::connect(&env.place.amqp_url, ConnectionProperties::default())
        .await
        .expect("the broker answers");
    let channel = connection.create_channel().await.expect("a channel");
    channel
        .basic_publish(
            step.exchange.as_str().into(),
            step.routing_key.as_str().into(),
            BasicPublishOptions::default(),
            &step.body,
            BasicProperties::default()
                .with_delivery_mode(2)
                .with_expiration("1".into())
                .with_message_id("expired".into()),
        )
        .await
        .expect("it is published");
    let mut letters = Collector::of_queue(&env.place.amqp_url, DEAD_LETTERS);
    let letter = letters.read(1, DEADLINE).await[0].clone();
    assert_eq!(letter.message_id.as_deref(), Some("expired"));
    assert_eq!(letter.body, step.body);
}
