//! Publishes the messages of processed batches, waits for the confirms, then acks.
//!
//! The inbox row is the outbox. A crash anywhere here leaves the deliveries unacked; they come
//! again, are found in the inbox, and are published again with the same bytes. So nothing is
//! acked before the broker has confirmed every message of the batch. A message that the broker refuses is
//! published again, within a bound; then the generation ends (see `unpublishable`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{mpsc, oneshot};

use crate::broker::consumer::Acknowledger;
use crate::broker::error::Error;
use crate::broker::publisher::{Alone, Confirmed, Confirming, Publisher, Receipt};
use crate::broker::topology::Topology;
use crate::config::memory::UNCONFIRMED_BYTES_MAX;
use crate::failpoint::{self, Point};
use crate::message::Message;
use crate::retry::Backoff;
use crate::wire::frame;
use crate::worker::counters::Counters;
use crate::worker::lane::direct_reply::Replies;
use crate::worker::lane::error::GenerationError;
#[cfg(feature = "failpoints")]
use crate::worker::lane::failpoints;
use crate::worker::lane::outgoing_message::{Need, OutgoingMessage};
use crate::worker::lane::unpublishable;

/// Batches that may wait for confirms at a time: one that is being confirmed, one that is being sent, and the
/// next one.
const IN_FLIGHT: usize = 3;
/// The first and the longest pause before messages that the broker refused are sent again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// Why what was published is published again, if the broker says no more.
const REFUSED: &str =
    "they were refused by the broker (is a queue full?) or found no dead-letter queue";

/// The messages of a batch, and the ack that follows.
pub(crate) struct ProcessedBatch {
    pub(crate) outgoing: Vec<OutgoingMessage>,
    /// When the deliveries arrived that it answers.
    pub(crate) arrivals: Vec<Instant>,
    /// The delivery tag up to which everything is processed; nothing, if it was acked before.
    pub(crate) ack_through: Option<u64>,
    /// Who waits for the confirms.
    pub(crate) confirmed: Option<oneshot::Sender<()>>,
}

/// Publishes the messages of batches, over one channel.
pub(crate) struct ResultPublisher {
    pub(crate) lane: String,
    /// How long messages that the broker refuses or does not confirm are sent again.
    pub(crate) grace: Duration,
    pub(crate) publisher: Publisher,
    /// What is verified when the broker refuses them.
    pub(crate) topology: Topology,
    pub(crate) acknowledger: Acknowledger,
    pub(crate) replies: Replies,
    pub(crate) counters: Arc<Counters>,
    /// The smallest body that the broker has refused as too large: larger ones are not tried.
    pub(crate) too_large_bytes: Option<usize>,
}

/// The messages of a batch that are not done yet.
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

impl Drop for ResultPublisher {
    fn drop(&mut self) {
        self.counters.waits_for_confirms(None);
    }
}

impl ResultPublisher {
    /// Publishes until the sender is gone. An error ends the generation.
    pub(crate) async fn run(
        mut self,
        mut processed_batches: mpsc::Receiver<ProcessedBatch>,
    ) -> Result<(), GenerationError> {
        let mut in_flight = InFlight::default();
        loop {
            tokio::select! {
                biased;
                Some(confirmed) = in_flight.confirming.next() => {
                    self.complete(&mut in_flight, confirmed).await?;
                }
                processed = processed_batches.recv(), if in_flight.has_room() => {
                    let Some(processed) = processed else { break };
                    self.publish_batch(&mut in_flight, processed).await?;
                }
            }
        }
        self.complete_all(&mut in_flight).await
    }

