//! Announces what was settled: publishes, waits for the confirms, then acks.
//!
//! The inbox row is the outbox. A crash anywhere here leaves the deliveries unacked; they come
//! again, are found in the inbox, and are announced again with the same bytes. So nothing is
//! acked before the broker has confirmed everything that the window has to say.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use crate::broker::consumer::Acknowledger;
use crate::broker::error::Error;
use crate::broker::publisher::{Publisher, Receipt};
use crate::failpoint::{self, Point, Protection};
use crate::message::Message;
use crate::retry::Backoff;
use crate::worker::counters::Counters;
use crate::worker::direct_reply::DirectReplies;
use crate::worker::fault::Fault;

/// The first and the longest pause before messages that the broker refused are sent again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// All that a window has to say, and the ack that follows.
pub(super) struct Announcement {
    pub(super) outgoing: Vec<Outgoing>,
    /// The delivery tag up to which everything is settled; nothing, if it was acked before.
    pub(super) ack_through: Option<u64>,
    /// Who waits for the confirms.
    pub(super) confirmed: Option<oneshot::Sender<()>>,
}

/// A message and how much it matters that it arrives.
pub(super) struct Outgoing {
    pub(super) message: Message,
    pub(super) need: Need,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// A dead letter: without a queue to hold it, it would be lost.
    Queued,
    /// A result: the broker must take it; that nobody subscribes is the subscribers' choice,
    /// for it stays in the database.
    Confirmed,
    /// A copy for a requester, who may be gone.
    BestEffort,
}

/// Announces until the sender is gone. An error ends the generation; before that, messages that
/// the broker refuses or does not confirm are sent again for as long as `hold`.
pub(super) async fn run(
    lane: String,
    hold: Duration,
    mut publisher: Publisher,
    acknowledger: Acknowledger,
    mut announcements: mpsc::Receiver<Announcement>,
    direct_replies: DirectReplies,
    counters: Arc<Counters>,
) -> Result<Publisher, Fault> {
    while let Some(announcement) = announcements.recv().await {
        let outgoing = announcement.outgoing.into_iter().filter_map(|outgoing| match outgoing {
            Outgoing { message, need: need @ Need::BestEffort } => {
                direct_replies.take(message).map(|message| Outgoing { message, need })
            }
            needed => Some(needed),
        });
        let acks_early = failpoint::is_without(Protection::AckAfterConfirm);
        if acks_early && let Some(tag) = announcement.ack_through {
            acknowledger.ack_through(tag).await?;
        }
        publish(&lane, hold, &mut publisher, outgoing.collect(), &counters).await?;
        failpoint::reach(Point::BeforeAck);
        if !acks_early && let Some(tag) = announcement.ack_through {
            acknowledger.ack_through(tag).await?;
        }
        if let Some(confirmed) = announcement.confirmed
            && confirmed.send(()).is_err()
        {
            tracing::debug!(lane, "nobody waits for the confirms any longer");
        }
        Counters::add(&counters.acked_windows, 1);
    }
    Ok(publisher)
}

async fn publish(
    lane: &str,
    hold: Duration,
    publisher: &mut Publisher,
    outgoing: Vec<Outgoing>,
    counters: &Counters,
) -> Result<(), Fault> {
    let held_since = Instant::now();
    let mut pause = Backoff::new(PAUSE.0, PAUSE.1);
    let (mut messages, mut needs): (Vec<_>, Vec<_>) =
        outgoing.into_iter().map(|outgoing| (outgoing.message, outgoing.need)).unzip();
    loop {
        let receipts = match publisher.publish(&messages).await {
            Ok(receipts) => receipts,
            // What arrived is unknown, so all of it is sent again. A new channel is all it takes
            // if the connection lives; otherwise there is none to be had.
            Err(error @ Error::Unconfirmed(_)) if held_since.elapsed() < hold => {
                tracing::warn!(lane, "results are published again over a new channel: {error}");
                publisher.reopen().await?;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let mut again = (Vec::new(), Vec::new());
        for ((message, need), receipt) in messages.into_iter().zip(needs).zip(receipts) {
            let done = match (receipt, need) {
                (Receipt::Routed, _) | (_, Need::BestEffort) => true,
                (Receipt::Unroutable, Need::Confirmed) => {
                    Counters::add(&counters.unroutable_results, 1);
                    true
                }
                (Receipt::Unroutable, Need::Queued) | (Receipt::Refused, _) => false,
            };
            if !done {
                again.0.push(message);
                again.1.push(need);
            }
        }
        if again.0.is_empty() {
            return Ok(());
        }
        tracing::warn!(
            lane,
            "{} messages were refused by the broker or found no dead-letter queue; publishing them again",
            again.0.len()
        );
        (messages, needs) = again;
        pause.wait().await;
        publisher.reopen().await?;
    }
}
