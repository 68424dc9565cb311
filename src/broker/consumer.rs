//! A lane's consumer: deliveries in the order of the queue, settled by multiple acks.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::StreamExt;
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;

use crate::broker::connection::{Connection, REQUEST_TIMEOUT, close_channel, request};
use crate::broker::error::Error;
use crate::broker::properties;
use crate::failpoint::{self, Protection};
use crate::message::Message;

/// A subscription on a channel of its own.
pub struct Consumer {
    channel: Channel,
    prefetch: u16,
    deliveries: lapin::Consumer,
    /// How many have come.
    delivered: Arc<AtomicU64>,
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
    /// Subscribes to `queue`; at most `prefetch` deliveries are unacked at any time.
    pub async fn subscribe(
        connection: &Connection,
        queue: &str,
        prefetch: u16,
        tag: &str,
    ) -> Result<Self, Error> {
        let channel = connection.channel().await?;
        request("setting the prefetch", channel.basic_qos(prefetch, BasicQosOptions::default()))
            .await?;
        let no_ack = failpoint::is_without(Protection::AckAfterCommit);
        let options = BasicConsumeOptions { no_ack, ..BasicConsumeOptions::default() };
        let consuming =
            channel.basic_consume(queue.into(), tag.into(), options, FieldTable::default());
        let deliveries = request(&format!("subscribing to {queue}"), consuming).await?;
        connection.hold(deliveries.clone());
        Ok(Self { channel, prefetch, deliveries, delivered: Arc::default() })
    }

    /// The next delivery. Safe to cancel.
    ///
    /// The end of the stream is an [`Error::Outage`]: a deleted queue ends it while the channel
    /// stays open.
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
            Some(Err(error)) => Err(Error::of("consuming", &error)),
            None => Err(Error::Outage(
                "the broker ended the subscription: the queue was deleted or the channel closed"
                    .into(),
            )),
        }
    }

    /// Acks for this channel, by whoever announces.
    #[must_use]
    pub fn acknowledger(&self) -> Acknowledger {
        Acknowledger {
            channel: self.channel.clone(),
            prefetch: self.prefetch,
            delivered: Arc::clone(&self.delivered),
        }
    }

    /// Cancels the consumer, which hands the queue over while messages are still unacked here:
    /// what [`Self::close`] avoids. For the fault suite.
    pub(crate) async fn cancel(&self) -> Result<(), Error> {
        let options = BasicCancelOptions::default();
        request("cancelling", self.channel.basic_cancel(self.deliveries.tag(), options)).await
    }

    /// Closes the channel, which requeues what is unacked at the front of the queue.
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
    /// hundreds of megabytes: so it is waited for as long as these come. The prefetch bounds that.
    pub async fn check_open(&self) -> Result<(), Error> {
        let what = "checking the channel";
        // Any request would do; this one changes nothing.
        let options = BasicQosOptions::default();
        let mut answer = pin!(self.channel.basic_qos(self.prefetch, options));
        loop {
            let before = self.delivered.load(Ordering::Relaxed);
            match tokio::time::timeout(REQUEST_TIMEOUT, &mut answer).await {
                Ok(answer) => return answer.map_err(|error| Error::of(what, &error)),
                Err(_elapsed) if self.delivered.load(Ordering::Relaxed) > before => {}
                Err(_elapsed) => return Err(Error::timeout(what, REQUEST_TIMEOUT)),
            }
        }
    }

    /// Acks everything up to `tag`. A broker that does not hear of it delivers it all again.
    pub async fn ack_through(&self, tag: u64) -> Result<(), Error> {
        if failpoint::is_without(Protection::AckAfterCommit) {
            return Ok(());
        }
        request("acknowledging", self.channel.basic_ack(tag, BasicAckOptions { multiple: true }))
            .await?;
        Ok(())
    }
}
