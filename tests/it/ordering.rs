//! Order: a lane's commands take effect, and are answered, as they were queued.

use std::time::Duration;

use chrono::Utc;
use partner_program_worker::clock::Clock;

use crate::harness::environment::TestEnv;
use crate::harness::eventually;
use crate::harness::leftovers::assert_nothing_is_left;
use crate::harness::worker::{InProcess, Process, close_workers_connections};
use crate::harness::workload::{self, assert_done_in_order, assert_first_results_in_order, steps};
use crate::model::Model;

const DEADLINE: Duration = Duration::from_secs(90);

/// What was committed before anybody else took the lane.
const OF_FIRST_EPOCH: &str = "select count(*) from command_log where lane_epoch = 1";

async fn env(name: &str, batch: usize) -> TestEnv {
    let mut env = TestEnv::new(name, &Model::new(Utc::now(), workload::world())).await;
    env.settings = env.settings.with("BATCH_SIZE", batch);
    env
}

#[tokio::test]
async fn commands_take_effect_and_are_answered_in_the_order_of_their_queue() {
    let TestEnv { place, settings, mut rows, mut results, publisher } = env("order", 64).await;
    let messages = steps(0..3000);
    publisher.publish(&messages[..1000]).await;
    let worker = InProcess::start(&settings, Clock::system());
    publisher.publish(&messages[1000..]).await;
    assert_done_in_order(&messages, &mut results, &mut rows, DEADLINE).await;
    worker.stop().await;
    assert_eq!(results.received.len(), messages.len(), "each result once");
    assert_first_results_in_order(&results);
    assert_nothing_is_left(&place, &["main"]).await;
}

#[tokio::test]
async fn a_worker_that_drains_hands_the_lane_over_in_order() {
    let TestEnv { place, settings, mut rows, mut results, publisher } = env("handover", 16).await;
    let messages = steps(0..6000);
    publisher.publish(&messages).await;
    let mut first = Process::start(&settings, "first");
    let second = {
        eventually(DEADLINE, "the first worker is at work", async || {
            (rows.history_count().await > 200).then_some(())
        })
        .await;
        Process::start(&settings, "second")
    };
    first.signal("TERM").await;
    assert!(first.ended().await.success(), "a drained worker ends well");
    assert!(rows.history_count().await < 6000, "the load was too light to show anything");
    assert_done_in_order(&messages, &mut results, &mut rows, DEADLINE).await;
    assert_eq!(results.received.len(), messages.len(), "each result once: nothing was unacked");
    assert_first_results_in_order(&results);
    drop(second);
    assert_nothing_is_left(&place, &["main"]).await;
}

#[tokio::test]
async fn a_worker_that_stops_at_once_hands_the_lane_over_in_order() {
    let TestEnv { place, settings, mut rows, mut results, publisher } = env("at_once", 16).await;
    let messages = steps(0..6000);
    let (first, rest) = messages.split_at(50);
    publisher.publish(first).await;
    let worker = InProcess::start(&settings, Clock::system());
    eventually(DEADLINE, "it has the lane", async || {
        (rows.history_count().await > 10).then_some(())
    })
    .await;
    let standby = Process::start(&settings, "standby");
    let name = "partner-program main standby consuming";
    eventually(DEADLINE, "another stands by", async || {
        place.broker.channels().iter().any(|connection| connection == name).then_some(())
    })
    .await;
    publisher.publish(rest).await;
    eventually(DEADLINE, "it is at work", async || {
        (rows.history_count().await > 100).then_some(())
    })
    .await;
    assert!(rows.history_count().await < 6000, "the load was too light to show anything");
    worker.stop_at_once().await;
    assert_done_in_order(&messages, &mut results, &mut rows, DEADLINE).await;
    drop(standby);
    assert_nothing_is_left(&place, &["main"]).await;
}

#[tokio::test]
async fn a_frozen_worker_that_comes_back_changes_nothing() {
    let TestEnv { place, settings, mut rows, mut results, publisher } = env("zombie", 16).await;
    let messages = steps(0..6000);
    publisher.publish(&messages).await;
    let mut frozen = Process::start(&settings, "frozen");
    eventually(DEADLINE, "the first worker is at work", async || {
        (rows.history_count().await > 200).then_some(())
    })
    .await;
    frozen.signal("STOP").await;
    assert!(rows.history_count().await < 6000, "the load was too light to show anything");
    // The broker gives it up, as it would after some missed heartbeats.
    close_workers_connections(&place).await;
    let fresh = Process::start(&settings, "fresh");
    eventually(DEADLINE, "the other worker took the lane over", async || {
        (rows.holder("main").await.as_deref() == Some("fresh")).then_some(())
    })
    .await;
    frozen.signal("CONT").await;
    assert_done_in_order(&messages, &mut results, &mut rows, DEADLINE).await;
    assert!(frozen.is_running(), "a fenced worker waits for its turn");
    for worker in [frozen, fresh] {
        let mut worker = worker;
        worker.signal("TERM").await;
        assert!(worker.ended().await.success());
    }
    assert_nothing_is_left(&place, &["main"]).await;
}

#[tokio::test]
async fn a_worker_whose_lane_was_taken_commits_nothing_more_for_its_epoch() {
    let TestEnv { place, settings, mut rows, mut results, publisher } = env("fence", 16).await;
    let messages = steps(0..6000);
    publisher.publish(&messages).await;
    let worker = InProcess::start(&settings, Clock::system());
    eventually(DEADLINE, "the worker is at work", async || {
        (rows.history_count().await > 200).then_some(())
    })
    .await;
    // Nobody works epoch 2: the worker has to notice and to take the lane again.
    rows.execute("update lane set epoch = 2, owner = 'another worker'").await;
    let before = rows.count(OF_FIRST_EPOCH).await;
    assert!(before < 6000, "the load was too light to show anything");
    assert_done_in_order(&messages, &mut results, &mut rows, DEADLINE).await;
    worker.stop().await;
    assert_eq!(rows.count(OF_FIRST_EPOCH).await, before);
    assert_eq!(rows.count("select count(*) from command_log where lane_epoch = 2").await, 0);
    assert_nothing_is_left(&place, &["main"]).await;
}
