//! What must not be left behind once a test's commands are done and its worker is gone.

use std::time::Duration;

use crate::harness::database::TestDatabase;
use crate::harness::eventually;
use crate::harness::management::Depth;
use crate::harness::servers::Place;

/// The broker's figures are up to a second old.
const SOON: Duration = Duration::from_secs(20);

/// The lanes' queues are empty, nothing is unacked, no connection is left, no attempt is
/// remembered.
pub(crate) async fn assert_nothing_is_left(place: &Place, lanes: &[&str]) {
    assert_attempts_are_left(place, lanes, 0).await;
}

/// Likewise, but for the attempts of commands that were given up: they are kept for a while.
pub(crate) async fn assert_attempts_are_left(place: &Place, lanes: &[&str], attempts: usize) {
    wait_for_empty_lanes(place, lanes).await;
    let mut rows = TestDatabase::of(place).await;
    eventually(SOON, "no worker's connection is left", async || {
        (rows.workers_connections().await == 0).then_some(())
    })
    .await;
    assert_eq!(rows.attempts().await, attempts, "attempts that are remembered");
}

/// Each command is acked: after a fault, some come again though all are answered.
pub(crate) async fn wait_for_empty_lanes(place: &Place, lanes: &[&str]) {
    for lane in lanes {
        let queue = format!("partner-program.commands.{lane}");
        eventually(SOON, &format!("{queue} is empty"), async || {
            place.broker.depth(&queue).filter(|depth| *depth == Depth::default())
        })
        .await;
    }
}
