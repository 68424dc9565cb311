//! Whether the broker can declare a lane now, tried with a queue that is deleted again.
//!
//! A lane that exists says nothing about the next one: a broker whose dead-letter worker has ended
//! serves what it has and declares no lane any more. Deliberately absent: bindings, so no command can
//! get into the queue.

use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::AMQPValue;
use uuid::Uuid;

use crate::broker::connection::{Connection, close_channel, request};
use crate::broker::error::Error;
use crate::broker::topology::LANE_ARGUMENTS;
use crate::broker::topology::declare::table;

/// What the names of such queues begin with.
pub const PREFIX: &str = "partner-program.doctor.";
/// The broker deletes the queue after so many milliseconds, should this process not come to it.
const EXPIRES_MS: i64 = 60_000;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// The queue was declared and deleted.
    Declared,
    /// The user may not declare queues, so nothing is known.
    NotPermitted,
}

/// Declares a queue with a lane's arguments, under a name of its own, and deletes it. An error says that
/// no lane can be declared.
pub async fn declare_lane(connection: &Connection) -> Result<Probe, Error> {
    let name = format!("{PREFIX}{}", Uuid::new_v4().simple());
    let channel = connection.channel().await?;
    let mut arguments = table(LANE_ARGUMENTS);
    arguments.insert("x-expires".into(), AMQPValue::LongLongInt(EXPIRES_MS));
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let declaring = channel.queue_declare(name.as_str().into(), options, arguments);
    match request(&format!("declaring the queue {name}"), declaring).await {
        Ok(_) => {}
        // The broker has closed the channel, and there is nothing to delete.
        Err(Error::Refused(_)) => return Ok(Probe::NotPermitted),
        Err(error) => {
            // It may be there in spite of the error.
            if let Err(deleting) = delete(connection, &name).await {
                tracing::debug!("the queue could not be deleted: {deleting}");
            }
            return Err(error);
        }
    }
    close_channel(&channel).await;
    delete(connection, &name).await?;
    Ok(Probe::Declared)
}

async fn delete(connection: &Connection, name: &str) -> Result<(), Error> {
    let channel = connection.channel().await?;
    let deleting = channel.queue_delete(name.into(), QueueDeleteOptions::default());
    request(&format!("deleting the queue {name}, which expires within a minute"), deleting).await?;
    close_channel(&channel).await;
    Ok(())
}
