//! Who is given up: one process, two lanes, culprits of each kind, partial outages and deaths.
//!
//! The steps are those of the rule table (`src/ARCHITECTURE.md#attempts`): a try is noted before it is
//! made, in the database, and the note is taken back when the try ends otherwise than by the death
//! of the process. A death shrinks what was tried together and counts only against a command that
//! was alone in the process. A refusal counts only if the canary passes right after it.
//!
//! What the rule can't tell apart is bounded here as it must be in the world: deaths from outside
//! and outages that end between a try and its canary are fewer than the tries of a command.

mod properties;
mod steps;

use std::fmt;

use stateright::{Checker, HasDiscoveries, Model};

/// Few enough for all states to be walked.
const BOUNDS: Attempts = Attempts {
    lanes: [&[Kind::Good, Kind::Kills], &[Kind::Good, Kind::Good]],
    limit: 3,
    deliveries_max: 18,
    outages: 1,
    kills: 1,
    without: None,
    only: None,
};

/// What becomes of a command that is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Good,
    /// The database refuses it; or it panics.
    Refused,
    /// It fails as by an outage (SQLSTATE 42) although there is none.
    Blocks,
    /// The process dies.
    Kills,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protection {
    /// A suspect runs while no other lane of the process tries anything.
    AloneInTheProcess,
    /// A refusal counts only if the canary passes right after it.
    Canary,
    /// A death counts only against a command that was alone.
    SharedDeathsDontCount,
    /// A try that ended in an outage is not counted.
    OutagesDontCount,
    /// A command that alone fails for long while the canary passes is counted.
    BlockersCount,
    /// A lane that closed its channel in an outage subscribes once the canary passes.
    CanaryBeforeSubscribing,
    /// What a counted try failed by is stored with the count.
    ErrorsAreStored,
}

