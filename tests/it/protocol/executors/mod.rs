//! One lane with two executors: a batch is cut into parts that are free of each other, each is
//! committed by itself, and the batch is answered and acked when all are.
//!
//! One worker at a time, which may die at any moment; what a zombie does is the matter of the model
//! above. Answers may be refused: the broker takes what comes behind them first.
//!
//! An import may give an identifier to another customer at any moment, and a part may meet a conflict.
//! A part goes by the customers that its batch was cut by; what is left after a conflict is processed
//! as one when the other parts are done, by the same customers once anything of the batch is committed.

mod steps;

use std::collections::BTreeMap;

use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::protocol::state::{Command, Commands};

/// Whom each command is about, in the order of the queue, before an import and after it.
const CUSTOMERS: [[u8; 5]; 2] = [[0, 1, 0, 1, 0], [0, 1, 1, 1, 0]];
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
    /// A part goes by the customers that its batch was cut by, not by those that are stored when it is
    /// loaded.
    CustomersOfTheCut,
    /// After a conflict a part waits for the others.
    RestAfterTheOthers,
    /// The rest goes by the customers of the cut once anything of the batch is committed.
    PinnedRest,
}

#[derive(Clone, Copy, Debug)]
struct Lane {
    /// How often the worker may die.
    deaths: u8,
    /// How often an answer may be refused.
    refusals: u8,
    /// How often a part may meet a conflict.
    conflicts: u8,
    /// Whether an import may come.
    imports: bool,
    without: Option<Protection>,
    only: Option<&'static str>,
}

const BOUNDS: Lane =
    Lane { deaths: 2, refusals: 1, conflicts: 0, imports: false, without: None, only: None };
const IMPORTS: Lane = Lane { deaths: 0, refusals: 0, conflicts: 2, imports: true, ..BOUNDS };

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
    conflicts_left: u8,
    imported: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Effect {
    command: Command,
    customer: u8,
    /// The effects that were known when it was decided.
    known: Vec<Command>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Executor {
    Idle,
    /// Its part, and the customers to go by; nothing: those that are stored when it is loaded.
    Given(Commands, Option<Customers>),
    /// Its part, what is new of it, the effects that it was decided on, and by which customers.
    Loaded(Commands, Commands, Vec<Command>, Customers),
}

/// Whether by the customers after the import.
type Customers = bool;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Batch {
    commands: Commands,
    /// Parts that are not committed yet, nor wait for the others.
    parts: u8,
    /// What waits for the other parts.
    rest: Commands,
    cut_by: Customers,
    unanswered: Commands,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Subscribe,
    /// Gathers a batch of so many, and cuts it by what a look-ahead has found, now or before the import.
    Begin(usize, Customers),
    Load(usize),
    Commit(usize),
    /// What was loaded has changed, and nothing of it is committed.
    Conflict(usize),
    /// What waits for the other parts of the oldest batch under way is given to an executor.
    Rest,
    /// Gives an identifier to another customer.
    Import,
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
fn imports_and_conflicts_put_nobody_s_commands_out_of_order() {
    let stop = HasDiscoveries::AnyFailures;
    let checker = IMPORTS.checker().threads(2).finish_when(stop).spawn_bfs().join();
    checker.assert_properties();
    let states = checker.unique_state_count();
    eprintln!("{states} states, and nothing wrong in any: {IMPORTS:?}");
    assert!(states > 5_000, "{states} states are too few to mean anything");
}

#[test]
fn a_part_that_goes_by_newer_customers_than_its_cut_breaks_their_order() {
    counterexample(IMPORTS, Protection::CustomersOfTheCut, IN_ORDER);
}

#[test]
fn a_part_that_is_tried_again_beside_the_others_by_newer_customers_breaks_their_order() {
    counterexample(IMPORTS, Protection::RestAfterTheOthers, IN_ORDER);
}

#[test]
fn a_rest_that_goes_by_newer_customers_than_what_is_committed_breaks_their_order() {
    counterexample(IMPORTS, Protection::PinnedRest, IN_ORDER);
}

/// What `docs/operations.md` says of imports: nothing remembers the customers of a cut that its process
/// has not survived.
#[test]
fn a_death_between_two_parts_and_an_import_are_a_known_limit() {
    let lane = Lane { deaths: 1, conflicts: 0, only: Some(IN_ORDER), ..IMPORTS };
    lane.checker().spawn_bfs().join().assert_any_discovery(IN_ORDER);
}

#[test]
fn parts_that_share_a_customer_break_his_order() {
    counterexample(BOUNDS, Protection::PartsByCustomer, IN_ORDER);
    counterexample(BOUNDS, Protection::PartsByCustomer, FACTS);
}

#[test]
fn acked_after_its_first_part_a_batch_loses_the_others() {
    counterexample(BOUNDS, Protection::AllParts, ACKED_DONE);
}

#[test]
fn an_executor_that_runs_ahead_to_the_next_batch_breaks_the_order() {
    counterexample(BOUNDS, Protection::OneBatchAtATime, IN_ORDER);
}

#[test]
fn without_the_inbox_the_part_that_was_committed_counts_twice() {
    counterexample(BOUNDS, Protection::Inbox, ONCE);
}

#[test]
fn a_refused_answer_that_passes_for_a_confirmed_one_is_lost() {
    counterexample(BOUNDS, Protection::RefusedIsNotConfirmed, ACKED_ANSWERED);
}

fn counterexample(bounds: Lane, without: Protection, property: &'static str) {
    let lane = Lane { without: Some(without), only: Some(property), ..bounds };
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
            conflicts_left: self.conflicts,
            imported: false,
        }]
    }

    fn actions(&self, _: &State, actions: &mut Vec<Action>) {
        actions.extend([Action::Subscribe, Action::Publish, Action::Refuse]);
        actions.extend([Action::Ack, Action::Die, Action::Import, Action::Rest]);
        actions.extend((1..=BATCH).flat_map(|n| [false, true].map(|by| Action::Begin(n, by))));
        let of = |n| [Action::Load(n), Action::Commit(n), Action::Conflict(n)];
        actions.extend((0..EXECUTORS).flat_map(of));
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
                    let before = last.insert(effect.customer, effect.command);
                    before.is_none_or(|before| before <= effect.command)
                })
            }),
            Of::always(FACTS, |_, state| {
                state.history.iter().enumerate().all(|(place, effect)| {
                    let own = state.history.iter().filter(|it| it.customer == effect.customer);
                    let own: Vec<Command> = own.map(|effect| effect.command).collect();
                    let before = state.history[..place].iter().map(|effect| effect.command);
                    let known = effect.known.iter().copied();
                    let is_own = |command: &Command| own.contains(command);
                    before.filter(is_own).eq(known.filter(is_own))
                })
            }),
            Of::always(ACKED_DONE, |_, state| state.inbox.holds(state.acked)),
            Of::always(ACKED_ANSWERED, |_, state| state.answered.holds(state.acked)),
            Of::always(DRAINED, |lane, state| {
                let all = Commands::first_of_queue(steps::count());
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
        if self.conflicts > 0 {
            properties.push(Of::sometimes(
                "a rest waits, and the customers have changed",
                |_, state| {
                    let waits = |batch: &Batch| !batch.rest.is_empty() && !batch.cut_by;
                    state.imported && state.batches.iter().any(waits)
                },
            ));
        }
        properties.retain(|property| self.only.is_none_or(|only| property.name == only));
        properties
    }
}
