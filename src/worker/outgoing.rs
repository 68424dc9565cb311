//! What a settled window has to say: results, copies for requesters, dead letters and their events.

use std::sync::Arc;

use chrono::TimeDelta;

use crate::clock::Clock;
use crate::domain::rejection::Rejection;
use crate::message::Message;
use crate::wire::rejected::Origin;
use crate::wire::replay;
use crate::worker::answer::Answer;
use crate::worker::counters::Counters;
use crate::worker::dead_letter;
use crate::worker::intake::Taken;
use crate::worker::window::{DropReason, Settled};

/// A message and how much it matters that it arrives.
pub(super) struct Outgoing {
    pub(super) message: Message,
    pub(super) need: Need,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// A dead letter: without a queue to hold it, it would be lost.
    Queued,
    /// A result: the broker must take it; that nobody subscribes is the subscribers' choice,
    /// for it stays in the database.
    Confirmed,
    /// A copy for a requester, who may be gone.
    BestEffort,
}

/// Writes it for one lane.
pub(super) struct Speaker {
    pub(super) lane: String,
    pub(super) worker: String,
    /// See [`Config::letter_user`](crate::config::Config::letter_user).
    pub(super) letter_user: Option<String>,
    pub(super) clock: Clock,
    pub(super) counters: Arc<Counters>,
}

impl Speaker {
    /// What is to be said of the window, which was settled under this epoch of the lane, in the queue's
    /// order; counts it.
    pub(super) fn outgoing(
        &self,
        window: &[Taken],
        settled: Vec<Settled>,
        lane_epoch: i64,
    ) -> Vec<Outgoing> {
        let Counters { redelivered, rejected, parked, .. } = &*self.counters;
        let came_again = window.iter().filter(|taken| taken.redelivered && taken.parked.is_none());
        Counters::add(redelivered, came_again.count());
        let mut outgoing = Vec::with_capacity(settled.len());
        let mut died_at = self.clock.now();
        for (taken, settled) in window.iter().zip(settled) {
            let (rejection, attempts) = match settled {
                Settled::Answered(answer) => {
                    self.answer(*answer, &mut outgoing);
                    continue;
                }
                Settled::Parked(event) => {
                    Counters::add(parked, 1);
                    let event = event.map(|event| *event);
                    outgoing
                        .extend(event.map(|message| Outgoing { message, need: Need::Confirmed }));
                    continue;
                }
                Settled::Marker => continue,
                Settled::Dropped(reason) => {
                    self.note_drop(taken, reason);
                    continue;
                }
                Settled::Rejected(rejection) => (rejection, 1),
                Settled::GivenUp { rejection, tries } => (rejection, tries),
            };
            Counters::add(rejected, 1);
            let origin = Origin {
                lane: &self.lane,
                worker: &self.worker,
                position: taken.position(lane_epoch),
                at: died_at,
                worker_user: self.letter_user.as_deref(),
                attempts,
            };
            self.dead_letter(taken, &rejection, &origin, &mut outgoing);
            // Each after the one before it, for those who read times only.
            died_at += TimeDelta::microseconds(1);
        }
        self.counters.events.log_if_due(&self.lane);
        outgoing
    }

    fn note_drop(&self, taken: &Taken, reason: DropReason) {
        Counters::add(&self.counters.replays_dropped, 1);
        let why = match reason {
            DropReason::TakenBack => "the letter was taken back or replayed again since",
            DropReason::AlreadyApplied => "the history has its command already",
        };
        self.counters.events.add_dropped_replay(why);
        if let Some(letter) = replay::letter_id(&taken.message) {
            tracing::debug!(lane = self.lane, dead_letter.id = %letter, "a replay has no effect: {why}");
        }
    }

    fn answer(&self, answer: Answer, outgoing: &mut Vec<Outgoing>) {
        let Counters { applied, duplicates, .. } = &*self.counters;
        Counters::add(if answer.duplicate { duplicates } else { applied }, 1);
        outgoing.push(Outgoing { message: answer.event, need: Need::Confirmed });
        outgoing.extend(answer.reply.map(|message| Outgoing { message, need: Need::BestEffort }));
    }

    fn dead_letter(
        &self,
        taken: &Taken,
        rejection: &Rejection,
        origin: &Origin<'_>,
        outgoing: &mut Vec<Outgoing>,
    ) {
        self.counters.events.add_dead_letter(rejection.reason.as_str());
        let dead = dead_letter::write(taken, rejection, origin);
        outgoing.push(Outgoing { message: dead.letter, need: Need::Queued });
        outgoing.push(Outgoing { message: dead.event, need: Need::Confirmed });
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        self.counters.events.log(&self.lane);
    }
}
