//! A command takes effect once, and a letter says what became of it, whatever operators do meanwhile.

use futures_util::StreamExt as _;
use lapin::options::BasicNackOptions;
use partner_program_worker::message::Message;
use serde_json::{Value, json};

use crate::dead_letters::{
    DEADLINE, LANE_QUEUE, archived, bury, dead_letters, env, found_the_org, is_empty, link, rows,
    scene_without_the_org,
};
use crate::harness::collector::try_subscribe;
use crate::harness::environment::TestEnv;
use crate::harness::eventually;
use crate::harness::worker::Process;

/// The only letter's id.
async fn only_letter(env: &TestEnv) -> String {
    let letters = rows(&dead_letters(&env.settings, &["list"]).await.expect(0));
    assert_eq!(letters.len(), 1, "letters");
    letters[0]["id"].as_str().expect("an id").to_owned()
}

async fn show(env: &TestEnv, id: &str) -> Value {
    dead_letters(&env.settings, &["show", id]).await.expect(0).json()
}

async fn act(env: &TestEnv, action: &str, id: &str) {
    dead_letters(&env.settings, &[action, id, "--reason", "test"]).await.expect(0);
}

/// Lets a worker process the messages that wait in the lane.
async fn drain(env: &TestEnv, messages: u64) {
    eventually(DEADLINE, "the messages wait in the lane", async || {
        env.place.broker.depth(LANE_QUEUE).filter(|depth| depth.ready == messages)
    })
    .await;
    let mut worker = Process::start(&env.settings, "worker");
    eventually(DEADLINE, "the lane is empty", async || {
        is_empty(&env.place, LANE_QUEUE).then_some(())
    })
    .await;
    worker.signal("TERM").await;
    assert!(worker.ended().await.success());
}

/// The letter's replay waits in a lane without a worker, and is taken back there.
async fn replayed_and_taken_back(name: &str) -> (TestEnv, String) {
    let mut env = scene_without_the_org(name).await;
    bury(&mut env, &[link("c-1", 1, "m-1")]).await;
    found_the_org(&mut env).await;
    let id = only_letter(&env).await;
    act(&env, "replay", &id).await;
    act(&env, "restore", &id).await;
    (env, id)
}

#[tokio::test]
async fn a_letter_that_was_discarded_after_its_replay_was_taken_back_has_no_effect() {
    let (mut env, id) = replayed_and_taken_back("taken back, discarded").await;
    act(&env, "discard", &id).await;
    drain(&env, 1).await;
    assert_eq!(env.rows.history_count().await, 0, "effects");
    assert_eq!(show(&env, &id).await["state"], "discarded");
}

#[tokio::test]
async fn an_edited_copy_has_the_only_effect_after_a_replay_was_taken_back() {
    let (mut env, id) = replayed_and_taken_back("taken back, edited").await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("body.json");
    std::fs::write(&file, link("", 2, "m-2").body).expect("it is written");
    let path = file.to_str().expect("text");
    let edit = ["edit", &id, "--file", path, "--reason", "another customer"];
    let copy = dead_letters(&env.settings, &edit).await.expect(0).json();
    let copy = copy["copy"].as_str().expect("an id").to_owned();
    drain(&env, 2).await;
    assert_eq!(env.rows.history_count().await, 1, "effects");
    assert_eq!(show(&env, &id).await["state"], "superseded");
    assert_eq!(show(&env, &copy).await["state"], "applied");
}

#[tokio::test]
async fn the_latest_replay_counts_and_no_earlier_one() {
    let (mut env, id) = replayed_and_taken_back("taken back, replayed").await;
    act(&env, "replay", &id).await;
    drain(&env, 2).await;
    assert_eq!(env.rows.history_count().await, 1, "effects");
    assert_eq!(show(&env, &id).await["state"], "applied");
    let restored = dead_letters(&env.settings, &["restore", &id, "--reason", "test"]).await;
    restored.expect(5);
    assert_eq!(show(&env, &id).await["state"], "applied");
}

/// What was taken back is dropped before it is read, so no second letter of it comes about.
#[tokio::test]
async fn a_replay_that_was_taken_back_does_not_die() {
    let mut env = scene_without_the_org("taken back, dies").await;
    bury(&mut env, &[link("c-1", 1, "m-1")]).await;
    found_the_org(&mut env).await;
    let id = only_letter(&env).await;
    act(&env, "replay", &id).await;
    act(&env, "restore", &id).await;
    env.rows.execute("update org set code = 'gone' where code = 'acme'").await;
    drain(&env, 1).await;
    assert_eq!(only_letter(&env).await, id);
    assert_eq!(show(&env, &id).await["state"], "open");
}

