//! Input that means harm: whatever a publisher sends, the good commands around it are answered in
//! order, each bad message is one dead letter, and the tables stay as they are.

pub(crate) mod raw;

mod flood;
mod injection;
mod publishers;
mod reply;
mod reused;
mod size;
mod unreadable;

use std::time::Duration;

use chrono::Utc;

use crate::harness::database::TestDatabase;
use crate::harness::environment::TestEnv;
use crate::harness::workload;
use crate::model::Model;

/// Long enough for a slow machine; reached only by a failure.
const DEADLINE: Duration = Duration::from_mins(2);
const DEAD_LETTERS: &str = "partner-program.dead-letters";
const LANE_QUEUE: &str = "partner-program.commands.main";

async fn workload_env(name: &str) -> TestEnv {
    TestEnv::new(name, &Model::new(Utc::now(), workload::world())).await
}

/// No generation has ended: each takes the lane anew.
async fn assert_one_generation(rows: &mut TestDatabase) {
    assert_eq!(rows.count("select epoch from lane where name = 'main'").await, 1, "generations");
}
