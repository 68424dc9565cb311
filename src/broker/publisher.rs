//! Publishes with confirms.
//!
//! Two traps of lapin shape this room. Several tasks that publish on one channel can get each
//! other's confirms: so the publisher owns its channel and publishes through `&mut self`. And a
//! returned message can hang on another message's confirm: so a batch is judged only when all
//! of its confirms are in, and returns are told apart by what was returned.

use std::collections::HashSet;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::try_join_all;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation, ConnectionStatus};

use crate::broker::connection::{Connection, request};
use crate::broker::error::Error;
use crate::broker::properties;
use crate::message::Message;

/// Bounds the wait for all confirms of a batch.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);
/// How many of these waits a blocked connection is given, which confirms nothing: giving up costs
/// every delivery that the lane holds one of its deliveries.
const WAITS_WHILE_BLOCKED: u32 = 20;

/// A channel in confirm mode and its only user.
pub struct Publisher {
    channel: Channel,
    status: ConnectionStatus,
}

/// What became of a published message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// In a queue, and safe.
    Routed,
    /// Taken, but no queue is bound for it.
    Unroutable,
    /// A queue refused it: it is full, or can't write.
    Refused,
}

impl Publisher {
    /// Opens a channel for confirmed publishing.
    pub async fn open(connection: &Connection) -> Result<Self, Error> {
        let channel = connection.channel().await?;
        request("asking for confirms", channel.confirm_select(ConfirmSelectOptions::default()))
            .await?;
        Ok(Self { channel, status: connection.status() })
    }

    /// Publishes a batch, persistent and mandatory, and waits for every confirm.
    ///
    /// The receipts stand in the order of the messages. After an error it is unknown which of
    /// them arrived, and the publisher is of no more use.
    pub async fn publish(&mut self, messages: &[Message]) -> Result<Vec<Receipt>, Error> {
        let status = self.status.clone();
        let mut publishing = pin!(self.publish_unbounded(messages));
        for _ in 0..WAITS_WHILE_BLOCKED {
            match tokio::time::timeout(CONFIRM_TIMEOUT, &mut publishing).await {
                Ok(published) => return published,
                Err(_elapsed) if status.blocked() => {}
                Err(_elapsed) => break,
            }
        }
        Err(Error::timeout("waiting for confirms", CONFIRM_TIMEOUT))
    }

    async fn publish_unbounded(&mut self, messages: &[Message]) -> Result<Vec<Receipt>, Error> {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let mut confirms = Vec::with_capacity(messages.len());
        for message in messages {
            let confirm = self
                .channel
                .basic_publish(
                    message.exchange.as_str().into(),
                    message.routing_key.as_str().into(),
                    options,
                    &message.body,
                    properties::of(&message.properties),
                )
                .await
                .map_err(|error| Error::of("publishing", &error))?;
            confirms.push(confirm);
        }
        let confirmations = try_join_all(confirms)
            .await
            .map_err(|error| Error::of("waiting for confirms", &error))?;

        let mut receipts = Vec::with_capacity(messages.len());
        let mut returned = HashSet::new();
        for confirmation in confirmations {
            receipts.push(if confirmation.is_nack() { Receipt::Refused } else { Receipt::Routed });
            if let Confirmation::Ack(Some(back)) | Confirmation::Nack(Some(back)) = confirmation {
                let delivery = back.delivery;
                let id = delivery.properties.message_id().as_ref().map(ToString::to_string);
                returned.insert((
                    delivery.exchange.to_string(),
                    delivery.routing_key.to_string(),
                    id,
                ));
            }
        }
        if !returned.is_empty() {
            for (message, receipt) in messages.iter().zip(&mut receipts) {
                let Message { exchange, routing_key, properties, .. } = message;
                let key = (exchange.clone(), routing_key.clone(), properties.message_id.clone());
                if *receipt == Receipt::Routed && returned.contains(&key) {
                    *receipt = Receipt::Unroutable;
                }
            }
        }
        Ok(receipts)
    }
}
