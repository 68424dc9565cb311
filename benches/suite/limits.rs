//! What the broker alone does with messages of the same size: publish with confirms, consume with
//! acks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use partner_program_worker::broker::connection::Connection;
use partner_program_worker::broker::publisher::{Confirming, Publisher};
use partner_program_worker::message::Message;

use crate::harness::connect;
use crate::rate::per_second;
use crate::stage::{RESULTS, Stage};

/// As large as a result of one item.
const BODY: [u8; 300] = [b'x'; 300];
/// Published at a time, and such batches unconfirmed: beyond it, more gains nothing.
const BATCH: usize = 500;
const IN_FLIGHT: usize = 3;
const TIMEOUT: Duration = Duration::from_secs(30);
const ACK_EVERY: u64 = 500;
const PREFETCH: u16 = 1999;

/// Messages a second.
pub(crate) struct Limits {
    pub(crate) published: f64,
    pub(crate) consumed: f64,
}

/// Publishes `count` messages to the results' queue over one channel, then consumes them.
pub(crate) async fn broker(stage: &mut Stage, count: usize) -> Limits {
    stage.reset().await;
    let published = publish(&stage.place.amqp_url, "", RESULTS, count).await;
    let connection = connect(&stage.place.amqp_url, "limits").await.expect("the broker answers");
    let channel = connection.create_channel().await.expect("a channel");
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await.expect("a prefetch");
    let options = BasicConsumeOptions::default();
    let consuming =
        channel.basic_consume(RESULTS.into(), "limits".into(), options, FieldTable::default());
    let mut consumer = consuming.await.expect("the queue is there");
    let began = Instant::now();
    for number in 1..=count {
        let delivery = consumer.next().await.expect("it goes on").expect("a delivery");
        if delivery.delivery_tag.is_multiple_of(ACK_EVERY) || number == count {
            let all = BasicAckOptions { multiple: true };
            delivery.ack(all).await.expect("it is acked");
        }
    }
    Limits { published, consumed: per_second(count, began.elapsed()) }
}

/// Publishes over one channel; messages a second.
pub(crate) async fn publish(url: &str, exchange: &str, routing_key: &str, count: usize) -> f64 {
    let connection = Connection::open(url, "limits").await.expect("the broker answers");
    let mut publisher = Publisher::open(&Arc::new(connection), TIMEOUT).await.expect("a channel");
    let batch: Vec<Message> = (0..BATCH).map(|_| message(exchange, routing_key)).collect();
    let began = Instant::now();
    let mut in_flight: VecDeque<Confirming> = VecDeque::with_capacity(IN_FLIGHT);
    for _ in 0..count / BATCH {
        if in_flight.len() == IN_FLIGHT {
            confirmed(in_flight.pop_front()).await;
        }
        in_flight.push_back(publisher.send(&batch).await.expect("it is sent"));
    }
    while !in_flight.is_empty() {
        confirmed(in_flight.pop_front()).await;
    }
    per_second(count, began.elapsed())
}

fn message(exchange: &str, routing_key: &str) -> Message {
    Message {
        exchange: exchange.to_owned(),
        routing_key: routing_key.to_owned(),
        body: BODY.to_vec(),
        ..Message::default()
    }
}

async fn confirmed(batch: Option<Confirming>) {
    let batch = batch.expect("one is in flight");
    drop(batch.await.expect("the broker confirms"));
}
