//! What each action does to the state.

use stateright::Model;

use crate::protocol::holds::{
    Action, Lane, POISON, Protection, Source, State, Step, Verdict, Work, count, share,
};
use crate::protocol::state::{Command, Commands};

/// Each of these is `None` where the step is not possible.
impl Lane {
    fn has(&self, protection: Protection) -> bool {
        self.without != Some(protection)
    }

    pub(super) fn is_terminal(&self, state: &State) -> bool {
        let mut actions = Vec::new();
        self.actions(state, &mut actions);
        actions.into_iter().all(|action| self.next_state(state, action).is_none())
    }

    pub(super) fn step(&self, state: &mut State, action: Action) -> Option<()> {
        let letter = Commands::only(POISON);
        match action {
            Action::Take => {
                let rest = Commands::first_of_queue(count()).minus(state.acked);
                take(state, rest.first()?, Source::Queue)
            }
            // Behind all else of the queue.
            Action::TakeReplay => {
                require(state.acked == Commands::first_of_queue(count()))?;
                require(state.replays > 0)?;
                take(state, POISON, Source::Replay)
            }
            // That lane has a queue of its own, and no line.
            Action::TakeElsewhere => {
                require(state.replays_elsewhere > 0)?;
                take(state, POISON, Source::Elsewhere)
            }
            Action::TakeParked => {
                let free = state.parked.iter().find(|command| self.is_free(state, *command))?;
                take(state, free, Source::Parked)
            }
            Action::Decide => self.decide(state),
            Action::Commit => self.commit(state),
            Action::Publish => self.publish(state),
            Action::Finish => self.finish(state),
            Action::Die => {
                state.current.take()?;
                state.deaths_left = state.deaths_left.checked_sub(1)?;
                Some(())
            }
            Action::Discard => {
                require(state.open.holds(letter))?;
                state.open = state.open.minus(letter);
                state.discarded = state.discarded.plus(letter);
                state.holding = state.holding.minus(letter);
                Some(())
            }
            Action::Replay => {
                require(state.open.holds(letter))?;
                state.replays_left = state.replays_left.checked_sub(1)?;
                state.open = state.open.minus(letter);
                state.replays += 1;
                Some(())
            }
            Action::ReplayElsewhere => {
                require(state.open.holds(letter))?;
                state.replays_left = state.replays_left.checked_sub(1)?;
                state.open = state.open.minus(letter);
                state.replays_elsewhere += 1;
                Some(())
            }
            Action::Mend => {
                require(!state.is_mended)?;
                state.is_mended = true;
                Some(())
            }
        }
    }

    /// Whether nothing at an earlier place holds one of its customers.
    fn is_free(&self, state: &State, command: Command) -> bool {
        self.is_free_at(state, command, command)
    }

    fn is_free_at(&self, state: &State, command: Command, place: Command) -> bool {
        let parked = if self.has(Protection::ParkedHold) { state.parked } else { Commands::NONE };
        let ahead = state.holding.plus(parked).and(Commands::before(place));
        ahead.iter().all(|other| other == command || !share(other, command))
    }

    fn decide(&self, state: &mut State) -> Option<()> {
        let Work { command, from, step: Step::Taken } = state.current? else { return None };
        let own = Commands::only(command);
        // A delivery stands behind the whole line, unless it is that of a letter.
        let has_place = from == Source::Parked
            || self.has(Protection::ReplayKeepsPlace) && state.holding.holds(own);
        let place = if has_place { command } else { count() };
        let is_answered = self.has(Protection::Inbox) && state.inbox.holds(own);
        let verdict = if is_answered {
            Verdict::AnswerAgain
        } else if from != Source::Elsewhere
            && (from != Source::Parked && state.parked.holds(own)
                || !self.is_free_at(state, command, place))
        {
            Verdict::Park
        } else if command == POISON && !state.is_mended {
            Verdict::GiveUp
        } else {
            Verdict::Apply
        };
        let acks_early = verdict == Verdict::Park && !self.has(Protection::ParkBeforeAck);
        if acks_early && from == Source::Queue {
            state.acked = state.acked.plus(own);
        }
        go_on(state, Step::Decided(verdict))
    }

