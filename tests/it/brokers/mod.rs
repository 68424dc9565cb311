//! What newer brokers do to a lane: they deliver by priority, cancel consumers, and take long over deep
//! headers. Each test holds on every supported version, and says where the versions differ.

mod cancel;
mod doctor;
mod headers;
mod priority;

use std::time::Duration;

use chrono::Utc;

use crate::harness::environment::TestEnv;
use crate::harness::servers::Place;
use crate::harness::workload;
use crate::model::Model;

/// Long enough for a slow machine; reached only by a failure.
const DEADLINE: Duration = Duration::from_mins(3);
const LANE_QUEUE: &str = "partner-program.commands.main";

async fn scene_at(place: Place) -> TestEnv {
    TestEnv::at(place, &Model::new(Utc::now(), workload::world())).await
}

async fn env(name: &str) -> TestEnv {
    scene_at(Place::new(name).await).await
}
