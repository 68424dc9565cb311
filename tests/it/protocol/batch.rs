//! What a worker does with a batch, from gathering it to having answers to publish.

use crate::protocol::state::{
    Answer, Batch, Channel, Commands, Fence, Publication, Session, State, Step, Transaction,
};
use crate::protocol::steps::{Protection, Protocol, ack, require, strike};

/// Each of these is `None` where the step is not possible.
impl Protocol {
    pub(super) fn begin(&self, state: &mut State, worker: usize, size: u8) -> Option<()> {
        let session = state.sessions[worker].as_mut()?;
        require(session.batch.is_none())?;
        let commands = session
            .held
            .iter()
            .take(usize::from(size))
            .map(Commands::only)
            .fold(Commands::NONE, Commands::plus);
        require(commands.len() == u32::from(size))?;
        session.held = session.held.minus(commands);
        session.batch = Some(Batch { commands, step: Step::Gathered });
        if !self.has(Protection::AckAfterCommit) {
            ack(state, worker, commands);
        }
        Some(())
    }

    /// Waits for the lock that a commit in flight has on the lane. Whoever finds his channel closed
    /// after it goes no further.
    pub(super) fn take_fence(&self, state: &mut State, worker: usize) -> Option<()> {
        require(gathered(state, worker)?.fence == Fence::Untaken)?;
        require(!self.has(Protection::Fence) || state.database.in_flight.is_none())?;
        for session in state.sessions.iter_mut().flatten() {
            if session.fence == Fence::Held {
                session.fence = Fence::Lost;
            }
        }
        let session = state.sessions[worker].as_mut()?;
        session.fence = Fence::Held;
        if self.has(Protection::ChannelCheck) && session.channel == Channel::Closed {
            state.sessions[worker] = None;
        }
        Some(())
    }

    pub(super) fn load(&self, state: &mut State, worker: usize) -> Option<()> {
        let session = gathered(state, worker)?;
        require(session.fence != Fence::Untaken)?;
        let commands = session.batch.as_ref()?.commands;
        // Only of those that come again is it asked how often they were tried.
        if commands.and(session.redelivered).meets(state.database.given_up) {
            return self.give_up_again(state, worker, commands);
        }
        let known = if self.has(Protection::Inbox) { state.database.inbox } else { Commands::NONE };
        let fresh = commands.minus(known);
        if fresh.is_empty() {
            return self.settle(state, worker, Answer::Result);
        }
        let loaded_after = u8::try_from(state.database.history.len()).ok()?;
        let session = state.sessions[worker].as_mut()?;
        session.batch.as_mut()?.step = Step::Loaded(Transaction { fresh, loaded_after });
        Some(())
    }

    /// The word on the last try is the database's, so it comes after that on any earlier try: a
    /// command that panics never got as far as a commit.
    pub(super) fn give_up(&self, state: &mut State, worker: usize) -> Option<()> {
        let session = gathered(state, worker)?;
        let commands = session.batch.as_ref()?.commands;
        require(commands.len() == 1)?;
        require(!self.waits_for_in_flight(state, commands))?;
        if self.has(Protection::Fence) && self.has(Protection::FencedGiveUps) {
            require(session.fence != Fence::Untaken)?;
            if session.fence == Fence::Lost {
                state.sessions[worker].as_mut()?.batch.as_mut()?.step = Step::FencedOff;
                return Some(());
            }
            // The try before looked it up, and nobody else has committed since.
            require(!state.database.inbox.meets(commands))?;
        }
        state.give_ups_left = state.give_ups_left.checked_sub(1)?;
        state.database.given_up = state.database.given_up.plus(commands);
        self.settle(state, worker, Answer::DeadLetter)
    }

    /// One that used up its tries before is a part of its own.
    fn give_up_again(&self, state: &mut State, worker: usize, commands: Commands) -> Option<()> {
        if commands.len() == 1 {
            return self.settle(state, worker, Answer::DeadLetter);
        }
        let session = state.sessions[worker].as_mut()?;
        let first = Commands::only(commands.first()?);
        session.batch.as_mut()?.commands = first;
        session.held = session.held.plus(commands.minus(first));
        Some(())
    }

    pub(super) fn commit(&self, state: &mut State, worker: usize) -> Option<()> {
        let session = state.sessions[worker].as_mut()?;
        let batch = session.batch.as_mut()?;
        let Step::Loaded(transaction) = batch.step else { return None };
        if self.has(Protection::Fence) && session.fence == Fence::Lost {
            batch.step = Step::FencedOff;
            return Some(());
        }
        if self.has(Protection::Inbox) && state.database.inbox.meets(transaction.fresh) {
            // A conflict: the batch is done again.
            batch.step = Step::Gathered;
            return Some(());
        }
        require(!self.waits_for_in_flight(state, transaction.fresh))?;
        state.database.apply(transaction);
        self.settle(state, worker, Answer::Result)
    }

    /// As [`Self::commit`], up to the point where the server has only to decide.
    pub(super) fn lose_commit(&self, state: &mut State, worker: usize) -> Option<()> {
        strike(state)?;
        require(state.database.in_flight.is_none())?;
        let session = state.sessions[worker].as_mut()?;
        let batch = session.batch.as_mut()?;
        let Step::Loaded(transaction) = batch.step else { return None };
        require(!self.has(Protection::Fence) || session.fence == Fence::Held)?;
        require(!self.has(Protection::Inbox) || !state.database.inbox.meets(transaction.fresh))?;
        batch.step = Step::Gathered;
        state.database.in_flight = Some(transaction);
        Some(())
    }

    /// An id that a transaction in flight has inserted can't be inserted before that has ended.
    fn waits_for_in_flight(&self, state: &State, commands: Commands) -> bool {
        let in_flight = state.database.in_flight;
        self.has(Protection::Inbox)
            && in_flight.is_some_and(|transaction| transaction.fresh.meets(commands))
    }

    fn settle(&self, state: &mut State, worker: usize, answer: Answer) -> Option<()> {
        let session = state.sessions[worker].as_mut()?;
        let Batch { commands, .. } = session.batch.take()?;
        session.publishing.push(Publication { answer, commands, unconfirmed: commands });
        if !self.has(Protection::AckAfterConfirm) {
            ack(state, worker, commands);
        }
        Some(())
    }
}

/// The session, if it has a batch that is yet to be loaded.
fn gathered(state: &State, worker: usize) -> Option<&Session> {
    let session = state.sessions[worker].as_ref()?;
    require(session.batch.as_ref()?.step == Step::Gathered)?;
    Some(session)
}
