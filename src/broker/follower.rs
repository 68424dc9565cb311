//! Reads copies of the results from a queue of its own, which ends with its connection.
//!
//! Deliberately absent: acks. A follower shows what passes while it looks, so the broker need not
//! keep anything for it; subscribers that must not miss a result have a durable queue instead.

use futures_util::StreamExt;
use lapin::Channel;
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;

use crate::broker::connection::{Connection, close_channel, request};
use crate::broker::error::Error;
use crate::broker::properties;
use crate::broker::topology::RESULTS;
use crate::message::Message;

/// A subscription to results, on a channel and an exclusive queue of its own.
pub struct Follower {
    channel: Channel,
    deliveries: lapin::Consumer,
}

impl Follower {
    /// Subscribes to the results whose routing keys match one of the topic `patterns`. Whatever
    /// is published once this has returned will be seen.
    pub async fn open(connection: &Connection, patterns: &[String]) -> Result<Self, Error> {
        let channel = connection.channel().await?;
        let options = QueueDeclareOptions {
            exclusive: true,
            auto_delete: true,
            ..QueueDeclareOptions::default()
        };
        let declaring = channel.queue_declare("".into(), options, FieldTable::default());
        let queue = request("declaring a queue for results", declaring).await?;
        for pattern in patterns {
            let binding = channel.queue_bind(
                queue.name().clone(),
                RESULTS.into(),
                pattern.as_str().into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            );
            request(&format!("binding a queue to {RESULTS}"), binding).await?;
        }
        let options =
            BasicConsumeOptions { no_ack: true, exclusive: true, ..BasicConsumeOptions::default() };
        let consuming =
            channel.basic_consume(queue.name().clone(), "".into(), options, FieldTable::default());
        let deliveries = request("subscribing to results", consuming).await?;
        Ok(Self { channel, deliveries })
    }

    /// The next result or rejection. Safe to cancel.
    pub async fn next(&mut self) -> Result<Message, Error> {
        match self.deliveries.next().await {
            Some(Ok(delivery)) => Ok(properties::message(
                delivery.exchange.as_str(),
                delivery.routing_key.as_str(),
                &delivery.properties,
                delivery.data,
            )),
            Some(Err(error)) => Err(Error::of("following results", &error)),
            None => Err(Error::Outage("the broker ended the subscription to results".into())),
        }
    }

    /// Gives the channel and with it the queue back.
    pub async fn close(self) {
        close_channel(&self.channel).await;
    }
}
