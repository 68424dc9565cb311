//! A lane that holds the customers of its dead letters: one poisonous command, its followers, an
//! operator who discards or replays the letter at any moment, and a worker that may die at any.
//!
//! Letters and parked commands wait in one queue in the database, by their places in the lane. A replay
//! may come through another lane, which holds nobody. One worker at a time, one command at a time: what a zombie does, and what two executors do, is the
//! matter of the other models.

mod steps;

use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::protocol::state::{Command, Commands};

/// Whom each command means, as bits, in the order of the queue. The second one ties the others
/// together: whoever shares a command with a held customer waits behind it.
const CUSTOMERS: [u8; 4] = [0b01, 0b11, 0b10, 0b01];
/// Panics until the worker is mended.
const POISON: Command = 0;

const ONCE: &str = "a command takes effect once";
const IN_ORDER: &str = "commands of a customer take effect in the order of the queue";
const ACKED_KEPT: &str = "an acked command is applied, parked or a dead letter";
const DRAINED: &str = "where nothing more can happen, every command is answered or discarded";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protection {
    /// The hold commits before the letter is published.
    HoldBeforeLetter,
    /// A follower is parked before it is acked.
    ParkBeforeAck,
    /// A parked row goes when the answer was confirmed, not with the effects.
    RowUntilConfirmed,
    /// A replay has its letter's place.
    ReplayKeepsPlace,
    /// What is parked makes others wait, as letters do.
    ParkedHold,
    /// Commands are looked up before they are applied.
    Inbox,
    /// A replay releases its letter in whatever lane it is applied.
    ReleaseFromAnywhere,
}

#[derive(Clone, Copy, Debug)]
struct Lane {
    deaths: u8,
    replays: u8,
    without: Option<Protection>,
    only: Option<&'static str>,
}

const BOUNDS: Lane = Lane { deaths: 2, replays: 2, without: None, only: None };

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    /// Append-only, in the order of the commits.
    history: Vec<Command>,
    inbox: Commands,
    /// Letters that hold their customers, and commands that wait for them.
    holding: Commands,
    parked: Commands,
    /// Letters that an operator may act upon.
    open: Commands,
    /// Whoever discards a letter lets its followers go, even if it dies and opens again.
    discarded: Commands,
    answered: Commands,
    acked: Commands,
    /// How many replays of the letter are in the lane's queue, behind all else.
    replays: u8,
    /// How many are in the other lane's queue.
    replays_elsewhere: u8,
    is_mended: bool,
    current: Option<Work>,
    deaths_left: u8,
    replays_left: u8,
}

/// What the worker is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Work {
    command: Command,
    from: Source,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    Queue,
    Replay,
    /// A replay that came through the other lane.
    Elsewhere,
    /// It was parked, and nothing holds it any longer.
    Parked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Taken,
    Decided(Verdict),
    Committed(Verdict),
    Published(Verdict),
    /// Acked, and yet to hold: only without [`Protection::HoldBeforeLetter`].
    HoldsLate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Verdict {
    Apply,
    /// It is in the inbox.
    AnswerAgain,
    Park,
    GiveUp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Take,
    TakeReplay,
    TakeElsewhere,
    TakeParked,
    Decide,
    Commit,
    Publish,
    /// Acks a delivery; lets a parked row go.
    Finish,
    Die,
    Discard,
    Replay,
    /// Its routing key is bound to the other lane.
    ReplayElsewhere,
    /// From now on the poison succeeds.
    Mend,
}

#[test]
fn whatever_an_operator_does_and_whenever_a_worker_dies_followers_keep_their_order() {
    let stop = HasDiscoveries::AnyFailures;
    let checker = BOUNDS.checker().threads(2).finish_when(stop).spawn_bfs().join();
    checker.assert_properties();
    let states = checker.unique_state_count();
    eprintln!("{states} states, and nothing wrong in any: {BOUNDS:?}");
    assert!(states > 2_000, "{states} states are too few to mean anything");
}

