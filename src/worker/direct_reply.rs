//! Replies to requesters who wait by RabbitMQ's direct reply-to, for which there is no queue.
//!
//! They go over a connection of their own, because the broker takes such an address apart when
//! it routes: on one that somebody made up RabbitMQ 3.10 ends the whole connection. With the
//! lane's it would end every generation anew, since the result has to be announced again. So
//! these replies are sent beside the lane: nothing waits for them, and one that breaks its
//! connection, or comes while too many wait, is lost, as its requester must always expect.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::broker;
use crate::broker::connection::Connection;
use crate::broker::publisher::Publisher;
use crate::message::Message;

/// What the broker puts into `reply_to` for such a requester begins with this.
const PREFIX: &str = "amq.rabbitmq.reply-to";
/// Replies that may wait.
const WAITING_MAX: usize = 1024;
/// A requester waits for no longer, and neither do those behind him.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);
/// How long those that wait at the end may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a generation's announcer hands such replies over.
#[derive(Clone)]
pub(super) struct DirectReplies(mpsc::Sender<Message>);

impl DirectReplies {
    /// Gives back what is for an ordinary queue.
    pub(super) fn take(&self, reply: Message) -> Option<Message> {
        if !reply.routing_key.starts_with(PREFIX) {
            return Some(reply);
        }
        if self.0.try_send(reply).is_err() {
            tracing::debug!("a direct reply is dropped: too many are waiting");
        }
        None
    }
}

/// The task that sends them; it ends when nobody can hand any over.
pub(super) struct Sender(AbortOnDropHandle<()>);

impl Sender {
    /// Connects when the first one comes.
    pub(super) fn start(url: String, name: &str) -> (Self, DirectReplies) {
        let (replies, waiting) = mpsc::channel(WAITING_MAX);
        let task = tokio::spawn(run(url, format!("{name} replying"), waiting));
        (Self(AbortOnDropHandle::new(task)), DirectReplies(replies))
    }

    /// Waits for the last ones, within a bound.
    pub(super) async fn finish(self) {
        if tokio::time::timeout(DRAIN_TIMEOUT, self.0).await.is_err() {
            tracing::debug!("direct replies were not sent in time and are dropped");
        }
    }
}

async fn run(url: String, name: String, mut waiting: mpsc::Receiver<Message>) {
    let mut open = None;
    while let Some(reply) = waiting.recv().await {
        // One by one: a batch would be lost as a whole.
        match send(open.take(), &url, &name, reply).await {
            Ok(still_open) => open = Some(still_open),
            Err(error) => tracing::debug!("a direct reply is dropped: {error}"),
        }
    }
    if let Some((connection, _)) = open {
        connection.close().await;
    }
}

async fn send(
    open: Option<(Arc<Connection>, Publisher)>,
    url: &str,
    name: &str,
    reply: Message,
) -> Result<(Arc<Connection>, Publisher), broker::error::Error> {
    let (connection, mut publisher) = if let Some(open) = open {
        open
    } else {
        let connection = Arc::new(Connection::open(url, name).await?);
        let publisher = Publisher::open(&connection, CONFIRM_TIMEOUT).await?;
        (connection, publisher)
    };
    publisher.publish(std::slice::from_ref(&reply)).await?;
    Ok((connection, publisher))
}