    async fn publish_batch(
        &mut self,
        in_flight: &mut InFlight,
        processed: ProcessedBatch,
    ) -> Result<(), GenerationError> {
        let ProcessedBatch { outgoing, arrivals, ack_through, confirmed } = processed;
        let (replies, outgoing): (Vec<_>, Vec<_>) =
            outgoing.into_iter().partition(|outgoing| outgoing.need == Need::BestEffort);
        let (mut messages, needs): (Vec<_>, Vec<_>) =
            outgoing.into_iter().map(|OutgoingMessage { message, need }| (message, need)).unzip();
        for message in &mut messages {
            frame::fit(message, self.publisher.connection().frame_max());
        }
        let mut batch = Batch { messages, needs, arrivals, ack_through, confirmed };
        failpoint::without!(
            AckAfterConfirm,
            failpoints::ack(&self.acknowledger, &mut batch.ack_through).await?
        );
        self.shrink_known(&mut batch);
        let alone = batch.needs.contains(&Need::Queued);
        // A dead letter is sent with no other batch on its way, so that its return as unroutable can't be
        // mistaken for another batch's.
        if alone {
            self.complete_all(in_flight).await?;
        }
        if in_flight.batches.is_empty() {
            self.counters.waits_for_confirms(Some(Instant::now()));
        }
        let confirming = match self.publisher.send(&batch.messages).await {
            Ok(confirming) => confirming,
            Err(error) => std::future::ready(Err(error)).boxed(),
        };
        in_flight.confirming.push_back(confirming);
        in_flight.batches.push_back(batch);
        for reply in replies {
            self.replies.send(reply.message).await;
        }
        if alone { self.complete_all(in_flight).await } else { Ok(()) }
    }

    async fn complete_all(&mut self, in_flight: &mut InFlight) -> Result<(), GenerationError> {
        while let Some(confirmed) = in_flight.confirming.next().await {
            self.complete(in_flight, confirmed).await?;
        }
        Ok(())
    }

    /// Acks the oldest batch, if all of its messages are done.
    async fn complete(
        &mut self,
        in_flight: &mut InFlight,
        confirmed: Result<Confirmed, Error>,
    ) -> Result<(), GenerationError> {
        let Some(mut batch) = in_flight.batches.pop_front() else { return Ok(()) };
        let mut may_hold_culprit = false;
        match confirmed {
            Ok(confirmed) => {
                let receipts = self.publisher.receipts(&batch.messages, confirmed);
                batch.drop_done(&receipts, &self.counters);
            }
            Err(error @ Error::Unconfirmed(_)) => {
                self.warn(batch.messages.len(), &error.to_string());
            }
            // A message of this batch or of one behind it has closed the channel.
            Err(error) if self.publisher.is_connected() => {
                may_hold_culprit = true;
                self.warn(batch.messages.len(), &error.to_string());
            }
            Err(error) => return Err(error.into()),
        }
        if batch.messages.is_empty() {
            let waits = (!in_flight.batches.is_empty()).then(Instant::now);
            self.counters.waits_for_confirms(waits);
            return self.ack(batch).await;
        }
        // The channel is of no use any more, so what became of the batches behind is unknown: they
        // are sent again, too.
        in_flight.confirming.clear();
        self.republish(batch, may_hold_culprit).await?;
        for batch in std::mem::take(&mut in_flight.batches) {
            self.republish(batch, false).await?;
        }
        self.counters.waits_for_confirms(None);
        Ok(())
    }

    /// Sends a batch again until the broker has accepted it, within the bound. If a message closes the channel,
    /// each is sent alone, to find out which one does.
    async fn republish(
        &mut self,
        mut batch: Batch,
        mut alone: bool,
    ) -> Result<(), GenerationError> {
        let since = Instant::now();
        let mut pause = Backoff::new(PAUSE.0, PAUSE.1);
        while !batch.messages.is_empty() {
            pause.wait().await;
            self.publisher.reopen().await?;
            let before = batch.messages.len();
            let failed = if alone {
                self.publish_each(&mut batch).await
            } else {
                self.publish_all(&mut batch).await
            };
            if batch.messages.len() < before {
                Counters::add(&self.counters.steps, 1);
            }
            let Some(first) = batch.messages.first() else { break };
            let error = match failed {
                Ok(()) => None,
                Err(error @ Error::Unconfirmed(_)) => Some(error),
                Err(error) if !self.publisher.is_connected() => return Err(error.into()),
                Err(error) => {
                    alone = true;
                    Some(error)
                }
            };
            Counters::add(&self.counters.publishing_failures, 1);
            let is_hopeless = matches!(error, Some(Error::NotFound(_)));
            let why = error.map_or_else(|| REFUSED.to_owned(), |error| error.to_string());
            self.warn(batch.messages.len(), &why);
            if is_hopeless || since.elapsed() > self.grace {
                let first = OutgoingMessage { message: first.clone(), need: batch.needs[0] };
                let (topology, publisher) = (&self.topology, &self.publisher);
                let giving_up =
                    unpublishable::give_up(first, &why, topology, publisher, &self.counters);
                return Err(giving_up.await);
            }
        }
        self.counters.set_publishing_trouble(None);
        self.ack(batch).await
    }

