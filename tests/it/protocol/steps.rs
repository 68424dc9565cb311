//! What can happen next: each step is atomic, and any may come between any two others.

use stateright::{Model, Property};

use crate::protocol::properties;
use crate::protocol::state::{
    Announcement, Answer, Broker, Channel, Command, Commands, Database, Fence, Session, State,
    Step, Transaction, Window,
};

/// The protocol within bounds, whole or with one protection taken out.
#[derive(Clone, Debug)]
pub(super) struct Protocol {
    pub(super) commands: u8,
    /// The most commands in a window.
    pub(super) window: u8,
    /// How many faults may strike.
    pub(super) faults: u8,
    /// How many commands may use up their tries and be dead-lettered.
    pub(super) give_ups: u8,
    pub(super) without: Option<Protection>,
    /// The one property that is asked; else all are.
    pub(super) only: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protection {
    /// A commit checks that the lane is still the session's.
    Fence,
    /// The lane is taken at the very delivery, not at some time after it.
    FenceAtDelivery,
    /// Commands are looked up before they are applied, and their ids are unique at the commit.
    Inbox,
    AckAfterCommit,
    AckAfterConfirm,
    /// A lane is handed over by closing the channel, not by cancelling the consumer.
    CloseToHandOver,
}

/// The number is the worker's place in [`State::sessions`], which may change with each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Becomes the active consumer. One that waits for its turn does nothing, and is left out.
    Subscribe(usize),
    Deliver(usize),
    /// Gathers a window of this many commands.
    Begin(usize, u8),
    TakeFence(usize),
    Load(usize),
    /// The last try at a command failed.
    GiveUp(usize),
    Commit(usize),
    /// The connection breaks during the commit: the worker can't know what came of it.
    LoseCommit(usize),
    /// The server completes the commit whose worker is no longer listening …
    Land,
    /// … or rolls it back.
    Vanish,
    /// The broker takes a result, and the confirm arrives.
    Publish(usize),
    /// The broker takes a result, and the confirm does not arrive: the generation ends.
    LoseConfirm(usize),
    Ack(usize),
    /// The broker gives a worker up that is still running.
    Abandon(usize),
    /// Hands the lane over without closing the channel.
    Cancel(usize),
    /// The generation ends: a crash, a fault, an orderly stop. All memory is lost.
    End(usize),
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            broker: Broker {
                ready: Commands::first_of_queue(self.commands),
                acked: Commands::NONE,
                announced: Commands::NONE,
                announced_again: Commands::NONE,
                dead_letters: Commands::NONE,
            },
            database: Database {
                inbox: Commands::NONE,
                history: Vec::new(),
                given_up: Commands::NONE,
                in_flight: None,
            },
            sessions: [None, None],
            faults_left: self.faults,
            give_ups_left: self.give_ups,
        }]
    }

    /// All that are thinkable: [`Self::next_state`] says which of them are possible.
    fn actions(&self, _: &State, actions: &mut Vec<Action>) {
        actions.extend([Action::Land, Action::Vanish]);
        for worker in 0..2 {
            actions.extend((1..=self.window).map(|size| Action::Begin(worker, size)));
            actions.extend(
                [
                    Action::Subscribe,
                    Action::Deliver,
                    Action::TakeFence,
                    Action::Load,
                    Action::GiveUp,
                    Action::Commit,
                    Action::LoseCommit,
                    Action::Publish,
                    Action::LoseConfirm,
                    Action::Ack,
                    Action::Abandon,
                    Action::Cancel,
                    Action::End,
                ]
                .map(|action| action(worker)),
            );
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        self.step(&mut state, action)?;
        state.sessions.sort();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = properties::all(self);
        properties.retain(|property| self.only.is_none_or(|only| property.name == only));
        properties
    }
}

/// Each of these is `None` where the step is not possible.
impl Protocol {
    pub(super) fn has(&self, protection: Protection) -> bool {
        self.without != Some(protection)
    }

    pub(super) fn is_terminal(&self, state: &State) -> bool {
        let mut actions = Vec::new();
        self.actions(state, &mut actions);
        actions.into_iter().all(|action| self.next_state(state, action).is_none())
    }

