//! A worker that dies, and one that is asked to stop, in the middle of its work.

use crate::faults::{DEADLINE, assert_no_dead_letters, progress, scene};
use crate::harness::eventually;
use crate::harness::journey::{assert_done_in_order, assert_first_results_in_order, steps};
use crate::harness::left::assert_nothing_is_left;
use crate::harness::scene::Scene;
use crate::harness::servers::Place;
use crate::harness::upstream::Upstream;
use crate::harness::worker::{Process, close_workers_connections};

const COMMANDS: usize = 6000;

#[tokio::test]
async fn another_worker_goes_on_where_a_killed_one_stopped() {
    let Scene { place, settings, mut rows, mut results, publisher } =
        scene(Place::new("killed").await).await;
    let messages = steps(0..COMMANDS);
    publisher.publish(&messages).await;
    let mut active = Process::start(&settings, "active");
    eventually(DEADLINE, "the first worker takes the lane", async || {
        (rows.holder("main").await.as_deref() == Some("active")).then_some(())
    })
    .await;
    let mut waiting = Process::start(&settings, "waiting");
    progress(&mut rows, 300).await;
    active.kill().await;
    assert!(rows.history_count().await < COMMANDS, "the load was too light to show anything");

    assert_done_in_order(&messages, &mut results, &mut rows, DEADLINE).await;
    assert_first_results_in_order(&results);
    assert_eq!(rows.holder("main").await.as_deref(), Some("waiting"));
    waiting.signal("TERM").await;
    assert!(waiting.ended().await.success());
    assert_no_dead_letters(&place).await;
    assert_nothing_is_left(&place, &["main"]).await;
}

#[tokio::test]
async fn a_worker_killed_again_and_again_gets_through() {
    let Scene { place, settings, mut rows, mut results, publisher } =
        scene(Place::new("killed often").await).await;
    let messages = steps(0..COMMANDS);
    publisher.publish(&messages).await;
    for round in 0..6 {
        let mut worker = Process::start(&settings, &format!("round-{round}"));
        progress(&mut rows, 100).await;
        worker.kill().await;
    }
    assert!(rows.history_count().await < COMMANDS, "the load was too light to show anything");
    let mut last = Process::start(&settings, "last");
    assert_done_in_order(&messages, &mut results, &mut rows, DEADLINE).await;
    last.signal("TERM").await;
    assert!(last.ended().await.success());
    assert_no_dead_letters(&place).await;
    assert_nothing_is_left(&place, &["main"]).await;
}

#[tokio::test]
async fn a_worker_asked_to_stop_leaves_nothing_half_done() {
    let Scene { place, settings, mut rows, mut results, publisher } =
        scene(Place::new("drained").await).await;
    let messages = steps(0..COMMANDS);
    publisher.publish(&messages).await;
    let mut first = Process::start(&settings, "first");
    progress(&mut rows, 300).await;
    first.signal("TERM").await;
    assert!(first.ended().await.success(), "a drained worker ends well");

    let done = rows.history_count().await;
    assert!(done < COMMANDS, "the load was too light to show anything");
    results.read(done, DEADLINE).await;
    let mut second = Process::start(&settings, "second");
    assert_done_in_order(&messages, &mut results, &mut rows, DEADLINE).await;
    second.signal("TERM").await;
    assert!(second.ended().await.success());
    // What is announced and not acked would be announced again.
    assert_eq!(results.received.len(), COMMANDS, "each result once");
    assert_no_dead_letters(&place).await;
    assert_nothing_is_left(&place, &["main"]).await;
}

#[tokio::test]
async fn a_worker_whose_connections_are_closed_comes_back() {
    let Scene { place, settings, mut rows, mut results, .. } =
        scene(Place::new("closed").await).await;
    let upstream = Upstream::start(&place.amqp_url);
    let mut worker = Process::start(&settings, "closed");
    for _ in 0..3 {
        progress(&mut rows, 100).await;
        close_workers_connections(&place).await;
        progress(&mut rows, 100).await;
        // Without the tests' own, so this ends the lane's and nobody else's.
        rows.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity \
             where datname = current_database() and application_name <> 'tests'",
        )
        .await;
    }
    let confirmed = upstream.stop().await;
    assert_done_in_order(&steps(0..confirmed), &mut results, &mut rows, DEADLINE).await;
    assert!(worker.is_running(), "faults never end the worker");
    worker.signal("TERM").await;
    assert!(worker.ended().await.success());
    assert_no_dead_letters(&place).await;
    assert_nothing_is_left(&place, &["main"]).await;
}
