//! One lane with two executors: a batch is cut into parts that are free of each other, each is
//! committed by itself, and the batch is answered and acked when all are.
//!
//! One worker at a time, which may die at any moment; what a zombie does is the matter of the model
//! above. Answers may be refused: the broker takes what comes behind them first.

use std::collections::BTreeMap;

use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::protocol::state::{Command, Commands};

/// Whom each command is about, in the order of the queue.
const CUSTOMERS: [u8; 5] = [0, 1, 0, 1, 0];
const EXECUTORS: usize = 2;
/// The most commands in a batch.
const BATCH: usize = 3;

const ONCE: &str = "a command takes effect once";
const IN_ORDER: &str = "commands of a customer take effect in the order of the queue";
const FACTS: &str = "a command is decided on the effects of all before it of its customer";
const ACKED_DONE: &str = "an acked command is in the inbox";
const ACKED_ANSWERED: &str = "an acked command's answer was taken";
const DRAINED: &str = "where nothing more can happen, every command is done";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protection {
    /// Commands of one customer are in one part.
    PartsByCustomer,
    /// A batch is done when all of its parts are.
    AllParts,
    /// The next batch is loaded when the last is done.
    OneBatchAtATime,
    /// Commands are looked up before they are applied.
    Inbox,
    /// A refused answer is published again, and the ack waits.
    RefusedIsNotConfirmed,
}

#[derive(Clone, Copy, Debug)]
struct Lane {
    /// How often the worker may die.
    deaths: u8,
    /// How often an answer may be refused.
    refusals: u8,
    without: Option<Protection>,
    only: Option<&'static str>,
}

const BOUNDS: Lane = Lane { deaths: 2, refusals: 1, without: None, only: None };

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    /// Append-only, in the order of the commits.
    history: Vec<Effect>,
    inbox: Commands,
    answered: Commands,
    acked: Commands,
    /// Delivered to the worker that lives; all else of the queue is lost with it.
    held: Commands,
    executors: [Executor; EXECUTORS],
    /// Batches under way, the oldest first.
    batches: Vec<Batch>,
    deaths_left: u8,
    refusals_left: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Effect {
    command: Command,
    /// The effects that were known when it was decided.
    known: Vec<Command>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Executor {
    Idle,
    Given(Commands),
    /// What is new of its part, and the effects that it was decided on.
    Loaded(Commands, Vec<Command>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Batch {
    commands: Commands,
    /// Parts that are not committed yet.
    parts: u8,
    unanswered: Commands,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Subscribe,
    /// Gathers a batch of so many, and cuts it.
    Begin(usize),
    Load(usize),
    Commit(usize),
    /// The broker takes the first answer of the oldest batch that is done …
    Publish,
    /// … or refuses it and takes what is behind it.
    Refuse,
    Ack,
    /// The worker dies, and another comes.
    Die,
}

#[test]
fn two_executors_keep_what_one_keeps() {
    let stop = HasDiscoveries::AnyFailures;
    let checker = BOUNDS.checker().threads(2).finish_when(stop).spawn_bfs().join();
    checker.assert_properties();
    let states = checker.unique_state_count();
    eprintln!("{states} states, and nothing wrong in any: {BOUNDS:?}");
    assert!(states > 20_000, "{states} states are too few to mean anything");
}

#[test]
fn parts_that_share_a_customer_break_his_order() {
    counterexample(Protection::PartsByCustomer, IN_ORDER);
    counterexample(Protection::PartsByCustomer, FACTS);
}

#[test]
fn acked_after_its_first_part_a_batch_loses_the_others() {
    counterexample(Protection::AllParts, ACKED_DONE);
}

#[test]
fn an_executor_that_runs_ahead_to_the_next_batch_breaks_the_order() {
    counterexample(Protection::OneBatchAtATime, IN_ORDER);
}

#[test]
fn without_the_inbox_the_part_that_was_committed_counts_twice() {
    counterexample(Protection::Inbox, ONCE);
}

#[test]
fn a_refused_answer_that_passes_for_a_confirmed_one_is_lost() {
    counterexample(Protection::RefusedIsNotConfirmed, ACKED_ANSWERED);
}

fn counterexample(without: Protection, property: &'static str) {
    let lane = Lane { without: Some(without), only: Some(property), ..BOUNDS };
    let path = lane.checker().spawn_bfs().join().assert_any_discovery(property);
    let actions = path.into_actions();
    let steps = actions.len();
    eprintln!("without {without:?}, this breaks after {steps} steps: {property}: {actions:?}");
}

impl Model for Lane {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            history: Vec::new(),
            inbox: Commands::NONE,
            answered: Commands::NONE,
            acked: Commands::NONE,
            held: Commands::NONE,
            executors: [Executor::Idle, Executor::Idle],
            batches: Vec::new(),
            deaths_left: self.deaths,
            refusals_left: self.refusals,
        }]
    }

    fn actions(&self, _: &State, actions: &mut Vec<Action>) {
        actions.extend([Action::Subscribe, Action::Publish, Action::Refuse]);
        actions.extend([Action::Ack, Action::Die]);
        actions.extend((1..=BATCH).map(Action::Begin));
        actions.extend((0..EXECUTORS).flat_map(|n| [Action::Load(n), Action::Commit(n)]));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        self.step(&mut state, action)?;
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        type Of = Property<Lane>;
        let mut properties = vec![
            Of::always(ONCE, |_, state| {
                let mut seen = Commands::NONE;
                state.history.iter().all(|effect| {
                    let is_new = !seen.contains(effect.command);
                    seen = seen.plus(Commands::only(effect.command));
                    is_new
                })
            }),
            Of::always(IN_ORDER, |_, state| {
                let mut last: BTreeMap<u8, Command> = BTreeMap::new();
                state.history.iter().all(|effect| {
                    let before = last.insert(customer(effect.command), effect.command);
                    before.is_none_or(|before| before <= effect.command)
                })
            }),
            Of::always(FACTS, |_, state| {
                state.history.iter().enumerate().all(|(place, effect)| {
                    let own = |command: &Command| customer(*command) == customer(effect.command);
                    let before = state.history[..place].iter().map(|effect| effect.command);
                    before.filter(own).eq(effect.known.iter().copied().filter(own))
                })
            }),
            Of::always(ACKED_DONE, |_, state| state.inbox.holds(state.acked)),
            Of::always(ACKED_ANSWERED, |_, state| state.answered.holds(state.acked)),
            Of::always(DRAINED, |lane, state| {
                let all = Commands::first_of_queue(count());
                (state.acked == all && state.answered == all && state.inbox == all)
                    || !lane.is_terminal(state)
            }),
            Of::sometimes("a part is committed while the other is not", |_, state| {
                let one = |batch: &Batch| batch.parts == 1 && state.inbox.meets(batch.commands);
                state.batches.iter().any(one)
            }),
            Of::sometimes("a batch is loaded while the last is answered", |_, state| {
                state.batches.len() > 1
            }),
        ];
        properties.retain(|property| self.only.is_none_or(|only| property.name == only));
        properties
    }
}

