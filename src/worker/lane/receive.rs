//! Receives deliveries from the lane's queue, ahead of the batch that needs them.
//!
//! The broker's prefetch bounds how many are in memory, and the contract how large each is: a body
//! beyond its bound is cut here, so that no more than one of them is whole at a time. They wait as
//! they came, because a command takes several times as much once it is decoded: the batch that
//! needs it decodes it.

use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::broker;
use crate::broker::consumer::{self, Consumer};
use crate::config::{self, Publishers, memory};
use crate::domain::command::Command;
use crate::domain::dead_letter::QueuePosition;
use crate::domain::rejection::{Reason, Rejection};
use crate::failpoint::{self, Point};
use crate::message::Message;
use crate::wire::cut_body;
use crate::wire::decode;
use crate::wire::envelope::Envelope;
use crate::wire::replay;
use crate::worker::counters::Counters;
use crate::worker::lane::priority::PriorityCheck;
use crate::worker::lane::routing::LaneRouting;

/// A delivery that waits for its batch: not decoded, its body cut if it is too large.
pub(crate) struct RawDelivery {
    tag: u64,
    redelivered: bool,
    message: Message,
    arrived_at: Instant,
}

/// A delivery after reading.
pub(crate) struct Delivery {
    /// The delivery tag, for the ack.
    pub(crate) tag: u64,
    /// Whether the broker has delivered it before; it may have been applied then.
    pub(crate) redelivered: bool,
    /// Its position in the wait queue, if it was parked behind a dead letter: then it was acked long ago.
    pub(crate) parked: Option<i64>,
    /// Its position in the lane's queue before that; nothing if that was not noted.
    parked_from: Option<QueuePosition>,
    /// As delivered: a dead letter keeps it whole.
    pub(crate) message: Message,
    pub(crate) decoded: Result<DecodedCommand, Rejection>,
    /// The marker of a move, if it is that and no command.
    pub(crate) marker: Option<Uuid>,
    /// Why it is refused unless it was answered before: its priority may have moved it.
    pub(crate) moved: Option<Rejection>,
    pub(crate) arrived_at: Instant,
}

/// A well-formed command and where it came from.
pub(crate) struct DecodedCommand {
    pub(crate) envelope: Envelope,
    /// The publisher's message id, or one made up.
    pub(crate) command_id: String,
    pub(crate) body_hash: [u8; 32],
    pub(crate) command: Command,
}

impl Delivery {
    /// Its position in the lane's queue; it was delivered in this epoch, unless it was parked.
    #[must_use]
    pub(crate) fn position(&self, lane_epoch: i64) -> Option<QueuePosition> {
        if self.parked.is_some() {
            return self.parked_from;
        }
        QueuePosition::new(lane_epoch, i64::try_from(self.tag).ok()?)
    }

    /// How many items it adds to a batch.
    #[must_use]
    pub(crate) fn item_count(&self) -> usize {
        self.decoded.as_ref().map_or(0, |decoded| decoded.command.item_count())
    }

    /// How much memory it takes while its batch is processed, at most: see [`memory`].
    #[must_use]
    pub(crate) fn estimated_bytes(&self) -> usize {
        let elements = match &self.decoded {
            Ok(decoded) => decoded.command.entry_count() + decoded.command.item_count(),
            Err(_) => 0,
        };
        self.message.body.len() + elements * memory::ELEMENT_BYTES
    }
}

/// Receives deliveries until `stop`, and gives the consumer back: its channel must stay open until
/// everything received is acked.
pub(crate) async fn run(
    mut consumer: Consumer,
    counters: Arc<Counters>,
    delivered: mpsc::Sender<RawDelivery>,
    stop: CancellationToken,
) -> Result<Consumer, broker::error::Error> {
    loop {
        let delivery = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            delivery = consumer.next() => delivery?,
        };
        failpoint::reach(Point::Receive);
        counters.in_flight.add(delivery.tag, waits_since(&delivery.message));
        let consumer::Delivery { tag, redelivered, mut message } = delivery;
        cut_body::cut(&mut message);
        let waiting = RawDelivery { tag, redelivered, message, arrived_at: Instant::now() };
        tokio::select! {
            () = stop.cancelled() => break,
            sent = delivered.send(waiting) => {
                if sent.is_err() {
                    break;
                }
            }
        }
    }
    failpoint::without!(ChannelClose, consumer.cancel().await?);
    Ok(consumer)
}

/// When the command was sent, as its publisher says; a replay waits since it came.
fn waits_since(message: &Message) -> DateTime<Utc> {
    let is_replay = replay::dead_letter_id(message).is_some();
    message.properties.timestamp.filter(|_| !is_replay).unwrap_or_else(Utc::now)
}

/// Decodes a delivery for its batch.
pub(crate) fn decode(
    delivered: RawDelivery,
    publishers: &Publishers,
    routing: &LaneRouting,
    priority: &PriorityCheck,
) -> Delivery {
    let RawDelivery { tag, redelivered, message, arrived_at } = delivered;
    let decoded = decode_command(&message, publishers, Some(routing));
    let marker = routing.marker(&message);
    let moved = if marker.is_none() { priority.check(&message.properties) } else { None };
    let (parked, parked_from) = (None, None);
    Delivery { tag, redelivered, parked, parked_from, message, decoded, marker, moved, arrived_at }
}

/// Reloads a parked command. Its tries count as those of a redelivered one: nothing else
/// tells whether it was under way when a worker died.
pub(crate) fn reload_parked(
    (sequence, position): (i64, Option<QueuePosition>),
    command_id: String,
    message: Message,
    publishers: &Publishers,
) -> Delivery {
    // It was in its lane when it was parked.
    let decoded = decode_command(&message, publishers, None)
        .map(|decoded| DecodedCommand { command_id, ..decoded });
    Delivery {
        tag: 0,
        redelivered: true,
        parked: Some(sequence),
        parked_from: position,
        message,
        decoded,
        marker: None,
        // It has its place.
        moved: None,
        arrived_at: Instant::now(),
    }
}

fn decode_command(
    message: &Message,
    publishers: &Publishers,
    routing: Option<&LaneRouting>,
) -> Result<DecodedCommand, Rejection> {
    let envelope = Envelope::parse(message)?;
    if let Some(routing) = routing {
        routing.check(&message.routing_key)?;
    }
    check_publisher(&envelope, publishers)?;
    if let Some(bytes) = cut_body::whole_length(message) {
        return Err(decode::too_large(bytes));
    }
    let command = decode::decode(&message.body, envelope.operation)?;
    let command_id = match &envelope.message_id {
        Some(id) => id.clone(),
        None => Uuid::now_v7().to_string(),
    };
    Ok(DecodedCommand {
        command_id,
        body_hash: decode::body_hash(&message.body),
        command,
        envelope,
    })
}

/// Whether the publisher, as the broker authenticated it, may act for the org. Without a
/// mapping in the configuration every user may.
fn check_publisher(envelope: &Envelope, publishers: &Publishers) -> Result<(), Rejection> {
    if config::may_publish(publishers, envelope.user_id.as_deref(), &envelope.org_code) {
        return Ok(());
    }
    let detail = match &envelope.user_id {
        Some(user) => format!("user `{user}` may not act for the org of the routing key"),
        None => {
            "the message names no user_id, and the configuration maps publishers to orgs".into()
        }
    };
    Err(Rejection { reason: Reason::PublisherNotAllowed, detail })
}
