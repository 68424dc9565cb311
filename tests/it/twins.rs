//! Two live workers with one `worker_id`: they are told apart, and warned of.

use std::time::Duration;

use chrono::Utc;
use partner_program_worker::store::connection;
use partner_program_worker::store::fence::{self, Owner};
use partner_program_worker::store::lane_metrics::{self, Sample};
use serde_json::Value;
use uuid::Uuid;

use crate::harness::database::TestDatabase;
use crate::harness::environment::TestEnv;
use crate::harness::eventually;
use crate::harness::worker::Process;
use crate::harness::workload;
use crate::model::Model;

const DEADLINE: Duration = Duration::from_mins(1);
const NAME: &str = "twin";

/// Data and words of a command.
async fn run(env: &TestEnv, arguments: &[&str]) -> (String, String) {
    let output = env.settings.command(arguments).output().await.expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (text(output.stdout), text(output.stderr))
}

/// What `doctor` says of the workers' ids.
async fn diagnosis(env: &TestEnv) -> Value {
    let (checks, _) = run(env, &["doctor", "-o", "json"]).await;
    let checks: Value = serde_json::from_str(&checks).expect("JSON");
    let mut checks = checks.as_array().expect("a list").iter();
    checks.find(|check| check["check"] == "workers").cloned().unwrap_or_default()
}

async fn present(rows: &mut TestDatabase, workers: usize) {
    let count = format!("select count(*) from worker_process where worker = '{NAME}'");
    eventually(DEADLINE, "the workers are known", async || {
        (rows.count(&count).await == workers).then_some(())
    })
    .await;
}

#[tokio::test]
async fn two_live_workers_of_one_id_are_told_apart_and_warned_of() {
    let mut env = TestEnv::new("twins", &Model::new(Utc::now(), workload::world())).await;
    env.settings =
        env.settings.with("ARCHIVE_DEAD_LETTERS", true).with("OPS_LISTEN", "127.0.0.1:0");
    let mut first = Process::start(&env.settings, NAME);
    env.publisher.publish(&workload::steps(0..5)).await;
    present(&mut env.rows, 1).await;
    assert_eq!(diagnosis(&env).await["state"], "ok");
    let mut second = Process::start(&env.settings, NAME);

    eventually(DEADLINE, "both workers warn", async || {
        let warns = |worker: &Process| worker.words().contains("worker_id `twin` is also used by");
        (warns(&first) && warns(&second)).then_some(())
    })
    .await;
    let (one, other) = (format!("process {}", first.id()), format!("process {}", second.id()));
    assert!(first.words().contains(&other), "it names the other: {}", first.words());
    let (_, ready) = first.probe("/health/ready").await.expect("it answers");
    let told = ready["worker_id_also_used_by"][0].as_str().unwrap_or_default();
    assert!(told.contains(&other), "{ready}");
    let check = diagnosis(&env).await;
    let detail = check["detail"].as_str().unwrap_or_default();
    assert_eq!(check["state"], "warn", "{check}");
    assert!(detail.contains(NAME) && detail.contains(&one) && detail.contains(&other), "{check}");
    let (listed, words) = run(&env, &["lanes", "list"]).await;
    assert!(words.contains("worker_id `twin` is used by 2 live workers"), "{words}");
    assert!(listed.contains(&one), "the one that has the lane is named: {listed}");

    // Each operation on dead letters is one process's.
    env.rows
        .execute(
            "insert into bulk_job (id, kind, filter, actor, reason, source, matched) \
             values (gen_random_uuid(), 'discard', '{}', 'tests', 'tests', 'tests', 0)",
        )
        .await;
    let runners = "select runner from bulk_job where state = 'done'";
    let runner = eventually(DEADLINE, "a worker runs the operation", async || {
        env.rows.texts(runners).await.pop()
    })
    .await;
    let processes = env.rows.texts("select id::text from worker_process").await;
    assert_eq!(processes.iter().filter(|process| runner.contains(*process)).count(), 1, "{runner}");

    // One that is killed is forgotten after a while, one that ends at once.
    second.kill().await;
    let silent = format!(
        "update worker_process set seen_at = seen_at - interval '1 minute' where os_process_id = {}",
        other.trim_start_matches("process ")
    );
    env.rows.execute(&silent).await;
    assert_eq!(diagnosis(&env).await["state"], "ok");
    let third = Process::start(&env.settings, "another");
    let known = "select count(*) from worker_process where worker = 'another'";
    eventually(DEADLINE, "it is known", async || (env.rows.count(known).await == 1).then_some(()))
        .await;
    assert!(!third.words().contains("is also used by"), "{}", third.words());
    drop(third);
    first.signal("TERM").await;
    assert!(first.ended().await.success(), "{}", first.words());
    let left = format!(
        "select count(*) from worker_process where os_process_id = {}",
        one.trim_start_matches("process ")
    );
    assert_eq!(env.rows.count(&left).await, 0, "it has said goodbye");
}

/// A worker that comes back under its id right after a kill is alone.
#[tokio::test]
async fn a_worker_that_is_started_again_is_no_twin_of_itself() {
    let mut env = TestEnv::new("twins-restart", &Model::new(Utc::now(), workload::world())).await;
    let mut killed = Process::start(&env.settings, NAME);
    present(&mut env.rows, 1).await;
    killed.kill().await;
    let again = Process::start(&env.settings, NAME);
    present(&mut env.rows, 2).await;
    let beats = "select count(*) from worker_process where seen_at > started_at";
    eventually(DEADLINE, "it has looked for twins again", async || {
        (env.rows.count(beats).await >= 1).then_some(())
    })
    .await;
    assert!(!again.words().contains("is also used by"), "{}", again.words());
    assert_eq!(diagnosis(&env).await["state"], "ok");
}

/// Two workers of one id see the same lanes; only the one that has a lane speaks for it.
#[tokio::test]
async fn a_lane_s_figures_are_those_of_the_process_that_has_it() {
    let mut env = TestEnv::new("twins-samples", &Model::new(Utc::now(), workload::world())).await;
    let (owner, twin) = (Uuid::now_v7(), Uuid::now_v7());
    let mut connection =
        connection::connect(&env.place.database_url, "tests").await.expect("it answers");
    let connection = &mut connection;
    let lane = Owner { worker: NAME, process: Some(owner) };
    fence::acquire(connection, "main", lane).await.expect("it is taken");
    let sample = Sample { lane: "main".into(), commands: 7, p50: None, p99: None, oldest: None };
    for (process, samples) in [(twin, 0), (owner, 1)] {
        let over = Duration::from_secs(5);
        lane_metrics::add(connection, process, over, std::slice::from_ref(&sample))
            .await
            .expect("it is written");
        assert_eq!(env.rows.count("select count(*) from lane_metric").await, samples);
    }
}
