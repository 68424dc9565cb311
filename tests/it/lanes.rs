//! Lanes on the command line: who has them, and what a pause does.

use std::process::Output;
use std::time::Duration;

use chrono::Utc;
use serde_json::{Value, json};

use crate::harness::environment::TestEnv;
use crate::harness::eventually;
use crate::harness::worker::Process;
use crate::harness::workload;
use crate::model::Model;

/// Long enough for a slow machine; reached only by a failure.
const DEADLINE: Duration = Duration::from_mins(2);
const STORED: &str = "select count(*) from command_log";

async fn lanes(env: &TestEnv, arguments: &[&str]) -> Output {
    let arguments = [&["lanes"][..], arguments].concat();
    env.settings.command(&arguments).output().await.expect("the program starts")
}

async fn list(env: &TestEnv) -> Value {
    let output = lanes(env, &["list", "-o", "json"]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("it is JSON")
}

#[tokio::test]
async fn a_lane_that_an_operator_pauses_waits_until_it_is_resumed() {
    let model = Model::new(Utc::now(), workload::world());
    let mut env = TestEnv::new("lanes_pause", &model).await;
    let mut worker = Process::start(&env.settings, "tested");
    env.publisher.publish(&workload::steps(0..5)).await;
    stored(&mut env, 5).await;
    let listed = list(&env).await;
    assert_eq!(
        (&listed[0]["lane"], &listed[0]["holder"], &listed[0]["epoch"], &listed[0]["paused"]),
        (&json!("main"), &json!("tested"), &json!(1), &Value::Null),
        "{listed}"
    );

    eventually(DEADLINE, "the worker has said how the lane fares", async || {
        let now = &list(&env).await[0]["now"];
        let told = now["p50_ms"].as_f64().zip(now["p99_ms"].as_f64());
        told.filter(|(p50, p99)| 0.0 < *p50 && p50 <= p99)
    })
    .await;

    let paused = lanes(&env, &["pause", "main", "--reason", "OPS-8: globex moves"]).await;
    assert_eq!(paused.status.code(), Some(0), "{paused:?}");
    eventually(DEADLINE, "the worker has left the lane", async || {
        (list(&env).await[0]["consumers"] == 0).then_some(())
    })
    .await;
    env.publisher.publish(&workload::steps(5..10)).await;
    let listed = list(&env).await;
    assert_eq!((&listed[0]["ready"], &listed[0]["consumers"]), (&json!(5), &json!(0)), "{listed}");
    assert_eq!(listed[0]["paused"]["reason"], "OPS-8: globex moves");
    assert_eq!(env.rows.count(STORED).await, 5);

    let resumed = lanes(&env, &["resume", "main", "--actor", "oscar"]).await;
    assert_eq!(resumed.status.code(), Some(0), "{resumed:?}");
    stored(&mut env, 10).await;
    let by = "select count(*) from lane_pause where resumed_by = 'oscar' and source like 'cli%'";
    assert_eq!(env.rows.count(by).await, 1);
    worker.signal("TERM").await;
    assert!(worker.ended().await.success(), "{}", worker.words());
}

#[tokio::test]
async fn what_can_not_be_paused_or_resumed_is_said_by_exit_codes() {
    let env = TestEnv::new("lanes_codes", &Model::new(Utc::now(), Vec::new())).await;
    for (arguments, code, says) in [
        (&["pause", "main"][..], 2, "--reason"),
        (&["pause", "mian", "--reason", "r"], 3, "there is main"),
        (&["resume", "mian"], 3, "there is main"),
        (&["resume", "main"], 5, "not paused"),
        (&["pause", "main", "--reason", "r"], 0, "lanes resume main"),
        (&["pause", "main", "--reason", "r"], 5, "paused already"),
        (&["resume", "main"], 0, "goes on"),
    ] {
        let output = lanes(&env, arguments).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(says), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

async fn stored(env: &mut TestEnv, commands: usize) {
    let rows = &mut env.rows;
    eventually(DEADLINE, &format!("{commands} commands are stored"), async || {
        (rows.count(STORED).await == commands).then_some(())
    })
    .await;
}

/// No consumer tells how old the head of a queue is: those who look say since when it waits at least.
#[tokio::test]
async fn how_long_commands_wait_in_a_paused_lane_is_known() {
    let model = Model::new(Utc::now(), workload::world());
    let mut env = TestEnv::new("lanes_waiting", &model).await;
    env.settings = env.settings.with("OPS_LISTEN", "127.0.0.1:0");
    let paused = lanes(&env, &["pause", "main", "--reason", "test"]).await;
    assert_eq!(paused.status.code(), Some(0), "{paused:?}");
    let worker = Process::start(&env.settings, "looking");
    env.publisher.publish(&workload::steps(0..5)).await;
    let since = eventually(DEADLINE, "it is known since when they wait", async || {
        list(&env).await[0]["waiting_since"].as_str().map(str::to_owned)
    })
    .await;
    let metrics = eventually(DEADLINE, "the metric tells it", async || {
        let text = worker.text("/metrics").await?;
        text.contains("lane_waiting_seconds{").then_some(text)
    })
    .await;
    assert!(metrics.contains("lane_waiting_seconds{lane=\"main\"}"), "{metrics}");
    assert_eq!(list(&env).await[0]["waiting_since"], json!(since), "it stays");
    let resumed = lanes(&env, &["resume", "main"]).await;
    assert_eq!(resumed.status.code(), Some(0), "{resumed:?}");
    stored(&mut env, 5).await;
    assert_eq!(list(&env).await[0]["waiting_since"], Value::Null, "the lane was taken");
    drop(worker);
}
