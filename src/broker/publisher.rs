//! Publishes with confirms.
//!
//! Two traps of lapin shape this room. Several tasks that publish on one channel can get each
//! other's confirms: so the publisher owns its channel and publishes through `&mut self`. And a
//! returned message can hang on another message's confirm: so a batch is judged only when all
//! of its confirms are in, and returns are told apart by what was returned.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{Channel, Confirmation};
use tokio_util::task::AbortOnDropHandle;

use crate::broker::connection::{Connection, close_channel, request};
use crate::broker::error::Error;
use crate::broker::properties;
use crate::failpoint::{self, Point, Protection};
use crate::message::Message;

/// How many of these waits a blocked connection is given, which confirms nothing: giving up costs
/// every delivery that the lane holds one of its deliveries.
const WAITS_WHILE_BLOCKED: u32 = 20;

/// A channel in confirm mode and its only user.
pub struct Publisher {
    connection: Arc<Connection>,
    channel: Channel,
    /// Bounds the wait for all confirms of a batch.
    timeout: Duration,
    /// Who publishes, as messages say; the broker refuses any but the connection's own user.
    user_id: Option<ShortString>,
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
    /// Opens a channel for confirmed publishing; a batch may take `timeout`.
    pub async fn open(connection: &Arc<Connection>, timeout: Duration) -> Result<Self, Error> {
        let channel = confirming(connection).await?;
        Ok(Self { connection: Arc::clone(connection), channel, timeout, user_id: None })
    }

    /// Likewise, and lets each message say who publishes it: for workers that ask for that.
    pub async fn open_as(
        user: &str,
        connection: &Arc<Connection>,
        timeout: Duration,
    ) -> Result<Self, Error> {
        let publisher = Self::open(connection, timeout).await?;
        Ok(Self { user_id: Some(user.into()), ..publisher })
    }

    /// Goes on over a new channel. A channel that a full queue has refused remembers it, even
    /// after the queue's limit was lifted (RabbitMQ 3.10); one whose confirms stay out may have
    /// lost them. It costs the lane none of its deliveries.
    pub async fn reopen(&mut self) -> Result<(), Error> {
        let opening = tokio::time::timeout(self.timeout, confirming(&self.connection)).await;
        let fresh = opening.map_err(|_elapsed| Error::timeout("a new channel", self.timeout))??;
        let stale = std::mem::replace(&mut self.channel, fresh);
        close_channel(&stale).await;
        Ok(())
    }

    /// Publishes a batch, persistent and mandatory, and waits for every confirm.
    ///
    /// The receipts stand in the order of the messages. After an error it is unknown which of
    /// them arrived, and the publisher is of no use unless it can be reopened.
    pub async fn publish(&mut self, messages: &[Message]) -> Result<Vec<Receipt>, Error> {
        let (status, timeout) = (self.connection.status(), self.timeout);
        let mut publishing = pin!(self.publish_unbounded(messages));
        for _ in 0..WAITS_WHILE_BLOCKED {
            match tokio::time::timeout(timeout, &mut publishing).await {
                Ok(published) => return published,
                Err(_elapsed) if status.blocked() => {}
                Err(_elapsed) => break,
            }
        }
        Err(Error::Unconfirmed(timeout))
    }

    async fn publish_unbounded(&mut self, messages: &[Message]) -> Result<Vec<Receipt>, Error> {
        let confirmations = if failpoint::is_without(Protection::OnePublisher) {
            by_many_tasks(&self.channel, messages).await?
        } else {
            confirmed(&self.channel, messages, self.user_id.as_ref()).await?
        };
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

async fn confirming(connection: &Connection) -> Result<Channel, Error> {
    let channel = connection.channel().await?;
    request("asking for confirms", channel.confirm_select(ConfirmSelectOptions::default())).await?;
    Ok(channel)
}

async fn confirmed(
    channel: &Channel,
    messages: &[Message],
    user_id: Option<&ShortString>,
) -> Result<Vec<Confirmation>, Error> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let mut confirms = Vec::with_capacity(messages.len());
    for message in messages {
        let mut properties = properties::of(&message.properties);
        if let Some(user_id) = user_id {
            properties = properties.with_user_id(user_id.clone());
        }
        let confirm = channel
            .basic_publish(
                message.exchange.as_str().into(),
                message.routing_key.as_str().into(),
                options,
                &message.body,
                properties,
            )
            .await
            .map_err(|error| Error::of("publishing", &error))?;
        confirms.push(confirm);
    }
    failpoint::reach(Point::BeforeConfirm);
    try_join_all(confirms).await.map_err(|error| Error::of("waiting for confirms", &error))
}

/// What one owner of the channel avoids. For the fault suite.
async fn by_many_tasks(
    channel: &Channel,
    messages: &[Message],
) -> Result<Vec<Confirmation>, Error> {
    let tasks: Vec<_> = messages
        .iter()
        .map(|message| {
            let (channel, message) = (channel.clone(), message.clone());
            let publishing = async move { confirmed(&channel, &[message], None).await };
            AbortOnDropHandle::new(tokio::spawn(publishing))
        })
        .collect();
    let mut confirmations = Vec::with_capacity(messages.len());
    for task in tasks {
        confirmations.extend(task.await.map_err(|panic| Error::Outage(panic.to_string()))??);
    }
    Ok(confirmations)
}