/// The broker gives a command up that has taken effect: its worker never got to the ack.
async fn given_up_by_the_broker_after_its_effect(name: &str, message: &Message) -> TestEnv {
    let env = env(name).await;
    env.publisher.publish(std::slice::from_ref(message)).await;
    drain(&env, 1).await;
    env.publisher.publish(std::slice::from_ref(message)).await;
    let (connection, mut consumer) =
        try_subscribe(&env.place.amqp_url, LANE_QUEUE).await.expect("the broker answers");
    let delivery = consumer.next().await.expect("it comes").expect("it comes");
    delivery.nack(BasicNackOptions::default()).await.expect("it is rejected");
    drop(connection);
    env
}

async fn archive_one(env: &mut TestEnv) -> String {
    let worker = Process::start(&env.settings, "archivist");
    archived(env, 1).await;
    drop(worker);
    only_letter(env).await
}

#[tokio::test]
async fn a_letter_of_a_command_that_took_effect_says_so() {
    let mut env =
        given_up_by_the_broker_after_its_effect("given up, known", &link("c-1", 1, "m-1")).await;
    let id = archive_one(&mut env).await;
    let shown = show(&env, &id).await;
    assert_eq!(shown["state"], "applied");
    assert_eq!(shown["timeline"][0]["action"], "applied", "{shown}");
}

#[tokio::test]
async fn the_history_remembers_what_the_inbox_has_forgotten() {
    let message = link("c-1", 1, "m-1");
    let mut env = given_up_by_the_broker_after_its_effect("given up, forgotten", &message).await;
    env.rows.execute("delete from command_log").await;
    let id = archive_one(&mut env).await;
    assert_eq!(show(&env, &id).await["state"], "open");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("body.json");
    std::fs::write(&file, link("", 1, "m-2").body).expect("it is written");
    let path = file.to_str().expect("text");
    let edit = ["edit", &id, "--file", path, "--reason", "test"];
    let refused = dead_letters(&env.settings, &edit).await.expect(5);
    assert!(refused.err().contains("took effect"), "{}", refused.err());
    assert_eq!(show(&env, &id).await["state"], "applied");

    env.rows.execute("update dead_letter set state = 'open'").await;
    let worker = Process::start(&env.settings, "worker");
    let replay = ["replay", &id, "--reason", "test", "--wait", "100"];
    let report = dead_letters(&env.settings, &replay).await.expect(0).json();
    assert_eq!(report["applied"], json!(1), "{report}");
    drop(worker);
    assert_eq!(env.rows.history_count().await, 1, "effects");
}

/// Each death is a death: nothing but its place in the queue tells these two apart.
#[tokio::test]
async fn equal_bodies_without_an_id_are_two_letters_with_two_effects() {
    let mut env = scene_without_the_org("equal bodies").await;
    let nameless = |correlation: &str| {
        let mut message = link("", 1, "m-1");
        message.properties.message_id = None;
        message.properties.correlation_id = Some(correlation.to_owned());
        message
    };
    bury(&mut env, &[nameless("first"), nameless("second")]).await;
    let letters = rows(&dead_letters(&env.settings, &["list"]).await.expect(0));
    let mut correlations: Vec<&str> =
        letters.iter().filter_map(|letter| letter["correlation_id"].as_str()).collect();
    correlations.sort_unstable();
    assert_eq!(correlations, ["first", "second"]);
    assert!(letters.iter().all(|letter| letter["deaths"] == 1), "{letters:?}");

    found_the_org(&mut env).await;
    let worker = Process::start(&env.settings, "worker");
    let replay = ["replay", "--all", "--yes", "--reason", "the org is known", "--wait", "100"];
    let report = dead_letters(&env.settings, &replay).await.expect(0).json();
    assert_eq!(report["applied"], json!(2), "{report}");
    env.publisher.publish(&[nameless("third")]).await;
    eventually(DEADLINE, "all three are answered", async || {
        (env.rows.inbox().await.len() == 3).then_some(())
    })
    .await;
    drop(worker);
}
