//! Publishing that can't succeed: results that the broker refuses, queues that are full, servers
//! that are silent. Nothing is acked that was not published, nothing loops for ever, and whoever
//! stops the worker or pauses a lane is obeyed in time.

mod oversize;
mod refused;
mod stopping;

use std::time::Duration;

use chrono::Utc;
use partner_program_worker::worker::counters::{Counters, LaneCounters};

use crate::harness::environment::TestEnv;
use crate::harness::workload;
use crate::model::Model;

/// Long enough for a slow machine; reached only by a failure.
const DEADLINE: Duration = Duration::from_mins(2);
const RESULTS: &str = "partner-program.results";
/// The subscriber's queue, see [`crate::harness::collector::Collector::of_results`].
const RESULTS_QUEUE: &str = "test.results";
const DEAD_LETTERS: &str = "partner-program.dead-letters";

async fn env(name: &str) -> TestEnv {
    TestEnv::new(name, &Model::new(Utc::now(), workload::world())).await
}

/// What the lanes have counted under that name.
fn counted(counters: &LaneCounters, name: &str) -> u64 {
    let of_lane = |(_, counts): (&str, &Counters)| {
        let all = counts.each();
        all.iter().find(|(counted, ..)| *counted == name).map_or(0, |(_, _, count)| *count)
    };
    counters.iter().map(of_lane).sum()
}
