//! Publishes with confirms.
//!
//! Two traps of lapin shape this module. Several tasks that publish on one channel can get each
//! other's confirms: so the publisher owns its channel and publishes through `&mut self`. And a
//! returned message can arrive with another message's confirm, even one of another batch: so the receipts
//! of a batch are made when all of its confirms have arrived, and a return is matched by its content.

use std::collections::HashSet;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, maybe_done};
use futures_util::{FutureExt, poll};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{Channel, Confirmation, ConnectionStatus, PublisherConfirm};

use crate::broker::connection::{Connection, close_channel, request};
use crate::broker::error::Error;
#[cfg(feature = "failpoints")]
use crate::broker::failpoints;
use crate::broker::properties;
use crate::failpoint::{self, Point};
use crate::message::Message;

/// How many of these waits a blocked connection gets, which confirms nothing: giving up uses up one delivery
/// of everything that the lane holds.
const WAITS_WHILE_BLOCKED: u32 = 20;

/// Largest body that is sent with others on their way. A broker closes the channel of a message that is
/// larger than it takes. What lapin still has in its buffer then goes out behind its close-ok, and the
/// broker takes that for a fault of the whole connection (lapin 4.12.3, RabbitMQ 3.10 and 4.3).
const SENT_WITH_OTHERS_BYTES_MAX: usize = 32 * 1024;

/// A channel in confirm mode and its only user.
pub struct Publisher {
    connection: Arc<Connection>,
    channel: Channel,
    /// Bounds the wait for all confirms of a batch.
    timeout: Duration,
    /// Messages that the broker has returned and no batch has been matched with yet.
    returned: HashSet<Identity>,
    /// Who publishes, as messages say; the broker refuses any but the connection's own user.
    user_id: Option<ShortString>,
}

/// The exchange, the routing key and the message id.
type Identity = (String, String, Option<String>);

/// Waits for the confirms of a batch.
pub type Confirming = BoxFuture<'static, Result<Confirmed, Error>>;

/// The confirms of a batch, all of them in.
pub struct Confirmed(Vec<Confirmation>);

/// What became of a published message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// In a queue, and safe.
    Routed,
    /// Accepted, but no queue is bound for it.
    Unroutable,
    /// A queue refused it: it is full, or can't write.
    Refused,
}

/// What became of a message that was published with no other on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alone {
    /// The broker has decided on it.
    Decided(Receipt),
    /// The broker closed the channel because of the message itself, such as one that is too large;
    /// in its words.
    Unacceptable(String),
}

impl Publisher {
    /// Opens a channel for confirmed publishing; a batch may take `timeout`.
    pub async fn open(connection: &Arc<Connection>, timeout: Duration) -> Result<Self, Error> {
        let channel = confirming(connection).await?;
        let connection = Arc::clone(connection);
        Ok(Self { connection, channel, timeout, returned: HashSet::new(), user_id: None })
    }

