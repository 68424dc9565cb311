//! Declares and verifies exchanges and queues.

use lapin::Channel;
use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};

use crate::broker::connection::{Connection, close_channel, request};
use crate::broker::error::Error;
use crate::broker::topology::{
    Argument, Difference, EXCHANGES, Exchange, Queue, Topology, bindings,
};

/// Declares what is missing. What is there already must be as described.
pub async fn declare(connection: &Connection, topology: &Topology) -> Result<(), Error> {
    declare_queues(connection, topology).await?;
    bindings::bind_all(connection, topology).await
}

/// [`declare`] without the bindings.
async fn declare_queues(connection: &Connection, topology: &Topology) -> Result<(), Error> {
    let mut differences = Vec::new();
    for exchange in &EXCHANGES {
        differences.extend(probe_exchange(connection, exchange, false).await?);
    }
    for queue in topology.queues() {
        differences.extend(probe_queue(connection, &queue, false).await?);
    }
    if !differences.is_empty() {
        return Err(Error::Topology(differences));
    }
    Ok(())
}

/// What differs from the description, but for bindings, which can't be asked for over AMQP. Creates
/// nothing.
pub async fn verify(
    connection: &Connection,
    topology: &Topology,
) -> Result<Vec<Difference>, Error> {
    let mut differences = Vec::new();
    for exchange in &EXCHANGES {
        match probe_exchange(connection, exchange, true).await? {
            None => differences.extend(probe_exchange(connection, exchange, false).await?),
            missing => differences.extend(missing),
        }
    }
    for queue in topology.queues() {
        match probe_queue(connection, &queue, true).await? {
            None => differences.extend(probe_queue(connection, &queue, false).await?),
            missing => differences.extend(missing),
        }
    }
    Ok(differences)
}

/// Makes the topology good before work begins: nothing is declared where nothing is missing, so
/// a user without the right to configure can work on a topology that was applied before. Binds nothing.
pub async fn ensure(connection: &Connection, topology: &Topology) -> Result<(), Error> {
    let mut missing = false;
    for exchange in &EXCHANGES {
        missing |= probe_exchange(connection, exchange, true).await?.is_some();
    }
    for queue in topology.queues() {
        missing |= probe_queue(connection, &queue, true).await?.is_some();
    }
    if missing { declare_queues(connection, topology).await } else { Ok(()) }
}

/// Declares an exchange on a channel of its own, because a refusal closes the channel.
async fn probe_exchange(
    connection: &Connection,
    exchange: &Exchange,
    passive: bool,
) -> Result<Option<Difference>, Error> {
    let channel = connection.channel().await?;
    let options = ExchangeDeclareOptions {
        passive,
        durable: true,
        internal: exchange.is_internal,
        ..ExchangeDeclareOptions::default()
    };
    let declared = channel.exchange_declare(
        exchange.name.into(),
        exchange.kind.clone(),
        options,
        table(exchange.arguments),
    );
    difference(&channel, "exchange", exchange.name, declared).await
}

/// Declares a queue on a channel of its own, because a refusal closes the channel.
async fn probe_queue(
    connection: &Connection,
    queue: &Queue,
    passive: bool,
) -> Result<Option<Difference>, Error> {
    let channel = connection.channel().await?;
    let options = QueueDeclareOptions { passive, durable: true, ..QueueDeclareOptions::default() };
    let declared =
        channel.queue_declare(queue.name.as_str().into(), options, table(queue.arguments));
    difference(&channel, "queue", &queue.name, declared).await
}

/// How a declaration differs from what the broker has; nothing if it agrees.
async fn difference<T>(
    channel: &Channel,
    kind: &'static str,
    name: &str,
    declared: impl Future<Output = lapin::Result<T>>,
) -> Result<Option<Difference>, Error> {
    match request(&format!("declaring {kind} {name}"), declared).await {
        Ok(_) => {
            close_channel(channel).await;
            Ok(None)
        }
        Err(Error::NotFound(_)) => {
            Ok(Some(Difference { kind, name: name.to_owned(), problem: "missing".into() }))
        }
        Err(Error::Precondition(problem)) => {
            Ok(Some(Difference { kind, name: name.to_owned(), problem }))
        }
        Err(error) => Err(error),
    }
}

pub(in crate::broker) fn table(arguments: &[(&str, Argument)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in arguments {
        let value = match value {
            Argument::Text(text) => AMQPValue::LongString(LongString::from(*text)),
            Argument::Number(number) => AMQPValue::LongLongInt(*number),
            Argument::Flag => AMQPValue::Boolean(true),
        };
        table.insert((*key).into(), value);
    }
    table
}