/// Each of these is `None` where the step is not possible.
impl Lane {
    fn has(&self, protection: Protection) -> bool {
        self.without != Some(protection)
    }

    fn is_terminal(&self, state: &State) -> bool {
        let mut actions = Vec::new();
        self.actions(state, &mut actions);
        actions.into_iter().all(|action| self.next_state(state, action).is_none())
    }

    fn step(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Subscribe => {
                let under_way = state.batches.iter().map(|batch| batch.commands);
                let taken = under_way.fold(state.held.plus(state.acked), Commands::plus);
                let rest = Commands::first_of_queue(count()).minus(taken);
                require(taken == state.acked && !rest.is_empty())?;
                state.held = rest;
                Some(())
            }
            Action::Begin(size) => self.begin(state, size),
            Action::Load(executor) => {
                let Executor::Given(part) = state.executors[executor] else { return None };
                let known = if self.has(Protection::Inbox) { state.inbox } else { Commands::NONE };
                let facts = state.history.iter().map(|effect| effect.command).collect();
                state.executors[executor] = Executor::Loaded(part.minus(known), facts);
                Some(())
            }
            Action::Commit(executor) => commit(state, executor),
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
    fn begin(&self, state: &mut State, size: usize) -> Option<()> {
        require(state.batches.len() < 2)?;
        if self.has(Protection::OneBatchAtATime) {
            require(state.batches.iter().all(|batch| batch.parts == 0))?;
        }
        let commands: Vec<Command> = state.held.iter().take(size).collect();
        require(commands.len() == size)?;
        let is_own = |command: &&Command| {
            if self.has(Protection::PartsByCustomer) {
                customer(**command) == 0
            } else {
                usize::from(**command - commands[0]) < size / 2
            }
        };
        let (first, second): (Vec<&Command>, Vec<&Command>) = commands.iter().partition(is_own);
        let parts = [set(&first), set(&second)].into_iter().filter(|part| !part.is_empty());
        let mut count = 0;
        for part in parts {
            let free = state.executors.iter().position(|one| *one == Executor::Idle)?;
            state.executors[free] = Executor::Given(part);
            count += 1;
        }
        let all = set(&commands.iter().collect::<Vec<_>>());
        state.held = state.held.minus(all);
        state.batches.push(Batch { commands: all, parts: count, unanswered: all });
        Some(())
    }

    /// The oldest batch, if it may be answered.
    fn answering<'a>(&self, state: &'a mut State) -> Option<&'a mut Batch> {
        let committed = state.inbox;
        let batch = state.batches.first_mut()?;
        let is_done = batch.parts == 0;
        let is_begun = batch.commands.meets(committed);
        require(is_done || (!self.has(Protection::AllParts) && is_begun))?;
        Some(batch)
    }
}

fn commit(state: &mut State, executor: usize) -> Option<()> {
    let Executor::Loaded(fresh, facts) = &state.executors[executor] else { return None };
    let (fresh, mut known) = (*fresh, facts.clone());
    for command in fresh.iter() {
        state.history.push(Effect { command, known: known.clone() });
        known.push(command);
    }
    state.inbox = state.inbox.plus(fresh);
    state.executors[executor] = Executor::Idle;
    let batch = state.batches.iter_mut().find(|batch| batch.parts > 0)?;
    batch.parts -= 1;
    Some(())
}

fn customer(command: Command) -> u8 {
    CUSTOMERS[usize::from(command)]
}

fn count() -> u8 {
    u8::try_from(CUSTOMERS.len()).unwrap()
}

fn set(commands: &[&Command]) -> Commands {
    commands.iter().fold(Commands::NONE, |set, command| set.plus(Commands::only(**command)))
}

fn require(possible: bool) -> Option<()> {
    possible.then_some(())
}
