//! What the broker alone does with messages of the same size: publish with confirms, consume with
//! acks.

use std::time::Instant;

use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Confirmation, PublisherConfirm};
use std::collections::VecDeque;

use crate::drain::per_second;
use crate::harness::connect;
use crate::stage::{RESULTS, Stage};

/// As large as a result of one item.
const BODY: [u8; 300] = [b'x'; 300];
/// Unconfirmed at a time: beyond it, more gains nothing.
const IN_FLIGHT: usize = 2000;
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
    let connection = connect(&stage.place.amqp_url, "limits").await.expect("the broker answers");
    let channel = connection.create_channel().await.expect("a channel");
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    let began = Instant::now();
    let mut in_flight: VecDeque<PublisherConfirm> = VecDeque::with_capacity(IN_FLIGHT);
    for _ in 0..count {
        if in_flight.len() == IN_FLIGHT {
            confirmed(in_flight.pop_front()).await;
        }
        let properties = BasicProperties::default().with_delivery_mode(2);
        let options = BasicPublishOptions::default();
        let sending =
            channel.basic_publish("".into(), RESULTS.into(), options, &BODY, properties).await;
        in_flight.push_back(sending.expect("it is sent"));
    }
    while !in_flight.is_empty() {
        confirmed(in_flight.pop_front()).await;
    }
    let published = per_second(count, began.elapsed());

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

async fn confirmed(confirm: Option<PublisherConfirm>) {
    let confirmed = confirm.expect("one is in flight").await.expect("the broker confirms");
    assert!(matches!(confirmed, Confirmation::Ack(None)), "{confirmed:?}");
}