    /// Opens a channel over which each message says who publishes it: for workers with `[publishers]`.
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
        self.returned.clear();
        close_channel(&stale).await;
        Ok(())
    }

    /// Publishes a batch, persistent and mandatory, and waits for every confirm.
    ///
    /// The receipts are in the order of the messages. After an error it is unknown which of
    /// them arrived, and the publisher is of no use unless it can be reopened.
    pub async fn publish(&mut self, messages: &[Message]) -> Result<Vec<Receipt>, Error> {
        let confirmed = self.send(messages).await?.await?;
        Ok(self.receipts(messages, confirmed))
    }

    /// Publishes one message that may be the reason why a channel was closed, with no other on its
    /// way. The publisher is good for the next one unless this gives an error.
    pub async fn publish_alone(&mut self, message: &Message) -> Result<Alone, Error> {
        match self.publish(std::slice::from_ref(message)).await {
            Ok(receipts) => {
                let receipt = receipts.first().copied().unwrap_or(Receipt::Refused);
                Ok(Alone::Decided(receipt))
            }
            Err(Error::Precondition(why)) => {
                self.reopen().await?;
                Ok(Alone::Unacceptable(why))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the connection lives, as far as is known: then a new channel may do.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connection.status().connected()
    }

    /// The connection that it publishes over.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Forgets returned messages once they are more than `returns_max`: for callers that do not ask for
    /// receipts in the order in which they sent.
    pub fn forget_returned(&mut self, returns_max: usize) {
        if self.returned.len() > returns_max {
            self.returned.clear();
        }
    }

    /// Publishes a batch; the future waits for its confirms, and bears being left alone until then.
    /// The next batch may be sent meanwhile, unless one of the two must not be taken for routed
    /// when it was not.
    pub async fn send(&mut self, messages: &[Message]) -> Result<Confirming, Error> {
        let (status, timeout) = (self.connection.status(), self.timeout);
        let confirms =
            bounded(&status, timeout, send(&self.channel, messages, self.user_id.as_ref())).await?;
        Ok(async move { bounded(&status, timeout, confirms).await.map(Confirmed) }.boxed())
    }

    /// Publishes messages that are not waited for together: a future for each, in their order.
    pub async fn send_each(
        &mut self,
        messages: impl Iterator<Item = &Message>,
    ) -> Result<Vec<Confirming>, Error> {
        let (status, timeout) = (self.connection.status(), self.timeout);
        let messages: Vec<&Message> = messages.collect();
        let sending = begin(&self.channel, &messages, self.user_id.as_ref());
        let confirms = bounded(&status, timeout, sending).await?;
        let confirming = confirms.into_iter().map(|confirm| {
            let status = status.clone();
            async move {
                let one = async { Ok(Confirmed(vec![confirm.confirmed().await?])) };
                bounded(&status, timeout, one).await
            }
            .boxed()
        });
        Ok(confirming.collect())
    }

    /// What became of a batch. To be asked for in the order in which batches were sent.
    pub fn receipts(&mut self, messages: &[Message], confirmed: Confirmed) -> Vec<Receipt> {
        let mut receipts = Vec::with_capacity(messages.len());
        for confirmation in confirmed.0 {
            receipts.push(if confirmation.is_nack() { Receipt::Refused } else { Receipt::Routed });
            if let Confirmation::Ack(Some(back)) | Confirmation::Nack(Some(back)) = confirmation {
                let delivery = back.delivery;
                let id = delivery.properties.message_id().as_ref().map(ToString::to_string);
                let (exchange, key) = (&delivery.exchange, &delivery.routing_key);
                self.returned.insert((exchange.to_string(), key.to_string(), id));
            }
        }
        if !self.returned.is_empty() {
            let identities: Vec<Identity> = messages.iter().map(identity).collect();
            for (identity, receipt) in identities.iter().zip(&mut receipts) {
                if *receipt == Receipt::Routed && self.returned.contains(identity) {
                    *receipt = Receipt::Unroutable;
                }
            }
            for identity in &identities {
                self.returned.remove(identity);
            }
        }
        receipts
    }
}

/// Waits for the broker within the bound, and longer while it has blocked the connection.
async fn bounded<T>(
    status: &ConnectionStatus,
    timeout: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let mut work = pin!(work);
    for _ in 0..WAITS_WHILE_BLOCKED {
        match tokio::time::timeout(timeout, &mut work).await {
            Ok(done) => return done,
            Err(_elapsed) if status.blocked() => {}
            Err(_elapsed) => break,
        }
    }
    Err(Error::Unconfirmed(timeout))
}

fn identity(message: &Message) -> Identity {
    let Message { exchange, routing_key, properties, .. } = message;
    (exchange.clone(), routing_key.clone(), properties.message_id.clone())
}

async fn confirming(connection: &Connection) -> Result<Channel, Error> {
    let channel = connection.channel().await?;
    request("asking for confirms", channel.confirm_select(ConfirmSelectOptions::default())).await?;
    Ok(channel)
}

async fn send(
    channel: &Channel,
    messages: &[Message],
    user_id: Option<&ShortString>,
) -> Result<BoxFuture<'static, Result<Vec<Confirmation>, Error>>, Error> {
    failpoint::without!(OnePublisher, return Ok(failpoints::by_many_tasks(channel, messages)));
    let messages: Vec<&Message> = messages.iter().collect();
    let confirms = begin(channel, &messages, user_id).await?;
    failpoint::reach(Point::BeforeConfirm);
    let all = async move {
        let mut confirmations = Vec::with_capacity(confirms.len());
        for confirm in confirms {
            confirmations.push(confirm.confirmed().await?);
        }
        Ok(confirmations)
    };
    Ok(all.boxed())
}

/// A message that the channel has, and what the broker says of it.
enum Pending {
    Confirm(PublisherConfirm),
    Confirmed(Box<Confirmation>),
}

impl Pending {
    async fn confirmed(self) -> Result<Confirmation, Error> {
        match self {
            Self::Confirm(confirm) => confirmed(confirm).await,
            Self::Confirmed(confirmation) => Ok(*confirmation),
        }
    }
}

/// Hands messages to the channel, in their order. Nothing is sent behind a large message before it is
/// confirmed.
async fn begin(
    channel: &Channel,
    messages: &[&Message],
    user_id: Option<&ShortString>,
) -> Result<Vec<Pending>, Error> {
    let mut pending = Vec::new();
    let mut small = Vec::new();
    for &message in messages {
        if message.body.len() <= SENT_WITH_OTHERS_BYTES_MAX {
            small.push(message);
            continue;
        }
        begin_small(channel, &mut small, user_id, &mut pending).await?;
        let confirm = send_one(channel, message, user_id).await?;
        pending.push(Pending::Confirmed(Box::new(confirmed(confirm).await?)));
    }
    begin_small(channel, &mut small, user_id, &mut pending).await?;
    Ok(pending)
}

async fn begin_small(
    channel: &Channel,
    messages: &mut Vec<&Message>,
    user_id: Option<&ShortString>,
    pending: &mut Vec<Pending>,
) -> Result<(), Error> {
    // lapin takes a message, and numbers it, when it is first polled, and is done when the socket has
    // it: who waits for that before the next pays a wake-up of another thread and back for each.
    let mut sending = Vec::with_capacity(messages.len());
    for message in messages.drain(..) {
        let mut one = Box::pin(maybe_done(send_one(channel, message, user_id)));
        // What it comes to is looked at below.
        let _begun = poll!(one.as_mut());
        sending.push(one);
    }
    for mut one in sending {
        one.as_mut().await;
        pending.extend(one.as_mut().take_output().transpose()?.map(Pending::Confirm));
    }
    Ok(())
}

async fn send_one(
    channel: &Channel,
    message: &Message,
    user_id: Option<&ShortString>,
) -> Result<PublisherConfirm, Error> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let mut properties = properties::of(&message.properties);
    if let Some(user_id) = user_id {
        properties = properties.with_user_id(user_id.clone());
    }
    let sending = channel.basic_publish(
        message.exchange.as_str().into(),
        message.routing_key.as_str().into(),
        options,
        &message.body,
        properties,
    );
    sending.await.map_err(|error| Error::of("publishing", &error))
}

async fn confirmed(confirm: PublisherConfirm) -> Result<Confirmation, Error> {
    confirm.await.map_err(|error| Error::of("waiting for confirms", &error))
}
