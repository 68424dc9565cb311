//! A lane's consumer: deliveries in the order of the queue, acked up to a tag.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};

use crate::broker::connection::{Connection, Loss, close_channel, request};
use crate::broker::error::Error;
use crate::broker::properties;
use crate::failpoint;
use crate::message::Message;

/// A subscription on a channel of its own.
pub struct Consumer {
    pub(super) channel: Channel,
    prefetch: u16,
    pub(super) deliveries: lapin::Consumer,
    /// How many have come.
    delivered: Arc<AtomicU64>,
    /// Told when the subscription ends.
    loss: Loss,
}

/// A message and the right to ack it.
pub struct Delivery {
    /// Grows with each delivery of the channel.
    pub tag: u64,
    /// Whether the broker has delivered it before.
    pub redelivered: bool,
    /// As it was published.
    pub message: Message,
}

impl Consumer {
    /// Subscribes to `queue`; at most `prefetch` deliveries are unacked at any time, and each for at
    /// most `unacked_max`. A broker from 4.3 on cancels a consumer that holds one for longer, and
    /// returns only the overdue ones, which another consumer gets before the rest; older brokers have
    /// a setting of their own (`consumer_timeout`), and close the channel, which keeps the order.
    pub async fn subscribe(
        connection: &Connection,
        queue: &str,
        prefetch: u16,
        tag: &str,
        unacked_max: Duration,
    ) -> Result<Self, Error> {
        let channel = connection.channel().await?;
        request("setting the prefetch", channel.basic_qos(prefetch, BasicQosOptions::default()))
            .await?;
        let no_ack = failpoint::without!(AckAfterCommit, true, else false);
        let options = BasicConsumeOptions { no_ack, ..BasicConsumeOptions::default() };
        let mut arguments = FieldTable::default();
        let milliseconds = i64::try_from(unacked_max.as_millis()).unwrap_or(i64::MAX);
        arguments.insert("x-consumer-timeout".into(), AMQPValue::LongLongInt(milliseconds));
        let consuming = channel.basic_consume(queue.into(), tag.into(), options, arguments);
        let deliveries = request(&format!("subscribing to {queue}"), consuming).await?;
        connection.hold(deliveries.clone());
        let loss = connection.loss();
        Ok(Self { channel, prefetch, deliveries, delivered: Arc::default(), loss })
    }

    /// The next delivery. Safe to cancel.
    ///
    /// The end of the stream is an [`Error::Outage`], and the loss of the connection: a cancel by the
    /// broker, as of a deleted queue, ends it while the channel stays open.
    pub async fn next(&mut self) -> Result<Delivery, Error> {
        let next = self.deliveries.next().await;
        self.delivered.fetch_add(1, Ordering::Relaxed);
        match next {
            Some(Ok(delivery)) => Ok(Delivery {
                tag: delivery.delivery_tag,
                redelivered: delivery.redelivered,
                message: properties::message(
                    delivery.exchange.as_str(),
                    delivery.routing_key.as_str(),
                    &delivery.properties,
                    delivery.data,
                ),
            }),
            Some(Err(error)) => Err(self.lost(Error::of("consuming", &error))),
            None => Err(self.lost(Error::Outage(
                "the broker ended the subscription: the queue was deleted, deliveries were held for too long, or the channel was closed"
                    .into(),
            ))),
        }
    }

    /// Ends whatever works on deliveries of the connection: from now on another consumer may have them.
    fn lost(&self, error: Error) -> Error {
        self.loss.tell(&error.to_string());
        error
    }

    /// Acks on this channel; the result publisher holds it.
    #[must_use]
    pub fn acknowledger(&self) -> Acknowledger {
        Acknowledger {
            channel: self.channel.clone(),
            prefetch: self.prefetch,
            delivered: Arc::clone(&self.delivered),
        }
    }

    /// Closes the channel, which requeues what is unacked at the front of the queue. A cancel would hand the
    /// queue over while messages are still unacked here.
    pub async fn close(self) {
        close_channel(&self.channel).await;
    }
}

/// The right to ack deliveries of one channel.
#[derive(Clone)]
pub struct Acknowledger {
    channel: Channel,
    prefetch: u16,
    delivered: Arc<AtomicU64>,
}

impl Acknowledger {
    /// Asks the broker whether the channel is still open.
    ///
    /// The answer comes behind all deliveries that the broker has sent already, which may be
    /// hundreds of megabytes. So this waits as long as these come, and for `patience` after the last one. A
    /// broker from 4.0 on spends seconds on each delivery with deep headers, and would spend them again on a
    /// new channel. The prefetch bounds that; the connection notices a broker that is unavailable.
    pub async fn check_open(&self, patience: Duration) -> Result<(), Error> {
        let what = "checking the channel";
        // Any request would do; this one changes nothing.
        let options = BasicQosOptions::default();
        let mut answer = pin!(self.channel.basic_qos(self.prefetch, options));
        loop {
            let before = self.delivered.load(Ordering::Relaxed);
            match tokio::time::timeout(patience, &mut answer).await {
                Ok(answer) => return answer.map_err(|error| Error::of(what, &error)),
                Err(_elapsed) if self.delivered.load(Ordering::Relaxed) > before => {}
                Err(_elapsed) => return Err(Error::timeout(what, patience)),
            }
        }
    }

    /// Acks everything up to `tag`. A broker that does not hear of it delivers it all again.
    pub async fn ack_through(&self, tag: u64) -> Result<(), Error> {
        failpoint::without!(AckAfterCommit, return Ok(()));
        request("acknowledging", self.channel.basic_ack(tag, BasicAckOptions { multiple: true }))
            .await?;
        Ok(())
    }
}
