//! The worker's protocol over all interleavings, as a model: no server, and no luck.
//!
//! One lane, two workers, a few commands and faults. Between any two steps of a worker anything
//! else may happen: the broker gives up a worker that goes on with what it holds, a generation
//! ends, a commit's connection breaks and the server decides later, a confirm is lost. The steps
//! are those of `worker/lane.rs`, `worker/isolate.rs` and `store/commit.rs`; a change of their
//! order belongs here, too. `state` says what there is, `steps` and `batch_size` what can happen,
//! `properties` what must hold.
//!
//! **Nothing is lost** is checked without fairness: each fault is used up, so every path ends
//! (a test of its own walks the states for cycles), and where one ends every command must be
//! applied, answered and acked. The checker's own `eventually` is of no use for this: it can
//! miss a path that joins one already walked.
//!
//! **What the fence is for.** As long as each command leaves its row in the inbox, order and
//! count hold without a fence, because ids are unique at the commit: whatever made a zombie's
//! batch stale has a command in common with it. So the fence is needed for commands that leave
//! no row, which are those that were rejected. The model has the ones that were given up: without
//! the fence, a zombie applies one after its successors.
//!
//! **Why the broker is asked after the lane was taken.** A worker may stand still between its first
//! delivery and the taking, while another one gives the command up and goes on. It would take the
//! lane back and apply the command after its successors.
//!
//! **Smaller models beside it**, for one product of all would have no end: `attempts` has two lanes
//! of one process and says who is given up; `executors` has the parts of a batch and refused
//! answers; `holds` has dead letters that hold their customers.
//!
//! Taken for granted: a returned command gets its old place in the queue back. A quorum queue
//! holds to that while no consumer's prefetch is smaller than what the one before it held. An id
//! is unique in the whole inbox; over midnight, when the key alone doesn't say so, the versions
//! of enrolments do for whatever has an effect. Left out: commands without an id, which the inbox can't recognise.

mod attempts;
mod batch;
mod executors;
mod holds;
mod properties;
mod state;
mod steps;

use std::collections::HashMap;

use stateright::{Checker, HasDiscoveries, Model};

use crate::protocol::steps::{Protection, Protocol};

/// Few enough for all states to be walked, many enough for batches to overlap.
const BOUNDS: Protocol =
    Protocol { commands: 3, batch: 2, faults: 2, give_ups: 0, without: None, only: None };

#[test]
fn whatever_comes_between_each_command_counts_once_in_order_and_is_answered() {
    explore(Protocol { faults: 3, ..BOUNDS });
    explore(Protocol { give_ups: 1, ..BOUNDS });
}

#[test]
fn where_each_command_leaves_an_inbox_row_order_does_not_hang_on_the_fence() {
    explore(Protocol { without: Some(Protection::Fence), ..BOUNDS });
}

#[test]
fn without_the_fence_a_zombie_applies_a_given_up_command_after_its_successors() {
    counterexample(Protection::Fence, 1, properties::IN_ORDER);
}

#[test]
fn without_asking_the_broker_a_given_up_command_is_applied_after_its_successors() {
    counterexample(Protection::ChannelCheck, 1, properties::IN_ORDER);
}

#[test]
fn given_up_by_anybody_a_command_can_be_applied_as_well() {
    counterexample(Protection::FencedGiveUps, 1, properties::EITHER);
}

#[test]
fn without_the_inbox_a_command_that_comes_again_counts_twice() {
    counterexample(Protection::Inbox, 0, properties::ONCE);
}

#[test]
fn an_ack_before_the_commit_loses_the_command() {
    counterexample(Protection::AckAfterCommit, 0, properties::ACKED_DONE);
    counterexample(Protection::AckAfterCommit, 0, properties::DRAINED);
}

#[test]
fn an_ack_before_the_confirm_loses_the_answer() {
    counterexample(Protection::AckAfterConfirm, 0, properties::ACKED_ANSWERED);
    counterexample(Protection::AckAfterConfirm, 0, properties::DRAINED);
}

#[test]
fn a_cancelled_consumer_lets_the_next_one_run_ahead() {
    counterexample(Protection::CloseToHandOver, 0, properties::IN_ORDER);
}

/// Without this, a path could go on for ever and [`properties::DRAINED`] never be asked.
#[test]
fn every_path_ends() {
    for protocol in [BOUNDS, Protocol { commands: 2, give_ups: 1, ..BOUNDS }] {
        let mut is_under_way = HashMap::new();
        let mut path = Vec::new();
        let mut next = protocol.init_states();
        loop {
            let Some(state) = next.pop() else {
                let Some((done, siblings)) = path.pop() else { break };
                is_under_way.insert(done, false);
                next = siblings;
                continue;
            };
            match is_under_way.get(&state) {
                Some(true) => panic!("{protocol:?} comes back to {state:#?}"),
                Some(false) => {}
                None => {
                    is_under_way.insert(state.clone(), true);
                    let siblings = std::mem::replace(&mut next, protocol.next_states(&state));
                    path.push((state, siblings));
                }
            }
        }
        assert!(is_under_way.len() > 10_000, "{protocol:?} has too few states to mean anything");
    }
}

/// Walks all states: nothing may be wrong in any, and what is interesting must be in some.
fn explore(protocol: Protocol) {
    // A broken protocol may have no end of states, so the first thing wrong is enough.
    let stop = HasDiscoveries::AnyFailures;
    let checker = protocol.checker().threads(2).finish_when(stop).spawn_bfs().join();
    checker.assert_properties();
    let states = checker.unique_state_count();
    let Protocol { commands, batch, faults, give_ups, without, .. } = protocol;
    eprintln!(
        "{states} states, and nothing wrong in any: {commands} commands in batches of up to \
         {batch}, {faults} faults, {give_ups} given up, without {without:?}"
    );
    assert!(states > 50_000, "{states} states are too few to mean anything");
}

/// Takes a protection out and expects `property` to break.
fn counterexample(without: Protection, give_ups: u8, property: &'static str) {
    // Asked nothing else and by one thread, the checker stops at the shortest path.
    let protocol = Protocol { give_ups, without: Some(without), only: Some(property), ..BOUNDS };
    let path = protocol.checker().spawn_bfs().join().assert_any_discovery(property);
    let actions = path.into_actions();
    let steps = actions.len();
    eprintln!("without {without:?}, this breaks after {steps} steps: {property}: {actions:?}");
}
