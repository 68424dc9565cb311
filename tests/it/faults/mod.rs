//! Faults under load: nothing is lost, nothing is applied twice, the order is kept.
//!
//! Every trial ends the same way: the [checker](crate::checker) must find nothing to object to.

mod broker;
mod cluster;
mod database;
mod fault;
mod hosts;
mod lanes;
mod letters;
mod outcome;
mod standby;
mod table;
mod trial;
mod worker;

mod culprits;
mod holding;
mod last_resort;
mod moves;
mod mutants;
mod partial;
mod points;
mod poison;
mod schedule;
mod suite;

use std::time::Duration;

use chrono::Utc;

use crate::harness::environment::TestEnv;
use crate::harness::eventually;
use crate::harness::management::Depth;
use crate::harness::servers::Place;
use crate::harness::workload;
use crate::model::Model;

/// Long enough for backoff, restarts and a slow machine; reached only by a failure.
const DEADLINE: Duration = Duration::from_mins(2);

/// A test environment with the workload with small batches, so that a load lasts.
async fn env(place: Place) -> TestEnv {
    let mut env = TestEnv::at(place, &Model::new(Utc::now(), workload::world())).await;
    env.settings = env.settings.with("BATCH_SIZE", 16);
    env
}

/// Nothing was given up as a dead letter.
pub(crate) async fn assert_no_dead_letters(place: &Place) {
    eventually(DEADLINE, "there are no dead letters", async || {
        let depth = place.broker.depth("partner-program.dead-letters")?;
        (depth == Depth::default()).then_some(())
    })
    .await;
}