/// The model within bounds, whole or with one protection taken out.
#[derive(Clone, Copy)]
struct Attempts {
    /// The commands of each lane.
    lanes: [&'static [Kind]; 2],
    /// Tries of a command, at most.
    limit: u8,
    /// The broker's delivery limit. Each death of the process counts for all that is delivered, so
    /// it has to be above the deaths by every culprit in the prefetch together.
    deliveries_max: u8,
    outages: u8,
    /// How often the process is killed from outside.
    kills: u8,
    without: Option<Protection>,
    /// The one property that is asked; else all are.
    only: Option<&'static str>,
}

impl fmt::Debug for Attempts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lanes, limit, outages, kills, without, .. } = self;
        let tail = format!("{limit} tries, {outages} outages, {kills} kills, without {without:?}");
        write!(formatter, "{lanes:?}, {tail}")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    is_up: bool,
    outage: Option<Outage>,
    outages_left: u8,
    kills_left: u8,
    lanes: [Lane; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Outage {
    /// It shows as one.
    Plain,
    /// Everything is refused, as by a broken trigger.
    Refusing,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Lane {
    is_subscribed: bool,
    step: Step,
    /// A try of several failed: from now on one at a time, and the next as a suspect.
    is_split: bool,
    commands: Vec<Command>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Idle,
    Trying {
        size: usize,
        alone: bool,
    },
    /// A suspect failed alone: the canary is next.
    Refused,
    /// Waits for the outage to end.
    Waits,
    /// Tries the same again for ever.
    Stuck,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Command {
    kind: Kind,
    deliveries: u8,
    /// The note of the try that is under way, in the database.
    note: Option<Note>,
    /// It was under way, among others, when the process died.
    is_suspect: bool,
    tries: u8,
    /// What the latest counted try ended by, and what of it is stored.
    latest: Option<Cause>,
    stored: Option<Cause>,
    end: Option<End>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Note {
    Shared,
    Alone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum End {
    Applied,
    /// Given up; its letter names this.
    GivenUp(Cause),
    /// Dead-lettered by the broker's delivery limit.
    Dropped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Cause {
    Refused,
    /// The process died.
    Died,
}

#[test]
fn only_culprits_are_given_up_whatever_they_do_and_whatever_happens_beside_them() {
    for kind in [Kind::Refused, Kind::Blocks, Kind::Kills] {
        explore(Attempts { lanes: [&[Kind::Good, Kind::Good, Kind::Good], of(kind)], ..BOUNDS });
    }
    // Suspects of two lanes at once.
    for (one, other) in
        [(Kind::Kills, Kind::Refused), (Kind::Kills, Kind::Kills), (Kind::Blocks, Kind::Kills)]
    {
        explore(Attempts { lanes: [of(one), of(other)], ..BOUNDS });
    }
}

/// A culprit in the middle.
fn of(kind: Kind) -> &'static [Kind] {
    match kind {
        Kind::Good => &[Kind::Good, Kind::Good, Kind::Good],
        Kind::Refused => &[Kind::Good, Kind::Refused, Kind::Good],
        Kind::Blocks => &[Kind::Good, Kind::Blocks, Kind::Good],
        Kind::Kills => &[Kind::Good, Kind::Kills, Kind::Good],
    }
}

#[test]
fn beside_others_a_suspect_takes_the_head_of_another_lane_with_it() {
    let lanes = [of(Kind::Kills), of(Kind::Kills)];
    let quiet = Attempts { lanes, kills: 0, outages: 0, ..BOUNDS };
    counterexample(quiet, Protection::AloneInTheProcess, properties::ONLY_CULPRITS);
}

#[test]
fn without_the_canary_a_broken_trigger_makes_innocents_dead_letters() {
    counterexample(BOUNDS, Protection::Canary, properties::ONLY_CULPRITS);
}

#[test]
fn if_shared_deaths_counted_neighbours_would_be_given_up_untried() {
    let quick = Attempts { limit: 1, kills: 0, outages: 0, ..BOUNDS };
    counterexample(quick, Protection::SharedDeathsDontCount, properties::ONLY_CULPRITS);
}

#[test]
fn if_outages_counted_innocents_would_be_given_up() {
    counterexample(BOUNDS, Protection::OutagesDontCount, properties::ONLY_CULPRITS);
}

#[test]
fn if_blockers_did_not_count_one_would_block_its_lane_for_good() {
    let lanes = [of(Kind::Blocks), of(Kind::Good)];
    counterexample(Attempts { lanes, ..BOUNDS }, Protection::BlockersCount, properties::DRAINED);
}

#[test]
fn a_lane_that_bounces_its_channel_in_an_outage_reaches_the_brokers_limit() {
    counterexample(BOUNDS, Protection::CanaryBeforeSubscribing, properties::NOT_DROPPED);
}

#[test]
fn an_error_that_is_not_stored_is_lost_by_a_death() {
    let lanes = [of(Kind::Refused), of(Kind::Good)];
    counterexample(Attempts { lanes, ..BOUNDS }, Protection::ErrorsAreStored, properties::SAYS_WHY);
}

/// Walks all states: nothing may be wrong in any, and what is interesting must be in some.
fn explore(model: Attempts) {
    let stop = HasDiscoveries::AnyFailures;
    let checker = model.checker().threads(2).finish_when(stop).spawn_bfs().join();
    checker.assert_properties();
    let states = checker.unique_state_count();
    eprintln!("{states} states, and nothing wrong in any: {model:?}");
    assert!(states > 5_000, "{states} states are too few to mean anything");
}

/// Takes a protection out and expects `property` to break.
fn counterexample(model: Attempts, without: Protection, property: &'static str) {
    let model = Attempts { without: Some(without), only: Some(property), ..model };
    let path = model.checker().spawn_bfs().join().assert_any_discovery(property);
    let actions = path.into_actions();
    let steps = actions.len();
    eprintln!("without {without:?}, this breaks after {steps} steps: {property}: {actions:?}");
}
