//! What newer brokers do to a lane: they deliver by priority, cancel consumers, and take long over deep
//! headers. Each test holds on every supported version, and says where the versions differ.

mod cancel;
mod doctor;
mod headers;
mod priority;

use std::time::Duration;

use chrono::Utc;

use crate::harness::journey;
use crate::harness::scene::Scene;
use crate::harness::servers::Place;
use crate::model::Model;

/// Long enough for a slow machine; reached only by a failure.
const DEADLINE: Duration = Duration::from_mins(3);
const LANE_QUEUE: &str = "partner-program.commands.main";

async fn scene_at(place: Place) -> Scene {
    Scene::at(place, &Model::new(Utc::now(), journey::world())).await
}

async fn scene(name: &str) -> Scene {
    scene_at(Place::new(name).await).await
}