    fn step(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Subscribe(worker) => subscribe(state, worker),
            Action::Deliver(worker) => self.deliver(state, worker),
            Action::Begin(worker, size) => self.begin(state, worker, size),
            Action::TakeFence(worker) => {
                require(gathered(state, worker)?.fence == Fence::Untaken)?;
                self.take_fence(state, worker)
            }
            Action::Load(worker) => self.load(state, worker),
            Action::GiveUp(worker) => self.give_up(state, worker),
            Action::Commit(worker) => self.commit(state, worker),
            Action::LoseCommit(worker) => self.lose_commit(state, worker),
            Action::Land => {
                let transaction = state.database.in_flight.take()?;
                state.database.apply(transaction);
                Some(())
            }
            Action::Vanish => state.database.in_flight.take().map(drop),
            Action::Publish(worker) => publish(state, worker),
            Action::LoseConfirm(worker) => {
                strike(state)?;
                publish(state, worker)?;
                close(state, worker);
                state.sessions[worker] = None;
                Some(())
            }
            Action::Ack(worker) => {
                let session = state.sessions[worker].as_mut()?;
                require(session.announcing.first()?.unconfirmed.is_empty())?;
                let announced = session.announcing.remove(0);
                ack(state, worker, announced.commands);
                Some(())
            }
            Action::Abandon(worker) => {
                strike_at_work(state, worker)?;
                close(state, worker);
                Some(())
            }
            Action::Cancel(worker) => {
                require(!self.has(Protection::CloseToHandOver))?;
                strike_at_work(state, worker)?;
                state.sessions[worker].as_mut()?.channel = Channel::Cancelled;
                Some(())
            }
            Action::End(worker) => {
                let session = state.sessions[worker].as_ref()?;
                // A session that found out that it has lost the lane ends by itself.
                if session.channel == Channel::Active && !session.is_fenced_off() {
                    strike_at_work(state, worker)?;
                }
                close(state, worker);
                state.sessions[worker] = None;
                Some(())
            }
        }
    }

    fn deliver(&self, state: &mut State, worker: usize) -> Option<()> {
        let session = state.sessions[worker].as_ref()?;
        require(session.channel == Channel::Active)?;
        let command = Commands::only(state.broker.ready.first()?);
        if session.fence == Fence::Untaken && self.has(Protection::FenceAtDelivery) {
            self.take_fence(state, worker)?;
        }
        state.broker.ready = state.broker.ready.minus(command);
        let session = state.sessions[worker].as_mut()?;
        session.unacked = session.unacked.plus(command);
        session.held = session.held.plus(command);
        Some(())
    }

    fn begin(&self, state: &mut State, worker: usize, size: u8) -> Option<()> {
        let session = state.sessions[worker].as_mut()?;
        require(session.window.is_none())?;
        let commands = session
            .held
            .iter()
            .take(usize::from(size))
            .map(Commands::only)
            .fold(Commands::NONE, Commands::plus);
        require(commands.len() == u32::from(size))?;
        let is_given_up = commands.meets(state.database.given_up);
        // One that used up its tries is a part of its own.
        require(size == 1 || !is_given_up)?;
        session.held = session.held.minus(commands);
        session.window = Some(Window { commands, step: Step::Gathered });
        if !self.has(Protection::AckAfterCommit) {
            ack(state, worker, commands);
        }
        if is_given_up {
            return self.settle(state, worker, Answer::DeadLetter);
        }
        Some(())
    }

    /// Waits for the lock that a commit in flight has on the lane.
    fn take_fence(&self, state: &mut State, worker: usize) -> Option<()> {
        require(!self.has(Protection::Fence) || state.database.in_flight.is_none())?;
        for session in state.sessions.iter_mut().flatten() {
            if session.fence == Fence::Held {
                session.fence = Fence::Lost;
            }
        }
        state.sessions[worker].as_mut()?.fence = Fence::Held;
        Some(())
    }

    fn load(&self, state: &mut State, worker: usize) -> Option<()> {
        let session = gathered(state, worker)?;
        require(session.fence != Fence::Untaken)?;
        let commands = session.window.as_ref()?.commands;
        let known = if self.has(Protection::Inbox) { state.database.inbox } else { Commands::NONE };
        let fresh = commands.minus(known);
        if fresh.is_empty() {
            return self.settle(state, worker, Answer::Result);
        }
        let loaded_after = u8::try_from(state.database.history.len()).ok()?;
        let session = state.sessions[worker].as_mut()?;
        session.window.as_mut()?.step = Step::Loaded(Transaction { fresh, loaded_after });
        Some(())
    }

    /// The word on the last try is the database's, so it comes after that on any earlier try: a
    /// command that panics never got as far as a commit.
    fn give_up(&self, state: &mut State, worker: usize) -> Option<()> {
        let commands = gathered(state, worker)?.window.as_ref()?.commands;
        require(commands.len() == 1)?;
        require(!self.waits_for_in_flight(state, commands))?;
        state.give_ups_left = state.give_ups_left.checked_sub(1)?;
        state.database.given_up = state.database.given_up.plus(commands);
        self.settle(state, worker, Answer::DeadLetter)
    }

    fn commit(&self, state: &mut State, worker: usize) -> Option<()> {
        let session = state.sessions[worker].as_mut()?;
        let window = session.window.as_mut()?;
        let Step::Loaded(transaction) = window.step else { return None };
        if self.has(Protection::Fence) && session.fence == Fence::Lost {
            window.step = Step::FencedOff;
            return Some(());
        }
        if self.has(Protection::Inbox) && state.database.inbox.meets(transaction.fresh) {
            // A conflict: the window is done again.
            window.step = Step::Gathered;
            return Some(());
        }
        require(!self.waits_for_in_flight(state, transaction.fresh))?;
        state.database.apply(transaction);
        self.settle(state, worker, Answer::Result)
    }

    /// As [`Self::commit`], up to the point where the server has only to decide.
    fn lose_commit(&self, state: &mut State, worker: usize) -> Option<()> {
        strike(state)?;
        require(state.database.in_flight.is_none())?;
        let session = state.sessions[worker].as_mut()?;
        let window = session.window.as_mut()?;
        let Step::Loaded(transaction) = window.step else { return None };
        require(!self.has(Protection::Fence) || session.fence == Fence::Held)?;
        require(!self.has(Protection::Inbox) || !state.database.inbox.meets(transaction.fresh))?;
        window.step = Step::Gathered;
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
        let Window { commands, .. } = session.window.take()?;
        session.announcing.push(Announcement { answer, commands, unconfirmed: commands });
        if !self.has(Protection::AckAfterConfirm) {
            ack(state, worker, commands);
        }
        Some(())
    }
}

