//! No task of a worker dies in silence, and the probes tell what a lane can do.

use std::time::Duration;

use chrono::Utc;

use crate::harness::environment::TestEnv;
use crate::harness::eventually;
use crate::harness::leftovers::{assert_nothing_is_left, wait_for_empty_lanes};
use crate::harness::publisher::command;
use crate::harness::worker::Process;
use crate::harness::workload::{assert_done_in_order, steps, world};
use crate::model::Model;

const DEADLINE: Duration = Duration::from_mins(2);
/// Connections of two lanes and of the tasks beside them.
const LANES: &str = "second=globex.*";

async fn env(name: &str) -> TestEnv {
    let mut env = TestEnv::new(name, &Model::new(Utc::now(), world())).await;
    env.settings = env
        .settings
        .with("LANES", LANES)
        .with("OPS_LISTEN", "127.0.0.1:0")
        .with("DATABASE_TIMEOUT_MS", 2_000);
    env.settings.declare().await;
    env
}

/// Each point is reached by another task; the panic comes with the load under way.
async fn survives(point: &str, task: &str) {
    let TestEnv { place, settings, mut rows, mut results, publisher, .. } =
        env(&format!("panic-{point}")).await;
    let messages = steps(0..300);
    publisher.publish(&messages).await;
    let settings = settings.failing(&format!("{point}=1*panic"));
    let mut worker = Process::start(&settings, "panicking");
    assert_done_in_order(&messages, &mut results, &mut rows, DEADLINE).await;
    let complaint = eventually(DEADLINE, "the log names the task", async || {
        let words = worker.words();
        let complaint = words.lines().find(|line| line.contains("stopped by itself"));
        complaint.map(str::to_owned)
    })
    .await;
    assert!(complaint.contains("ERROR") && complaint.contains(task), "{complaint}");
    eventually(DEADLINE, "the worker is ready again", async || {
        worker.probe("/health/ready").await.filter(|(status, _)| *status == 200)
    })
    .await;
    wait_for_empty_lanes(&place, &["main", "second"]).await;
    worker.signal("TERM").await;
    assert!(worker.ended().await.success(), "{point}");
    assert_nothing_is_left(&place, &["main", "second"]).await;
}

#[tokio::test]
async fn a_panic_of_the_look_ahead_costs_a_generation() {
    survives("look-ahead", "look-ahead").await;
}

#[tokio::test]
async fn a_panic_of_the_receiver_costs_a_generation() {
    survives("receive", "receiver").await;
}

#[tokio::test]
async fn a_panic_of_the_publisher_costs_a_generation() {
    survives("before-ack", "publisher").await;
}

#[tokio::test]
async fn a_panic_of_the_lane_itself_restarts_it() {
    survives("after-subscribe", "`lane`").await;
}

#[tokio::test]
async fn a_panic_of_a_task_beside_the_lanes_restarts_it() {
    survives("background-task", "lane metrics").await;
}

/// A partial outage: one table takes no rows. The lane is not ready and says why; it lives, and
/// nothing becomes a dead letter.
#[tokio::test]
async fn a_lane_that_can_t_commit_is_alive_but_not_ready() {
    let TestEnv { place, settings, mut rows, mut results, publisher, .. } = env("probes").await;
    let worker = Process::start(&settings, "probed");
    let ready = eventually(DEADLINE, "the worker is ready", async || {
        worker.probe("/health/ready").await.filter(|(status, _)| *status == 200)
    })
    .await;
    let lanes = ready.1["lanes"].as_array().expect("there are lanes");
    assert_eq!(lanes.len(), 2);
    assert!(lanes.iter().all(|lane| lane["state"] == "standing by" && lane["ready"] == true));

    rows.execute(
        "create function full_disk() returns trigger language plpgsql as $$ begin \
             raise exception 'no space left' using errcode = '53100'; \
         end $$; \
         create trigger full_disk before insert on enrolment_history for each row \
             execute function full_disk()",
    )
    .await;
    let messages = steps(0..100);
    publisher.publish(&messages).await;
    let (_, body) = eventually(DEADLINE, "the lane is not ready", async || {
        let (status, body) = worker.probe("/health/ready").await?;
        (status == 503).then_some((status, body))
    })
    .await;
    let of = |name: &str| {
        let lanes = body["lanes"].as_array().expect("there are lanes");
        lanes.iter().find(|lane| lane["lane"] == name).expect("it is told").clone()
    };
    assert_eq!(of("main")["ready"], false);
    let error = of("main")["last_error"]["text"].to_string();
    assert!(error.contains("53100"), "{error}");
    assert_eq!(of("second")["ready"], true, "its statements were not tried");
    let (live, _) = worker.probe("/health/live").await.expect("it answers");
    assert_eq!(live, 200, "a restart would not help");

    rows.execute("drop trigger full_disk on enrolment_history").await;
    assert_done_in_order(&messages, &mut results, &mut rows, DEADLINE).await;
    eventually(DEADLINE, "the lane is ready again", async || {
        worker.probe("/health/ready").await.filter(|(status, _)| *status == 200)
    })
    .await;
    crate::faults::assert_no_dead_letters(&place).await;
}

/// The worker ends itself, and its next starts find the command and give it up.
#[tokio::test]
async fn a_command_that_never_ends_is_given_up() {
    let TestEnv { place, settings, mut rows, mut results, publisher, .. } = env("endless").await;
    let messages = steps(0..40);
    let (before, after) = messages.split_at(20);
    publisher.publish(before).await;
    publisher.publish(&[command("acme.delink", Some("endless"), "{\"deLinkCustomers\":[]}")]).await;
    publisher.publish(after).await;
    let settings = settings
        .with("BATCH_SIZE", 1)
        .with("ATTEMPTS_LIMIT", 1)
        .failing("evaluate=return(hang endless)");
    let mut worker = Process::start(&settings, "hanging-0");
    let mut deaths = 0;
    eventually(DEADLINE, "the command is given up", async || {
        if !worker.is_running() {
            assert!(worker.words().contains("an evaluation takes longer"), "{}", worker.words());
            deaths += 1;
            worker = Process::start(&settings, &format!("hanging-{deaths}"));
        }
        let depth = place.broker.depth("partner-program.dead-letters")?;
        (depth.ready == 1).then_some(())
    })
    .await;
    assert!((2..=4).contains(&deaths), "{deaths} deaths");
    assert_done_in_order(&messages, &mut results, &mut rows, DEADLINE).await;
}
