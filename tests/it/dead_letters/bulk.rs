//! Thousands of letters, several operators, and deaths in the middle of it.

use std::process::Stdio;

use serde_json::json;

use crate::dead_letters::{
    DEADLINE, LANE_QUEUE, bury, dead_letters, found_the_org, scene_without_the_org,
};
use crate::harness::collector::Collector;
use crate::harness::environment::TestEnv;
use crate::harness::eventually;
use crate::harness::worker::Process;
use crate::harness::workload::{assert_done_in_order, steps};

const MANY: usize = 10_000;
const SOME: usize = 2_000;
const REPLAY: [&str; 5] = ["replay", "--all", "--yes", "--reason", "the org is known"];

/// Waits until every letter is applied.
async fn all_applied(env: &mut TestEnv, letters: usize) {
    let rows = &mut env.rows;
    eventually(DEADLINE, "all letters are applied", async || {
        let applied = "select count(*) from dead_letter where state = 'applied'";
        (rows.count(applied).await == letters).then_some(())
    })
    .await;
    assert_eq!(rows.count("select count(*) from dead_letter").await, letters, "letters");
}

#[tokio::test]
async fn ten_thousand_replays_count_once_each_and_in_order_though_the_worker_dies() {
    let mut env = scene_without_the_org("ten thousand").await;
    env.settings = env.settings.with("BATCH_SIZE", 256);
    let steps = steps(0..MANY);
    bury(&mut env, &steps).await;
    found_the_org(&mut env).await;
    let mut doomed = Process::start(&env.settings, "doomed");
    let settings = env.settings.clone();
    let replaying = tokio::spawn(async move { dead_letters(&settings, &REPLAY).await });
    let rows = &mut env.rows;
    eventually(DEADLINE, "replays are applied", async || {
        (rows.history_count().await > MANY / 5).then_some(())
    })
    .await;
    doomed.kill().await;
    let mut worker = Process::start(&env.settings, "heir");
    let report = replaying.await.expect("it does not panic").expect(0).json();
    assert_eq!((&report["done"], &report["skipped"]), (&json!(MANY), &json!(0)));
    assert_done_in_order(&steps, &mut env.results, &mut env.rows, DEADLINE).await;
    all_applied(&mut env, MANY).await;
    worker.signal("TERM").await;
    assert!(worker.ended().await.success());
}

