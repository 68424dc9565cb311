//! How much waits in a queue, as far as AMQP itself tells.
//!
//! A passive declaration counts what is ready; what is delivered and unacked, and how old the
//! oldest is, only the management plugin knows, which need not be there.

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;

use crate::broker::connection::{Connection, close_channel, request};
use crate::broker::error::Error;

/// What waits in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// Messages that are ready to be delivered.
    pub ready: u32,
    /// Subscriptions, those on standby included.
    pub consumers: u32,
}

/// The queue's depth; `None` if there is no such queue.
pub async fn depth(connection: &Connection, queue: &str) -> Result<Option<Depth>, Error> {
    // A channel of its own, because a refusal closes the channel.
    let channel = connection.channel().await?;
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let declared = channel.queue_declare(queue.into(), options, FieldTable::default());
    match request(&format!("looking at queue {queue}"), declared).await {
        Ok(found) => {
            close_channel(&channel).await;
            Ok(Some(Depth { ready: found.message_count(), consumers: found.consumer_count() }))
        }
        Err(Error::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