    fn commit(&self, state: &mut State) -> Option<()> {
        let Work { command, from, step } = state.current?;
        let verdict = match step {
            Step::Decided(Verdict::GiveUp) if !self.has(Protection::HoldBeforeLetter) => {
                return None;
            }
            Step::HoldsLate => {
                state.holding = state.holding.plus(Commands::only(command));
                state.current = None;
                return Some(());
            }
            Step::Decided(verdict) => verdict,
            Step::Taken | Step::Committed(_) | Step::Published(_) => return None,
        };
        let own = Commands::only(command);
        match verdict {
            Verdict::Apply => {
                state.history.push(command);
                state.inbox = state.inbox.plus(own);
                if from != Source::Elsewhere || self.has(Protection::ReleaseFromAnywhere) {
                    state.holding = state.holding.minus(own);
                }
                if !self.has(Protection::RowUntilConfirmed) {
                    state.parked = state.parked.minus(own);
                }
            }
            // The letter of a command that turns out to be answered holds nobody.
            Verdict::AnswerAgain
                if from == Source::Elsewhere && !self.has(Protection::ReleaseFromAnywhere) => {}
            Verdict::AnswerAgain => state.holding = state.holding.minus(own),
            // Behind those that wait for its letter, it is never free.
            Verdict::Park if from == Source::Replay && !self.has(Protection::ReplayKeepsPlace) => {}
            // A replay that has to wait takes its letter's place.
            Verdict::Park => {
                state.holding = state.holding.minus(own);
                state.parked = state.parked.plus(own);
            }
            // The letter that it becomes stands for the one that holds already.
            Verdict::GiveUp if from == Source::Elsewhere => {}
            Verdict::GiveUp => state.holding = state.holding.plus(own),
        }
        go_on(state, Step::Committed(verdict))
    }

    fn publish(&self, state: &mut State) -> Option<()> {
        let Work { command, step, .. } = state.current?;
        let verdict = match step {
            Step::Decided(Verdict::GiveUp) if !self.has(Protection::HoldBeforeLetter) => {
                Verdict::GiveUp
            }
            Step::Committed(verdict) => verdict,
            Step::Taken | Step::Decided(_) | Step::Published(_) | Step::HoldsLate => return None,
        };
        let own = Commands::only(command);
        match verdict {
            Verdict::Apply | Verdict::AnswerAgain => state.answered = state.answered.plus(own),
            // There is nothing to say yet.
            Verdict::Park => {}
            Verdict::GiveUp => state.open = state.open.plus(own),
        }
        go_on(state, Step::Published(verdict))
    }

    fn finish(&self, state: &mut State) -> Option<()> {
        let Work { command, from, step: Step::Published(verdict) } = state.current? else {
            return None;
        };
        let own = Commands::only(command);
        match from {
            Source::Queue => state.acked = state.acked.plus(own),
            Source::Replay => state.replays -= 1,
            Source::Elsewhere => state.replays_elsewhere -= 1,
            Source::Parked => state.parked = state.parked.minus(own),
        }
        if verdict == Verdict::GiveUp && !self.has(Protection::HoldBeforeLetter) {
            return go_on(state, Step::HoldsLate);
        }
        state.current = None;
        Some(())
    }
}

fn take(state: &mut State, command: Command, from: Source) -> Option<()> {
    require(state.current.is_none())?;
    state.current = Some(Work { command, from, step: Step::Taken });
    Some(())
}

fn go_on(state: &mut State, step: Step) -> Option<()> {
    state.current.as_mut()?.step = step;
    Some(())
}

fn require(possible: bool) -> Option<()> {
    possible.then_some(())
}
