//! Announces what was settled: publishes, waits for the confirms, then acks.
//!
//! The inbox row is the outbox. A crash anywhere here leaves the deliveries unacked; they come
//! again, are found in the inbox, and are announced again with the same bytes. So nothing is
//! acked before the broker has confirmed everything that the window has to say.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{mpsc, oneshot};

use crate::broker::consumer::Acknowledger;
use crate::broker::error::Error;
use crate::broker::publisher::{Confirmed, Confirming, Publisher, Receipt};
use crate::config::memory::UNCONFIRMED_BYTES_MAX;
use crate::failpoint::{self, Point, Protection};
use crate::message::Message;
use crate::retry::Backoff;
use crate::worker::counters::Counters;
use crate::worker::direct_reply::DirectReplies;
use crate::worker::fault::Fault;
use crate::worker::outgoing::{Need, Outgoing};

/// Batches whose confirms may be out at a time: one that fills the broker's pipe while the one
/// before it is being confirmed, and one that comes.
const IN_FLIGHT: usize = 3;
/// The first and the longest pause before messages that the broker refused are sent again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// All that a window has to say, and the ack that follows.
pub(super) struct Announcement {
    pub(super) outgoing: Vec<Outgoing>,
    /// When the deliveries arrived that it answers.
    pub(super) arrivals: Vec<Instant>,
    /// The delivery tag up to which everything is settled; nothing, if it was acked before.
    pub(super) ack_through: Option<u64>,
    /// Who waits for the confirms.
    pub(super) confirmed: Option<oneshot::Sender<()>>,
}

/// Says what windows have to say, over one channel.
pub(super) struct Announcer {
    pub(super) lane: String,
    /// How long messages that the broker refuses or does not confirm are sent again.
    pub(super) hold: Duration,
    pub(super) publisher: Publisher,
    pub(super) acknowledger: Acknowledger,
    pub(super) direct_replies: DirectReplies,
    pub(super) counters: Arc<Counters>,
}

/// The messages of an announcement that are not done yet.
struct Batch {
    messages: Vec<Message>,
    needs: Vec<Need>,
    arrivals: Vec<Instant>,
    ack_through: Option<u64>,
    confirmed: Option<oneshot::Sender<()>>,
}

/// Batches whose confirms are out, the oldest first, and what waits for these confirms.
#[derive(Default)]
struct InFlight {
    batches: VecDeque<Batch>,
    confirming: FuturesOrdered<Confirming>,
}

impl InFlight {
    /// Whether another batch may be sent. One that is larger than the bound is sent alone.
    fn has_room(&self) -> bool {
        let bodies = self.batches.iter().flat_map(|batch| &batch.messages);
        let bytes: usize = bodies.map(|message| message.body.len()).sum();
        self.batches.len() < IN_FLIGHT && bytes < UNCONFIRMED_BYTES_MAX
    }
}

impl Announcer {
    /// Announces until the sender is gone. An error ends the generation.
    pub(super) async fn run(
        mut self,
        mut announcements: mpsc::Receiver<Announcement>,
    ) -> Result<(), Fault> {
        let mut in_flight = InFlight::default();
        loop {
            tokio::select! {
                biased;
                Some(confirmed) = in_flight.confirming.next() => {
                    self.settle(&mut in_flight, confirmed).await?;
                }
                announcement = announcements.recv(), if in_flight.has_room() => {
                    let Some(announcement) = announcement else { break };
                    self.announce(&mut in_flight, announcement).await?;
                }
            }
        }
        self.settle_all(&mut in_flight).await
    }

    async fn announce(
        &mut self,
        in_flight: &mut InFlight,
        announcement: Announcement,
    ) -> Result<(), Fault> {
        let Announcement { outgoing, arrivals, ack_through, confirmed } = announcement;
        if failpoint::is_without(Protection::AckAfterConfirm)
            && let Some(tag) = ack_through
        {
            self.acknowledger.ack_through(tag).await?;
        }
        let outgoing = outgoing.into_iter().filter_map(|outgoing| match outgoing {
            Outgoing { message, need: need @ Need::BestEffort } => {
                let message = self.direct_replies.take(message)?;
                Some((message, need))
            }
            Outgoing { message, need } => Some((message, need)),
        });
        let (messages, needs): (Vec<_>, Vec<_>) = outgoing.unzip();
        // Nothing else is on its way with a dead letter, so that the sign that it found no queue
        // can't be taken for another batch's.
        let alone = needs.contains(&Need::Queued);
        if alone {
            self.settle_all(in_flight).await?;
        }
        let confirming = match self.publisher.send(&messages).await {
            Ok(confirming) => confirming,
            Err(error) => std::future::ready(Err(error)).boxed(),
        };
        in_flight.confirming.push_back(confirming);
        in_flight.batches.push_back(Batch { messages, needs, arrivals, ack_through, confirmed });
        if alone { self.settle_all(in_flight).await } else { Ok(()) }
    }

