//! The harness itself: its servers answer, places are apart, and servers come back.

use std::time::{Duration, Instant};

use lapin::options::{BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, ConnectionProperties};
use sqlx::{Connection, PgConnection};

use crate::harness::collector::Collector;
use crate::harness::eventually;
use crate::harness::management::Depth;
use crate::harness::servers::{OwnServers, Place};

const SOON: Duration = Duration::from_secs(20);
/// How old the broker's figures may be: a lane that they call empty for longer has run empty.
const FIGURES_AGE_MAX: Duration = Duration::from_secs(3);

async fn connect(place: &Place) -> lapin::Connection {
    lapin::Connection::connect(
        &place.amqp_url,
        ConnectionProperties::default().with_connection_name("smoke".into()),
    )
    .await
    .expect("the broker answers")
}

async fn database_name(url: &str) -> String {
    let mut connection = PgConnection::connect(url).await.expect("Postgres answers");
    sqlx::query_scalar("select current_database()::text")
        .fetch_one(&mut connection)
        .await
        .expect("Postgres tells its name")
}

async fn publish(connection: &lapin::Connection, queue: &str) {
    let channel = connection.create_channel().await.expect("a channel");
    channel
        .queue_declare(queue.into(), QueueDeclareOptions::durable(), FieldTable::default())
        .await
        .expect("a queue");
    send(&channel, queue).await;
}

async fn send(channel: &lapin::Channel, queue: &str) {
    channel
        .basic_publish(
            "".into(),
            queue.into(),
            BasicPublishOptions::default(),
            b"hello",
            BasicProperties::default().with_delivery_mode(2),
        )
        .await
        .expect("a message is sent");
}

#[tokio::test]
async fn a_place_has_a_database_and_a_vhost_of_its_own() {
    let one = Place::new("one").await;
    let other = Place::without_migrations("other").await;
    assert_ne!(database_name(&one.database_url).await, database_name(&other.database_url).await);

    let connection = connect(&one).await;
    publish(&connection, "a queue/1").await;
    eventually(SOON, "the message is counted", async || {
        let depth = one.broker.depth("a queue/1")?;
        (depth == Depth { ready: 1, unacked: 0 }).then_some(())
    })
    .await;
    assert_eq!(other.broker.depth("a queue/1"), None);

    one.broker.delete_queue("a queue/1");
    assert_eq!(one.broker.depth("a queue/1"), None);
}

#[tokio::test]
async fn the_figures_of_a_quorum_queue_are_fresh() {
    let place = Place::new("figures").await;
    drop(Collector::bound(&place.amqp_url, "quorum", None).await);
    let connection = connect(&place).await;
    let channel = connection.create_channel().await.expect("a channel");
    let mut ages = Vec::new();
    for sent in 0..4 {
        let asked = Instant::now();
        eventually(SOON, "the messages are counted", async || {
            (place.broker.depth("quorum") == Some(Depth { ready: sent, unacked: 0 })).then_some(())
        })
        .await;
        // A new queue has no figures for a while.
        if sent > 0 {
            ages.push(asked.elapsed());
        }
        send(&channel, "quorum").await;
    }
    // The least, because a busy machine makes any of them wait.
    let least = ages.iter().min().expect("three were taken");
    assert!(*least < FIGURES_AGE_MAX, "messages were counted after {ages:?}");
}

#[tokio::test]
async fn an_operator_can_close_a_connection() {
    let place = Place::new("close").await;
    let connection = connect(&place).await;
    let (name, _) = eventually(SOON, "the connection is listed", async || {
        let connections = place.broker.connections();
        connections.into_iter().find(|(_, given)| given == "smoke")
    })
    .await;
    place.broker.close_connection(&name);
    eventually(SOON, "the client notices", async || {
        (!connection.status().connected()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn servers_come_back_with_their_data() {
    let own = OwnServers::start().await;
    let place = Place::on(&own.servers, "own").await;
    publish(&connect(&place).await, "kept").await;
    eventually(SOON, "the message is counted", async || {
        place.broker.depth("kept").filter(|depth| depth.ready == 1)
    })
    .await;

    own.postgres.kill().await;
    assert!(PgConnection::connect(&place.database_url).await.is_err());
    own.postgres.start().await;
    database_name(&place.database_url).await;

    own.rabbitmq.stop().await;
    own.rabbitmq.start().await;
    eventually(SOON, "the message is still there", async || {
        place.broker.depth("kept").filter(|depth| depth.ready == 1)
    })
    .await;
}
