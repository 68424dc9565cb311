//! The messages of a processed batch: results, copies for requesters, dead letters and their events.

use std::sync::Arc;

use chrono::TimeDelta;

use crate::clock::Clock;
use crate::domain::rejection::Rejection;
use crate::wire::rejected::Origin;
use crate::wire::replay;
use crate::worker::counters::Counters;
use crate::worker::lane::answer::Answer;
use crate::worker::lane::apply::{DeliveryOutcome, DropReason};
use crate::worker::lane::dead_letter;
use crate::worker::lane::outgoing_message::{Need, OutgoingMessage};
use crate::worker::lane::receive::Delivery;

/// Makes the messages of one lane.
pub(crate) struct MessageBuilder {
    pub(crate) lane: String,
    pub(crate) worker: String,
    /// See [`Config::letter_user`](crate::config::Config::letter_user).
    pub(crate) letter_user: Option<String>,
    pub(crate) clock: Clock,
    pub(crate) counters: Arc<Counters>,
}

impl MessageBuilder {
    /// Makes and counts the messages of a batch, in the order of the queue. The batch was processed under this
    /// epoch of the lane.
    pub(crate) fn outgoing(
        &self,
        batch: &[Delivery],
        outcomes: Vec<DeliveryOutcome>,
        lane_epoch: i64,
    ) -> Vec<OutgoingMessage> {
        let Counters { redelivered, rejected, parked, .. } = &*self.counters;
        let came_again =
            batch.iter().filter(|delivery| delivery.redelivered && delivery.parked.is_none());
        Counters::add(redelivered, came_again.count());
        let mut outgoing = Vec::with_capacity(outcomes.len());
        let mut died_at = self.clock.now();
        for (delivery, outcome) in batch.iter().zip(outcomes) {
            let (rejection, attempts) = match outcome {
                DeliveryOutcome::Answered(answer) => {
                    self.answer(*answer, &mut outgoing);
                    continue;
                }
                DeliveryOutcome::Parked(event) => {
                    Counters::add(parked, 1);
                    let event = event.map(|event| *event);
                    outgoing.extend(
                        event.map(|message| OutgoingMessage { message, need: Need::Confirmed }),
                    );
                    continue;
                }
                DeliveryOutcome::Marker => continue,
                DeliveryOutcome::Dropped(reason) => {
                    self.note_drop(delivery, reason);
                    continue;
                }
                DeliveryOutcome::Rejected(rejection) => (rejection, 1),
                DeliveryOutcome::GivenUp { rejection, tries } => (rejection, tries),
            };
            Counters::add(rejected, 1);
            let origin = Origin {
                lane: &self.lane,
                worker: &self.worker,
                position: delivery.position(lane_epoch),
                at: died_at,
                worker_user: self.letter_user.as_deref(),
                attempts,
            };
            self.dead_letter(delivery, &rejection, &origin, &mut outgoing);
            // Each later than the one before it: readers may order by the times alone.
            died_at += TimeDelta::microseconds(1);
        }
        self.counters.events.log_if_due(&self.lane);
        outgoing
    }

    fn note_drop(&self, delivery: &Delivery, reason: DropReason) {
        Counters::add(&self.counters.replays_dropped, 1);
        let why = match reason {
            DropReason::TakenBack => "the dead letter was taken back or replayed again since",
            DropReason::AlreadyApplied => "the history has its command already",
        };
        self.counters.events.add_dropped_replay(why);
        if let Some(letter) = replay::dead_letter_id(&delivery.message) {
            tracing::debug!(lane = self.lane, dead_letter.id = %letter, "a replay has no effect: {why}");
        }
    }

    fn answer(&self, answer: Answer, outgoing: &mut Vec<OutgoingMessage>) {
        let Counters { applied, duplicates, .. } = &*self.counters;
        Counters::add(if answer.duplicate { duplicates } else { applied }, 1);
        outgoing.push(OutgoingMessage { message: answer.event, need: Need::Confirmed });
        outgoing.extend(
            answer.reply.map(|message| OutgoingMessage { message, need: Need::BestEffort }),
        );
    }

    fn dead_letter(
        &self,
        delivery: &Delivery,
        rejection: &Rejection,
        origin: &Origin<'_>,
        outgoing: &mut Vec<OutgoingMessage>,
    ) {
        self.counters.events.add_dead_letter(rejection.reason.as_str());
        let dead = dead_letter::write(delivery, rejection, origin);
        outgoing.push(OutgoingMessage { message: dead.letter, need: Need::Queued });
        outgoing.push(OutgoingMessage { message: dead.event, need: Need::Confirmed });
    }
}

impl Drop for MessageBuilder {
    fn drop(&mut self) {
        self.counters.events.log(&self.lane);
    }
}