fn subscribe(state: &mut State, worker: usize) -> Option<()> {
    require(state.sessions[worker].is_none() && !state.broker.ready.is_empty())?;
    let has_active =
        state.sessions.iter().flatten().any(|session| session.channel == Channel::Active);
    require(!has_active)?;
    state.sessions[worker] = Some(Session::new());
    Some(())
}

/// The session, if it has a window that is yet to be loaded.
fn gathered(state: &State, worker: usize) -> Option<&Session> {
    let session = state.sessions[worker].as_ref()?;
    require(session.window.as_ref()?.step == Step::Gathered)?;
    Some(session)
}

fn publish(state: &mut State, worker: usize) -> Option<()> {
    let announcement = state.sessions[worker].as_mut()?.announcing.first_mut()?;
    let command: Command = announcement.unconfirmed.first()?;
    let command = Commands::only(command);
    announcement.unconfirmed = announcement.unconfirmed.minus(command);
    let broker = &mut state.broker;
    match announcement.answer {
        Answer::Result => {
            broker.announced_again = broker.announced_again.plus(broker.announced.and(command));
            broker.announced = broker.announced.plus(command);
        }
        Answer::DeadLetter => broker.dead_letters = broker.dead_letters.plus(command),
    }
    Some(())
}

/// The broker ignores it if the channel is closed, for then it counts nothing as unacked.
fn ack(state: &mut State, worker: usize, commands: Commands) {
    let Some(session) = &mut state.sessions[worker] else { return };
    state.broker.acked = state.broker.acked.plus(session.unacked.and(commands));
    session.unacked = session.unacked.minus(commands);
}

/// What is unacked gets its old place in the queue back.
fn close(state: &mut State, worker: usize) {
    let Some(session) = &mut state.sessions[worker] else { return };
    session.channel = Channel::Closed;
    state.broker.ready = state.broker.ready.plus(session.unacked);
    session.unacked = Commands::NONE;
}

/// Uses up a fault.
fn strike(state: &mut State) -> Option<()> {
    state.faults_left = state.faults_left.checked_sub(1)?;
    Some(())
}

/// A fault of an idle worker changes nothing, and is spared.
fn strike_at_work(state: &mut State, worker: usize) -> Option<()> {
    let session = state.sessions[worker].as_ref()?;
    require(session.channel == Channel::Active && !session.is_idle())?;
    strike(state)
}

fn require(possible: bool) -> Option<()> {
    possible.then_some(())
}
