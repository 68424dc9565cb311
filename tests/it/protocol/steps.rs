//! What can happen next: each step is atomic, and any may come between any two others.

use stateright::{Model, Property};

use crate::protocol::properties;
use crate::protocol::state::{Answer, Broker, Channel, Commands, Database, Session, State};

/// The protocol within bounds, whole or with one protection taken out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Protocol {
    pub(super) commands: u8,
    /// The most commands in a batch.
    pub(super) batch: u8,
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
    /// Whoever has taken the lane asks the broker whether he is still its consumer.
    ChannelCheck,
    /// Only the lane's holder gives a command up.
    FencedGiveUps,
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
    /// Gathers a batch of this many commands.
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
                delivered: Commands::NONE,
                acked: Commands::NONE,
                published: Commands::NONE,
                published_again: Commands::NONE,
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
            actions.extend((1..=self.batch).map(|size| Action::Begin(worker, size)));
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
            Action::Deliver(worker) => deliver(state, worker),
            Action::Begin(worker, size) => self.begin(state, worker, size),
            Action::TakeFence(worker) => self.take_fence(state, worker),
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
                require(session.publishing.first()?.unconfirmed.is_empty())?;
                let published = session.publishing.remove(0);
                ack(state, worker, published.commands);
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
}

fn deliver(state: &mut State, worker: usize) -> Option<()> {
    let session = state.sessions[worker].as_ref()?;
    require(session.channel == Channel::Active)?;
    let command = Commands::only(state.broker.ready.first()?);
    let broker = &mut state.broker;
    broker.ready = broker.ready.minus(command);
    let redelivered = command.and(broker.delivered);
    broker.delivered = broker.delivered.plus(command);
    let session = state.sessions[worker].as_mut()?;
    session.unacked = session.unacked.plus(command);
    session.held = session.held.plus(command);
    session.redelivered = session.redelivered.plus(redelivered);
    Some(())
}

fn subscribe(state: &mut State, worker: usize) -> Option<()> {
    require(state.sessions[worker].is_none() && !state.broker.ready.is_empty())?;
    let has_active =
        state.sessions.iter().flatten().any(|session| session.channel == Channel::Active);
    require(!has_active)?;
    state.sessions[worker] = Some(Session::new());
    Some(())
}

fn publish(state: &mut State, worker: usize) -> Option<()> {
    let rejection_event = state.sessions[worker].as_mut()?.publishing.first_mut()?;
    let command = Commands::only(rejection_event.unconfirmed.first()?);
    rejection_event.unconfirmed = rejection_event.unconfirmed.minus(command);
    let broker = &mut state.broker;
    match rejection_event.answer {
        Answer::Result => {
            broker.published_again = broker.published_again.plus(broker.published.and(command));
            broker.published = broker.published.plus(command);
        }
        Answer::DeadLetter => broker.dead_letters = broker.dead_letters.plus(command),
    }
    Some(())
}

/// The broker ignores it if the channel is closed, for then it counts nothing as unacked.
pub(super) fn ack(state: &mut State, worker: usize, commands: Commands) {
    let Some(session) = &mut state.sessions[worker] else { return };
    state.broker.acked = state.broker.acked.plus(session.unacked.and(commands));
    session.unacked = session.unacked.minus(commands);
}

/// What is unacked gets its old place in the queue back.
pub(super) fn close(state: &mut State, worker: usize) {
    let Some(session) = &mut state.sessions[worker] else { return };
    session.channel = Channel::Closed;
    state.broker.ready = state.broker.ready.plus(session.unacked);
    session.unacked = Commands::NONE;
}

/// Uses up a fault.
pub(super) fn strike(state: &mut State) -> Option<()> {
    state.faults_left = state.faults_left.checked_sub(1)?;
    Some(())
}

/// A fault of an idle worker changes nothing, and is spared.
fn strike_at_work(state: &mut State, worker: usize) -> Option<()> {
    let session = state.sessions[worker].as_ref()?;
    require(session.channel == Channel::Active && !session.is_idle())?;
    strike(state)
}

pub(super) fn require(possible: bool) -> Option<()> {
    possible.then_some(())
}