    async fn publish_all(&mut self, batch: &mut Batch) -> Result<(), Error> {
        let receipts = self.publisher.publish(&batch.messages).await?;
        batch.drop_done(&receipts, &self.counters);
        Ok(())
    }

    /// Sends one after the other until one is refused, and keeps this one and those behind it.
    async fn publish_each(&mut self, batch: &mut Batch) -> Result<(), Error> {
        let (mut sent, mut receipts) = (0, Vec::with_capacity(batch.messages.len()));
        let mut ended = Ok(());
        while let Some(message) = batch.messages.get(sent) {
            match self.publisher.publish_alone(message).await {
                Ok(Alone::Decided(receipt)) => {
                    receipts.push(receipt);
                    sent += 1;
                }
                Ok(Alone::Unacceptable(why)) => {
                    let bytes = message.body.len();
                    self.too_large_bytes =
                        Some(self.too_large_bytes.map_or(bytes, |least| least.min(bytes)));
                    if !self.shrink(batch, sent, &why) {
                        ended = Err(Error::Precondition(why));
                        break;
                    }
                }
                Err(error) => {
                    ended = Err(error);
                    break;
                }
            }
        }
        // Those behind were not sent, so they are as good as refused.
        receipts.resize(batch.messages.len(), Receipt::Refused);
        batch.drop_done(&receipts, &self.counters);
        ended
    }

    /// Replaces bodies that the broker is known to refuse by something smaller.
    fn shrink_known(&self, batch: &mut Batch) {
        let Some(least) = self.too_large_bytes else { return };
        for place in 0..batch.messages.len() {
            if batch.messages[place].body.len() >= least {
                self.shrink(batch, place, "it took none of that size before");
            }
        }
    }

    /// Replaces a message by something smaller; `false` if there is nothing smaller.
    fn shrink(&self, batch: &mut Batch, place: usize, why: &str) -> bool {
        let (message, need) = (&mut batch.messages[place], batch.needs[place]);
        let Some(smaller) = unpublishable::smaller(message, need) else { return false };
        let (counter, becomes) = match need {
            Need::Queued => (&self.counters.letters_cut, "its beginning"),
            Need::Confirmed | Need::BestEffort => {
                (&self.counters.results_unavailable, "a notice; `show command` has the result")
            }
        };
        Counters::add(counter, 1);
        tracing::warn!(
            lane = self.lane,
            message.bytes = message.body.len(),
            "the broker refuses a message of {} bytes; {becomes} is published instead: {why}",
            message.body.len()
        );
        *message = smaller;
        true
    }

    fn warn(&self, messages: usize, why: &str) {
        tracing::warn!(
            lane = self.lane,
            "{messages} messages are published again over a new channel: {why}"
        );
    }

    async fn ack(&self, batch: Batch) -> Result<(), GenerationError> {
        failpoint::reach(Point::BeforeAck);
        if let Some(tag) = batch.ack_through {
            self.acknowledger.ack_through(tag).await?;
            self.counters.in_flight.ack_through(tag);
        }
        if let Some(confirmed) = batch.confirmed
            && confirmed.send(()).is_err()
        {
            tracing::debug!(lane = self.lane, "the lane ended before the confirms arrived");
        }
        for arrival in batch.arrivals {
            self.counters.answered.observe(arrival.elapsed());
        }
        Counters::add(&self.counters.acked_batches, 1);
        self.counters.health.recover();
        Counters::add(&self.counters.steps, 1);
        Ok(())
    }
}

impl Batch {
    /// Keeps what has to be sent again.
    fn drop_done(&mut self, receipts: &[Receipt], counters: &Counters) {
        let all =
            std::mem::take(&mut self.messages).into_iter().zip(std::mem::take(&mut self.needs));
        for ((message, need), receipt) in all.zip(receipts) {
            let done = unpublishable::is_done(*receipt, need);
            if done && *receipt == Receipt::Unroutable {
                Counters::add(&counters.unroutable_results, 1);
            }
            if !done {
                self.messages.push(message);
                self.needs.push(need);
            }
        }
    }
}