#[test]
fn a_letter_that_is_published_before_it_holds_is_overtaken() {
    counterexample(Protection::HoldBeforeLetter, IN_ORDER);
}

#[test]
fn a_follower_that_is_acked_before_it_is_parked_is_lost() {
    counterexample(Protection::ParkBeforeAck, ACKED_KEPT);
}

#[test]
fn a_parked_row_that_goes_with_the_commit_takes_the_answer_with_it() {
    counterexample(Protection::RowUntilConfirmed, DRAINED);
}

#[test]
fn a_replay_that_stands_behind_its_followers_waits_for_ever() {
    counterexample(Protection::ReplayKeepsPlace, DRAINED);
}

#[test]
fn whoever_shares_a_command_with_a_held_customer_would_overtake_it() {
    counterexample(Protection::ParkedHold, IN_ORDER);
}

#[test]
fn a_replay_through_another_lane_that_releases_nothing_leaves_followers_behind() {
    counterexample(Protection::ReleaseFromAnywhere, DRAINED);
}

#[test]
fn without_the_inbox_a_parked_command_counts_twice() {
    counterexample(Protection::Inbox, ONCE);
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
            holding: Commands::NONE,
            parked: Commands::NONE,
            open: Commands::NONE,
            discarded: Commands::NONE,
            answered: Commands::NONE,
            acked: Commands::NONE,
            replays: 0,
            replays_elsewhere: 0,
            is_mended: false,
            current: None,
            deaths_left: self.deaths,
            replays_left: self.replays,
        }]
    }

    fn actions(&self, _: &State, actions: &mut Vec<Action>) {
        actions.extend([Action::Take, Action::TakeReplay, Action::TakeParked, Action::Decide]);
        actions.extend([Action::Commit, Action::Publish, Action::Finish, Action::Die]);
        actions.extend([Action::Discard, Action::Replay, Action::Mend]);
        actions.extend([Action::ReplayElsewhere, Action::TakeElsewhere]);
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
                state.history.iter().all(|command| {
                    let is_new = !seen.contains(*command);
                    seen = seen.plus(Commands::only(*command));
                    is_new
                })
            }),
            Of::always(IN_ORDER, |_, state| {
                let is_ordered = |one: Command, later: Command| {
                    one < later || !share(one, later) || state.discarded.contains(later)
                };
                state.history.iter().enumerate().all(|(place, one)| {
                    state.history[place + 1..].iter().all(|later| is_ordered(*one, *later))
                })
            }),
            Of::always(ACKED_KEPT, |_, state| {
                let again = if state.replays + state.replays_elsewhere > 0 {
                    Commands::only(POISON)
                } else {
                    Commands::NONE
                };
                let letters = state.open.plus(state.discarded).plus(again);
                state.inbox.plus(state.parked).plus(letters).holds(state.acked)
            }),
            Of::always(DRAINED, |lane, state| {
                let all = Commands::first_of_queue(count());
                let is_done = state.acked == all
                    && state.answered.plus(state.discarded) == all
                    && state.parked.plus(state.holding).is_empty();
                is_done || !lane.is_terminal(state)
            }),
            Of::sometimes("followers are parked", |_, state| state.parked.len() == count_parked()),
            Of::sometimes("a replay that fails holds again", |lane, state| {
                state.replays_left < lane.replays && state.holding.meets(state.open)
            }),
            Of::sometimes("a parked command is applied, and its row is there", |_, state| {
                state.parked.meets(state.inbox)
            }),
        ];
        properties.retain(|property| self.only.is_none_or(|only| property.name == only));
        properties
    }
}

fn share(one: Command, other: Command) -> bool {
    CUSTOMERS[usize::from(one)] & CUSTOMERS[usize::from(other)] != 0
}

fn count() -> u8 {
    u8::try_from(CUSTOMERS.len()).unwrap()
}

/// All but the poison.
fn count_parked() -> u32 {
    u32::from(count()) - 1
}