    async fn settle_all(&mut self, in_flight: &mut InFlight) -> Result<(), Fault> {
        while let Some(confirmed) = in_flight.confirming.next().await {
            self.settle(in_flight, confirmed).await?;
        }
        Ok(())
    }

    /// Acks the oldest batch, if that was all that it took.
    async fn settle(
        &mut self,
        in_flight: &mut InFlight,
        confirmed: Result<Confirmed, Error>,
    ) -> Result<(), Fault> {
        let Some(mut batch) = in_flight.batches.pop_front() else { return Ok(()) };
        match confirmed {
            Ok(confirmed) => {
                let receipts = self.publisher.receipts(&batch.messages, confirmed);
                batch.drop_done(&receipts, &self.counters);
            }
            Err(error @ Error::Unconfirmed(_)) => self.warn_unconfirmed(&error),
            Err(error) => return Err(error.into()),
        }
        if batch.messages.is_empty() {
            return self.ack(batch).await;
        }
        // The channel is of no use any more, so what became of the batches behind is unknown: they
        // are sent again, too.
        in_flight.confirming.clear();
        self.insist(batch).await?;
        for batch in std::mem::take(&mut in_flight.batches) {
            self.insist(batch).await?;
        }
        Ok(())
    }

    /// Sends a batch again until the broker has taken it.
    async fn insist(&mut self, mut batch: Batch) -> Result<(), Fault> {
        let held_since = Instant::now();
        let mut pause = Backoff::new(PAUSE.0, PAUSE.1);
        while !batch.messages.is_empty() {
            pause.wait().await;
            self.publisher.reopen().await?;
            match self.publisher.publish(&batch.messages).await {
                Ok(receipts) => batch.drop_done(&receipts, &self.counters),
                // What arrived is unknown, so all of it is sent again. A new channel is all it
                // takes if the connection lives; otherwise there is none to be had.
                Err(error @ Error::Unconfirmed(_)) if held_since.elapsed() < self.hold => {
                    self.warn_unconfirmed(&error);
                }
                Err(error) => return Err(error.into()),
            }
            if !batch.messages.is_empty() {
                tracing::warn!(
                    lane = self.lane,
                    "{} messages were refused by the broker or found no dead-letter queue; publishing them again",
                    batch.messages.len()
                );
            }
        }
        self.ack(batch).await
    }

    fn warn_unconfirmed(&self, error: &Error) {
        tracing::warn!(lane = self.lane, "results are published again over a new channel: {error}");
    }

    async fn ack(&self, batch: Batch) -> Result<(), Fault> {
        failpoint::reach(Point::BeforeAck);
        if !failpoint::is_without(Protection::AckAfterConfirm)
            && let Some(tag) = batch.ack_through
        {
            self.acknowledger.ack_through(tag).await?;
            self.counters.in_hand.ack_through(tag);
        }
        if let Some(confirmed) = batch.confirmed
            && confirmed.send(()).is_err()
        {
            tracing::debug!(lane = self.lane, "nobody waits for the confirms any longer");
        }
        for arrival in batch.arrivals {
            self.counters.answered.observe(arrival.elapsed());
        }
        Counters::add(&self.counters.acked_windows, 1);
        self.counters.health.recover();
        Ok(())
    }
}

impl Batch {
    /// Keeps what has to be sent again.
    fn drop_done(&mut self, receipts: &[Receipt], counters: &Counters) {
        let all =
            std::mem::take(&mut self.messages).into_iter().zip(std::mem::take(&mut self.needs));
        for ((message, need), receipt) in all.zip(receipts) {
            let done = match (receipt, need) {
                (Receipt::Routed, _) | (_, Need::BestEffort) => true,
                (Receipt::Unroutable, Need::Confirmed) => {
                    Counters::add(&counters.unroutable_results, 1);
                    true
                }
                (Receipt::Unroutable, Need::Queued) | (Receipt::Refused, _) => false,
            };
            if !done {
                self.messages.push(message);
                self.needs.push(need);
            }
        }
    }
}
