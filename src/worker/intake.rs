//! Takes deliveries off the lane's queue, ahead of the batch that needs them.
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
use crate::broker::consumer::{Consumer, Delivery};
use crate::config::{self, Publishers, memory};
use crate::domain::command::Command;
use crate::domain::dead_letter::QueuePosition;
use crate::domain::rejection::{Reason, Rejection};
use crate::failpoint::{self, Point, Protection};
use crate::message::Message;
use crate::wire::cut_body;
use crate::wire::decode;
use crate::wire::envelope::Envelope;
use crate::wire::replay;
use crate::worker::counters::Counters;
use crate::worker::priority::PriorityCheck;
use crate::worker::routing::LaneRouting;

/// A delivery that waits for its batch: not decoded, its body cut if it is too large.
pub(super) struct RawDelivery {
    tag: u64,
    redelivered: bool,
    message: Message,
    arrived_at: Instant,
}

/// A delivery after reading.
pub(super) struct Taken {
    /// The delivery tag, for the ack.
    pub(super) tag: u64,
    /// Whether the broker has delivered it before; it may have been applied then.
    pub(super) redelivered: bool,
    /// Where it stood, if it was parked behind a dead letter: it was acked long ago then.
    pub(super) parked: Option<i64>,
    /// Where it had stood in the lane's queue then; nothing if that was not noted.
    parked_from: Option<QueuePosition>,
    /// As delivered: a dead letter keeps it whole.
    pub(super) message: Message,
    pub(super) read: Result<Read, Rejection>,
    /// The marker of a move, if it is that and no command.
    pub(super) marker: Option<Uuid>,
    /// Why it is refused unless it was answered before: its priority may have moved it.
    pub(super) moved: Option<Rejection>,
    pub(super) arrived_at: Instant,
}

/// A well-formed command and where it came from.
pub(super) struct Read {
    pub(super) envelope: Envelope,
    /// The publisher's message id, or one made up.
    pub(super) command_id: String,
    pub(super) body_hash: [u8; 32],
    pub(super) command: Command,
}

impl Taken {
    /// Where it stood in the lane's queue; it was delivered in this epoch, unless it was parked.
    #[must_use]
    pub(super) fn position(&self, lane_epoch: i64) -> Option<QueuePosition> {
        if self.parked.is_some() {
            return self.parked_from;
        }
        QueuePosition::new(lane_epoch, i64::try_from(self.tag).ok()?)
    }

    /// How many items it adds to a window.
    #[must_use]
    pub(super) fn item_count(&self) -> usize {
        self.read.as_ref().map_or(0, |read| read.command.item_count())
    }

    /// How much memory it takes while its batch is processed, at most: see [`memory`].
    #[must_use]
    pub(super) fn estimated_bytes(&self) -> usize {
        let elements = match &self.read {
            Ok(read) => read.command.entry_count() + read.command.item_count(),
            Err(_) => 0,
        };
        self.message.body.len() + elements * memory::ELEMENT_BYTES
    }
}

/// Takes deliveries until `stop`, and gives the consumer back: its channel must stay open until
/// everything taken is acked.
pub(super) async fn run(
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
        counters.in_hand.add(delivery.tag, waits_since(&delivery.message));
        let Delivery { tag, redelivered, mut message } = delivery;
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
    if failpoint::is_without(Protection::ChannelClose) {
        consumer.cancel().await?;
    }
    Ok(consumer)
}

/// When the command was sent, as its publisher says; a replay waits since it came.
fn waits_since(message: &Message) -> DateTime<Utc> {
    let is_replay = replay::letter_id(message).is_some();
    message.properties.timestamp.filter(|_| !is_replay).unwrap_or_else(Utc::now)
}

/// Decodes a delivery for its batch.
pub(super) fn take(
    delivered: RawDelivery,
    publishers: &Publishers,
    routing: &LaneRouting,
    priority: &PriorityCheck,
) -> Taken {
    let RawDelivery { tag, redelivered, message, arrived_at } = delivered;
    let read = read(&message, publishers, Some(routing));
    let marker = routing.marker(&message);
    let moved = if marker.is_none() { priority.check(&message.properties) } else { None };
    let (parked, parked_from) = (None, None);
    Taken { tag, redelivered, parked, parked_from, message, read, marker, moved, arrived_at }
}

/// Takes a parked command up again. Its tries count as those of a redelivered one: nobody else
/// tells whether it was under way when a worker died.
pub(super) fn take_up(
    (sequence, position): (i64, Option<QueuePosition>),
    command_id: String,
    message: Message,
    publishers: &Publishers,
) -> Taken {
    // It was in its lane when it was parked.
    let read = read(&message, publishers, None).map(|read| Read { command_id, ..read });
    Taken {
        tag: 0,
        redelivered: true,
        parked: Some(sequence),
        parked_from: position,
        message,
        read,
        marker: None,
        // It has its place.
        moved: None,
        arrived_at: Instant::now(),
    }
}

fn read(
    message: &Message,
    publishers: &Publishers,
    routing: Option<&LaneRouting>,
) -> Result<Read, Rejection> {
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
    Ok(Read { command_id, body_hash: decode::body_hash(&message.body), command, envelope })
}

/// Whether the publisher, as the broker authenticated it, may act for the org. Without a
/// mapping in the configuration everybody may.
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
