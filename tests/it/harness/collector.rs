//! A subscriber: a durable queue that takes copies of what is published, and reads them.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, Consumer};
use tokio::time::{Instant, timeout_at};

use crate::harness::{self, delete_broken_queues, set_up};

/// A message that was received, with what tests look at.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Received {
    pub(crate) routing_key: String,
    pub(crate) message_id: Option<String>,
    pub(crate) correlation_id: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) app_id: Option<String>,
    pub(crate) delivery_mode: Option<u8>,
    /// Whole seconds.
    pub(crate) timestamp: Option<u64>,
    pub(crate) headers: FieldTable,
    pub(crate) body: Vec<u8>,
}

impl Received {
    pub(crate) fn body(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a result is text")
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a result is JSON")
    }

    /// The command that a result answers.
    pub(crate) fn command_id(&self) -> String {
        self.header("command-id").expect("a result names its command")
    }

    /// Whether it says that a command waits for a dead letter.
    pub(crate) fn is_parked(&self) -> bool {
        self.kind.as_deref().is_some_and(|kind| kind.ends_with(".parked.v1"))
    }

    /// A header as text, whatever its AMQP type.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        match self.headers.inner().get(name)? {
            AMQPValue::LongString(text) => Some(text.to_string()),
            AMQPValue::ShortString(text) => Some(text.to_string()),
            AMQPValue::LongInt(number) => Some(number.to_string()),
            AMQPValue::LongLongInt(number) => Some(number.to_string()),
            AMQPValue::LongUInt(number) => Some(number.to_string()),
            AMQPValue::ShortInt(number) => Some(number.to_string()),
            other => Some(format!("{other:?}")),
        }
    }

    pub(crate) fn from(delivery: &Delivery) -> Self {
        let properties = &delivery.properties;
        let text =
            |value: &Option<lapin::types::ShortString>| value.as_ref().map(ToString::to_string);
        Self {
            routing_key: delivery.routing_key.to_string(),
            message_id: text(properties.message_id()),
            correlation_id: text(properties.correlation_id()),
            kind: text(properties.kind()),
            content_type: text(properties.content_type()),
            app_id: text(properties.app_id()),
            delivery_mode: *properties.delivery_mode(),
            timestamp: *properties.timestamp(),
            headers: properties.headers().clone().unwrap_or_default(),
            body: delivery.data.clone(),
        }
    }
}

/// A queue to read from. It outlives connections and the broker's restarts.
pub(crate) struct Collector {
    amqp_url: String,
    queue: String,
    subscription: Option<(Connection, Consumer)>,
    /// All results and rejections that were read so far, in the order of the queue.
    pub(crate) received: Vec<Received>,
    /// The notices of commands that wait for a dead letter, each with the number of results and
    /// rejections that were read before it.
    pub(crate) parked: Vec<(usize, Received)>,
}

impl Collector {
    /// A queue of its own that gets a copy of every result and rejection.
    pub(crate) async fn of_results(amqp_url: &str) -> Self {
        Self::bound(amqp_url, "test.results", Some(("partner-program.results", "#"))).await
    }

    /// A queue that somebody else has declared.
    pub(crate) fn of_queue(amqp_url: &str, queue: &str) -> Self {
        Self {
            amqp_url: amqp_url.to_owned(),
            queue: queue.to_owned(),
            subscription: None,
            received: Vec::new(),
            parked: Vec::new(),
        }
    }

    /// A queue of its own, bound to an exchange or only reachable by its name.
    pub(crate) async fn bound(amqp_url: &str, queue: &str, binding: Option<(&str, &str)>) -> Self {
        set_up("a queue", async || {
            let declared = declare(amqp_url, queue, binding).await;
            if declared.is_err() {
                delete_broken_queues(amqp_url, [queue.to_owned()]).await?;
            }
            declared
        })
        .await;
        Self::of_queue(amqp_url, queue)
    }

    /// Reads on until `enough` says so of all that was read.
    ///
    /// The subscription stays open between reads: acks on their way when it closes can be lost,
    /// and then messages come twice. So they do if the broker goes away.
    pub(crate) async fn read_until(
        &mut self,
        deadline: Duration,
        what: &str,
        enough: impl Fn(&[Received]) -> bool,
    ) -> &[Received] {
        let end = Instant::now() + deadline;
        while !enough(&self.received) {
            let (connection, mut consumer) = match self.subscription.take() {
                Some(open) => open,
                None => subscribe(&self.amqp_url, &self.queue).await,
            };
            let Ok(next) = timeout_at(end, consumer.next()).await else {
                panic!("not within {deadline:?}: {what}; read {}", self.received.len());
            };
            // Otherwise the broker has gone away, and the next one subscribes again.
            if let Some(Ok(delivery)) = next {
                let event = Received::from(&delivery);
                if event.is_parked() {
                    self.parked.push((self.received.len(), event));
                } else {
                    self.received.push(event);
                }
                drop(delivery.ack(BasicAckOptions::default()).await);
                self.subscription = Some((connection, consumer));
            }
        }
        &self.received
    }

    /// Ends the subscription until the next read, so that the queue fills.
    pub(crate) async fn pause(&mut self) {
        if let Some((connection, _)) = self.subscription.take() {
            connection.close(200, "paused".into()).await.expect("the broker answers");
        }
    }

    /// Reads on until so many have been read in all.
    pub(crate) async fn read(&mut self, count: usize, deadline: Duration) -> &[Received] {
        let what = format!("{count} messages in {}", self.queue);
        self.read_until(deadline, &what, |received| received.len() >= count).await
    }
}

/// Declares a quorum queue and its binding, on a connection of its own: a broker that fails to
/// declare a queue closes the connection (541 `INTERNAL_ERROR`).
async fn declare(
    amqp_url: &str,
    queue: &str,
    binding: Option<(&str, &str)>,
) -> Result<(), lapin::Error> {
    let connection = try_connect(amqp_url).await?;
    let channel = connection.create_channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments).await?;
    if let Some((exchange, pattern)) = binding {
        let options = QueueBindOptions::default();
        let none = FieldTable::default();
        channel.queue_bind(queue.into(), exchange.into(), pattern.into(), options, none).await?;
    }
    connection.close(200, "declared".into()).await
}

async fn subscribe(amqp_url: &str, queue: &str) -> (Connection, Consumer) {
    try_subscribe(amqp_url, queue).await.expect("the broker answers")
}

/// For tests that take the broker away.
pub(crate) async fn try_subscribe(
    amqp_url: &str,
    queue: &str,
) -> Result<(Connection, Consumer), lapin::Error> {
    try_subscribe_for(amqp_url, queue, 1000).await
}

/// With that prefetch. Of messages that were returned, the queue's order holds only if no consumer
/// has a smaller one than those before it; 0 is none at all.
pub(crate) async fn try_subscribe_for(
    amqp_url: &str,
    queue: &str,
    prefetch: u16,
) -> Result<(Connection, Consumer), lapin::Error> {
    let connection = try_connect(amqp_url).await?;
    let channel = connection.create_channel().await?;
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let consumer =
        channel.basic_consume(queue.into(), "test".into(), options, FieldTable::default()).await?;
    Ok((connection, consumer))
}

async fn try_connect(amqp_url: &str) -> Result<Connection, lapin::Error> {
    harness::connect(amqp_url, "subscriber").await
}