#[tokio::test]
async fn two_operators_at_once_replay_no_letter_twice() {
    let mut env = scene_without_the_org("two operators").await;
    let steps = steps(0..SOME);
    bury(&mut env, &steps).await;
    found_the_org(&mut env).await;
    let (one, other) =
        tokio::join!(dead_letters(&env.settings, &REPLAY), dead_letters(&env.settings, &REPLAY));
    let done = |answer: &super::Answer| answer.json()["done"].as_u64().expect("a number");
    assert!(done(&one) > 0 && done(&other) > 0, "both had some: {} {}", one.out, other.out);
    assert_eq!(usize::try_from(done(&one) + done(&other)).expect("few"), SOME);
    let mut lane = Collector::of_queue(&env.place.amqp_url, LANE_QUEUE);
    let mut replayed: Vec<_> =
        lane.read(SOME, DEADLINE).await.iter().map(|m| m.message_id.clone()).collect();
    replayed.sort();
    let sent: Vec<_> = steps.iter().map(|step| step.properties.message_id.clone()).collect();
    assert!(replayed == sent, "each once");
    eventually(DEADLINE, "nothing more is queued", async || {
        super::is_empty(&env.place, LANE_QUEUE).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_a_killed_operator_has_begun_is_finished_by_a_worker() {
    let mut env = scene_without_the_org("killed operator").await;
    let steps = steps(0..SOME);
    bury(&mut env, &steps).await;
    found_the_org(&mut env).await;
    let arguments = [&["dead-letters"], &REPLAY[..], &["--rate", "300"]].concat();
    let mut operator =
        env.settings.command(&arguments).stdout(Stdio::null()).spawn().expect("it starts");
    let rows = &mut env.rows;
    eventually(DEADLINE, "some are replayed", async || {
        let replayed = "select count(*) from dead_letter where state = 'replayed'";
        (rows.count(replayed).await > 100).then_some(())
    })
    .await;
    operator.kill().await.expect("it is killed");
    // As if it had died between the broker's confirm and its own note of it.
    rows.execute(
        "update dead_letter set state = 'replaying' where id in \
             (select id from dead_letter where state = 'replayed' order by changed_at desc limit 30); \
         update bulk_job set heartbeat_at = now() - interval '1 hour'",
    )
    .await;
    let mut worker = Process::start(&env.settings, "worker");
    assert_done_in_order(&steps, &mut env.results, &mut env.rows, DEADLINE).await;
    all_applied(&mut env, SOME).await;
    let ended = "select count(*) from bulk_job where state = 'done' and done >= 2000";
    let rows = &mut env.rows;
    eventually(DEADLINE, "the operation has ended", async || {
        (rows.count(ended).await == 1).then_some(())
    })
    .await;
    worker.signal("TERM").await;
    assert!(worker.ended().await.success());
}

#[tokio::test]
async fn an_interrupted_operation_is_cancelled_and_leaves_nothing_claimed() {
    let mut env = scene_without_the_org("interrupted").await;
    bury(&mut env, &steps(0..500)).await;
    found_the_org(&mut env).await;
    let arguments = [&["dead-letters"], &REPLAY[..], &["--rate", "20"]].concat();
    let mut operator =
        env.settings.command(&arguments).stdout(Stdio::null()).spawn().expect("it starts");
    let rows = &mut env.rows;
    eventually(DEADLINE, "some are replayed", async || {
        let replayed = "select count(*) from dead_letter where state = 'replayed'";
        (rows.count(replayed).await > 2).then_some(())
    })
    .await;
    let id = operator.id().expect("it runs").to_string();
    let sent = tokio::process::Command::new("kill").args(["-s", "INT", &id]).status().await;
    assert!(sent.expect("kill runs").success());
    let ended = tokio::time::timeout(DEADLINE, operator.wait()).await.expect("it ends in time");
    assert_eq!(ended.expect("it ends").code(), Some(6));
    let cancelled = "select count(*) from bulk_job where state = 'cancelled'";
    assert_eq!(rows.count(cancelled).await, 1);
    assert_eq!(rows.count("select count(*) from dead_letter where state = 'replaying'").await, 0);
}

#[tokio::test]
async fn an_operation_that_somebody_cancels_stops_where_it_is() {
    let mut env = scene_without_the_org("cancelled").await;
    bury(&mut env, &steps(0..500)).await;
    found_the_org(&mut env).await;
    let settings = env.settings.clone();
    let slow = [&REPLAY[..], &["--rate", "20"]].concat();
    let replaying = tokio::spawn(async move { dead_letters(&settings, &slow).await });
    let rows = &mut env.rows;
    eventually(DEADLINE, "some are replayed", async || {
        let replayed = "select count(*) from dead_letter where state = 'replayed'";
        (rows.count(replayed).await > 2).then_some(())
    })
    .await;
    let running = super::rows(&dead_letters(&env.settings, &["bulk-jobs", "list"]).await.expect(0));
    let id = running[0]["id"].as_str().expect("an id");
    dead_letters(&env.settings, &["bulk-jobs", "resume", id]).await.expect(5);
    dead_letters(&env.settings, &["bulk-jobs", "cancel", id]).await.expect(0);
    let report = replaying.await.expect("it does not panic").expect(6).json();
    assert_eq!(report["cancelled"], json!(true));
    let shown = dead_letters(&env.settings, &["bulk-jobs", "show", id]).await.expect(0).json();
    assert_eq!(
        (&shown["state"], &shown["letters"]["replayed"]),
        (&json!("cancelled"), &report["done"])
    );
    dead_letters(&env.settings, &["bulk-jobs", "cancel", id]).await.expect(5);
}
