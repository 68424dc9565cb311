//! The steps of the model.

use stateright::Model;

use super::{Action, Batch, CUSTOMERS, Customers, Effect, Executor, Lane, Protection, State};
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
        match action {
            Action::Subscribe => {
                let under_way = state.batches.iter().map(|batch| batch.commands);
                let taken = under_way.fold(state.held.plus(state.acked), Commands::plus);
                let rest = Commands::first_of_queue(count()).minus(taken);
                require(taken == state.acked && !rest.is_empty())?;
                state.held = rest;
                Some(())
            }
            Action::Begin(size, by) => self.begin(state, size, by),
            Action::Load(executor) => {
                let Executor::Given(part, by) = state.executors[executor] else { return None };
                let by = by.filter(|_| self.has(Protection::CustomersOfTheCut));
                let by = by.unwrap_or(state.imported);
                let known = if self.has(Protection::Inbox) { state.inbox } else { Commands::NONE };
                let facts = state.history.iter().map(|effect| effect.command).collect();
                state.executors[executor] = Executor::Loaded(part, part.minus(known), facts, by);
                Some(())
            }
            Action::Commit(executor) => commit(state, executor),
            Action::Conflict(executor) => self.conflict(state, executor),
            Action::Rest => self.rest(state),
            Action::Import => {
                require(self.imports && !state.imported)?;
                state.imported = true;
                Some(())
            }
            Action::Publish => {
                let batch = self.answering(state)?;
                let command = Commands::only(batch.unanswered.first()?);
                batch.unanswered = batch.unanswered.minus(command);
                state.answered = state.answered.plus(command);
                Some(())
            }
            Action::Refuse => {
                let confirms = !self.has(Protection::RefusedIsNotConfirmed);
                require(state.refusals_left > 0)?;
                let batch = self.answering(state)?;
                let all = batch.unanswered;
                let refused = Commands::only(all.first()?);
                batch.unanswered = if confirms { Commands::NONE } else { refused };
                state.answered = state.answered.plus(all.minus(refused));
                state.refusals_left -= 1;
                Some(())
            }
            Action::Ack => {
                let batch = self.answering(state)?;
                require(batch.unanswered.is_empty())?;
                let commands = batch.commands;
                state.batches.remove(0);
                state.acked = state.acked.plus(commands);
                Some(())
            }
            Action::Die => {
                require(!state.batches.is_empty())?;
                state.deaths_left = state.deaths_left.checked_sub(1)?;
                (state.held, state.batches) = (Commands::NONE, Vec::new());
                state.executors = [Executor::Idle, Executor::Idle];
                Some(())
            }
        }
    }

    /// While one batch is answered, the next is under way; no more.
    fn begin(&self, state: &mut State, size: usize, by: Customers) -> Option<()> {
        require(state.batches.len() < 2 && (state.imported || !by))?;
        if self.has(Protection::OneBatchAtATime) {
            require(state.batches.iter().all(Batch::is_committed))?;
        }
        let commands: Vec<Command> = state.held.iter().take(size).collect();
        require(commands.len() == size)?;
        let is_own = |command: &&Command| {
            if self.has(Protection::PartsByCustomer) {
                customer(**command, by) == 0
            } else {
                usize::from(**command - commands[0]) < size / 2
            }
        };
        let (first, second): (Vec<&Command>, Vec<&Command>) = commands.iter().partition(is_own);
        let parts = [set(&first), set(&second)].into_iter().filter(|part| !part.is_empty());
        let mut count = 0;
        for part in parts {
            let free = state.executors.iter().position(|one| *one == Executor::Idle)?;
            state.executors[free] = Executor::Given(part, Some(by));
            count += 1;
        }
        let all = set(&commands.iter().collect::<Vec<_>>());
        state.held = state.held.minus(all);
        state.batches.push(Batch {
            commands: all,
            parts: count,
            rest: Commands::NONE,
            cut_by: by,
            unanswered: all,
        });
        Some(())
    }

    fn conflict(&self, state: &mut State, executor: usize) -> Option<()> {
        let Executor::Loaded(part, ..) = state.executors[executor] else { return None };
        state.conflicts_left = state.conflicts_left.checked_sub(1)?;
        if !self.has(Protection::RestAfterTheOthers) {
            state.executors[executor] = Executor::Given(part, None);
            return Some(());
        }
        state.executors[executor] = Executor::Idle;
        let batch = state.batches.iter_mut().find(|batch| batch.parts > 0)?;
        batch.parts -= 1;
        batch.rest = batch.rest.plus(part);
        Some(())
    }

    fn rest(&self, state: &mut State) -> Option<()> {
        let committed = state.inbox;
        let batch = state.batches.iter_mut().find(|batch| !batch.is_committed())?;
        require(batch.parts == 0 && !batch.rest.is_empty())?;
        if !(batch.commands.meets(committed) && self.has(Protection::PinnedRest)) {
            batch.cut_by = state.imported;
        }
        state.executors[0] = Executor::Given(batch.rest, Some(batch.cut_by));
        (batch.parts, batch.rest) = (1, Commands::NONE);
        Some(())
    }

    /// The oldest batch, if it may be answered.
    fn answering<'a>(&self, state: &'a mut State) -> Option<&'a mut Batch> {
        let committed = state.inbox;
        let batch = state.batches.first_mut()?;
        let is_done = batch.is_committed();
        let is_begun = batch.commands.meets(committed);
        require(is_done || (!self.has(Protection::AllParts) && is_begun))?;
        Some(batch)
    }
}

fn commit(state: &mut State, executor: usize) -> Option<()> {
    let Executor::Loaded(_, fresh, facts, by) = &state.executors[executor] else { return None };
    let (fresh, mut known, by) = (*fresh, facts.clone(), *by);
    for command in fresh.iter() {
        let customer = customer(command, by);
        state.history.push(Effect { command, customer, known: known.clone() });
        known.push(command);
    }
    state.inbox = state.inbox.plus(fresh);
    state.executors[executor] = Executor::Idle;
    let batch = state.batches.iter_mut().find(|batch| batch.parts > 0)?;
    batch.parts -= 1;
    Some(())
}

impl Batch {
    fn is_committed(&self) -> bool {
        self.parts == 0 && self.rest.is_empty()
    }
}

fn customer(command: Command, by: Customers) -> u8 {
    CUSTOMERS[usize::from(by)][usize::from(command)]
}

pub(super) fn count() -> u8 {
    u8::try_from(CUSTOMERS[0].len()).unwrap()
}

fn set(commands: &[&Command]) -> Commands {
    commands.iter().fold(Commands::NONE, |set, command| set.plus(Commands::only(**command)))
}

fn require(possible: bool) -> Option<()> {
    possible.then_some(())
}
