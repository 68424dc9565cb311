//! An upstream: publishes commands, and says that they are sent only when they are confirmed.

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};

use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, PublisherConfirm};
use partner_program_worker::message::{Message, Properties};
use serde_json::Value;

use crate::harness::{connect, set_up};

/// One channel in confirm mode; nobody else publishes on it, so confirms are never swapped.
pub(crate) struct Publisher {
    _connection: Connection,
    channel: Channel,
}

impl Publisher {
    pub(crate) async fn open(amqp_url: &str) -> Self {
        set_up("an upstream", async || Self::try_open(amqp_url).await).await
    }

    /// For tests that take the broker away.
    pub(crate) async fn try_open(amqp_url: &str) -> Result<Self, lapin::Error> {
        let connection = connect(amqp_url, "upstream").await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self { _connection: connection, channel })
    }

    /// Publishes all, in order, and waits for every confirm.
    pub(crate) async fn publish(&self, messages: &[Message]) {
        // Below what the broker lets a channel have open, and enough to keep it busy.
        for some in messages.chunks(1000) {
            let mut confirms = Vec::with_capacity(some.len());
            for message in some {
                confirms.push(self.send(message).await.expect("a message is sent"));
            }
            for confirm in confirms {
                let confirmed = confirm.await.expect("the broker confirms");
                assert!(matches!(confirmed, Confirmation::Ack(None)), "{confirmed:?}");
            }
        }
    }

    /// Publishes one; `false` or an error: it may or may not have been taken.
    pub(crate) async fn try_publish(&self, message: &Message) -> Result<bool, lapin::Error> {
        let confirmed = self.send(message).await?.await?;
        Ok(matches!(confirmed, Confirmation::Ack(None)))
    }

    /// Returns before it is confirmed.
    pub(crate) async fn send(&self, message: &Message) -> Result<PublisherConfirm, lapin::Error> {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        self.channel
            .basic_publish(
                message.exchange.as_str().into(),
                message.routing_key.as_str().into(),
                options,
                &message.body,
                properties(&message.properties),
            )
            .await
    }
}

/// The message that an upstream sends for a command.
pub(crate) fn command(
    routing_key: &str,
    message_id: Option<&str>,
    body: impl Into<Vec<u8>>,
) -> Message {
    Message {
        exchange: "partner-program.commands".to_owned(),
        routing_key: routing_key.to_owned(),
        properties: Properties {
            message_id: message_id.map(ToOwned::to_owned),
            ..Properties::default()
        },
        body: body.into(),
    }
}

fn header(value: &Value) -> AMQPValue {
    match value {
        Value::String(text) => AMQPValue::LongString(text.as_str().into()),
        Value::Array(values) => {
            AMQPValue::FieldArray(values.iter().map(header).collect::<Vec<_>>().into())
        }
        _ => panic!("tests send texts and lists of them as headers"),
    }
}

fn properties(given: &Properties) -> BasicProperties {
    let mut set = BasicProperties::default().with_delivery_mode(2);
    if let Some(id) = &given.message_id {
        set = set.with_message_id(id.as_str().into());
    }
    if let Some(id) = &given.correlation_id {
        set = set.with_correlation_id(id.as_str().into());
    }
    if let Some(queue) = &given.reply_to {
        set = set.with_reply_to(queue.as_str().into());
    }
    if let Some(kind) = &given.content_type {
        set = set.with_content_type(kind.as_str().into());
    }
    if let Some(encoding) = &given.content_encoding {
        set = set.with_content_encoding(encoding.as_str().into());
    }
    if let Some(id) = &given.app_id {
        set = set.with_app_id(id.as_str().into());
    }
    if let Some(user) = &given.user_id {
        set = set.with_user_id(user.as_str().into());
    }
    if let Some(at) = given.timestamp {
        set = set.with_timestamp(u64::try_from(at.timestamp()).expect("after 1970"));
    }
    let mut headers = FieldTable::default();
    for (name, value) in &given.headers {
        headers.insert(name.as_str().into(), header(value));
    }
    set.with_headers(headers)
}
