//! What a lane's publisher and consumer never do, for the fault suite (`failpoint`).

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use lapin::options::{BasicCancelOptions, BasicPublishOptions};
use lapin::{Channel, Confirmation};
use tokio_util::task::AbortOnDropHandle;

use crate::broker::connection::request;
use crate::broker::consumer::Consumer;
use crate::broker::error::Error;
use crate::broker::properties;
use crate::message::Message;

/// Publishes by several tasks over one channel: they can get each other's confirms.
pub(super) fn by_many_tasks(
    channel: &Channel,
    messages: &[Message],
) -> BoxFuture<'static, Result<Vec<Confirmation>, Error>> {
    let publish = |message: &Message| {
        let publishing = publish(channel.clone(), message.clone());
        AbortOnDropHandle::new(tokio::spawn(publishing))
    };
    let tasks: Vec<_> = messages.iter().map(publish).collect();
    let all = async move {
        let mut confirmations = Vec::with_capacity(tasks.len());
        for task in tasks {
            confirmations.push(task.await.map_err(|panic| Error::Outage(panic.to_string()))??);
        }
        Ok(confirmations)
    };
    all.boxed()
}

async fn publish(channel: Channel, message: Message) -> Result<Confirmation, Error> {
    let Message { exchange, routing_key, properties, body } = message;
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let properties = properties::of(&properties);
    let (exchange, routing_key) = (exchange.into(), routing_key.into());
    let sending = channel.basic_publish(exchange, routing_key, options, &body, properties);
    let confirm = sending.await.map_err(|error| Error::of("publishing", &error))?;
    confirm.await.map_err(|error| Error::of("waiting for confirms", &error))
}

impl Consumer {
    /// Cancels the consumer, which hands the queue over while messages are still unacked here.
    pub(crate) async fn cancel(&self) -> Result<(), Error> {
        let options = BasicCancelOptions::default();
        request("cancelling", self.channel.basic_cancel(self.deliveries.tag(), options)).await
    }
}
