//! A command takes effect once, and a letter says what became of it, whatever operators do meanwhile.

use futures_util::StreamExt as _;
use lapin::options::BasicNackOptions;
use partner_program_worker::message::Message;
use serde_json::{Value, json};

use crate::dead_letters::{
    DEADLINE, LANE_QUEUE, archived, bury, dead_letters, found_the_org, is_empty, link, rows, scene,
    scene_without_the_org,
};
use crate::harness::collector::try_subscribe;
use crate::harness::eventually;
use crate::harness::scene::Scene;
use crate::harness::worker::Process;

/// The only letter's id.
async fn only_letter(scene: &Scene) -> String {
    let letters = rows(&dead_letters(&scene.settings, &["list"]).await.expect(0));
    assert_eq!(letters.len(), 1, "letters");
    letters[0]["id"].as_str().expect("an id").to_owned()
}

async fn show(scene: &Scene, id: &str) -> Value {
    dead_letters(&scene.settings, &["show", id]).await.expect(0).json()
}

async fn act(scene: &Scene, action: &str, id: &str) {
    dead_letters(&scene.settings, &[action, id, "--reason", "test"]).await.expect(0);
}

/// Lets a worker process the messages that wait in the lane.
async fn drain(scene: &Scene, messages: u64) {
    eventually(DEADLINE, "the messages wait in the lane", async || {
        scene.place.broker.depth(LANE_QUEUE).filter(|depth| depth.ready == messages)
    })
    .await;
    let mut worker = Process::start(&scene.settings, "worker");
    eventually(DEADLINE, "the lane is empty", async || {
        is_empty(&scene.place, LANE_QUEUE).then_some(())
    })
    .await;
    worker.signal("TERM").await;
    assert!(worker.ended().await.success());
}

/// The letter's replay waits in a lane without a worker, and is taken back there.
async fn replayed_and_taken_back(name: &str) -> (Scene, String) {
    let mut scene = scene_without_the_org(name).await;
    bury(&mut scene, &[link("c-1", 1, "m-1")]).await;
    found_the_org(&mut scene).await;
    let id = only_letter(&scene).await;
    act(&scene, "replay", &id).await;
    act(&scene, "restore", &id).await;
    (scene, id)
}

#[tokio::test]
async fn a_letter_that_was_discarded_after_its_replay_was_taken_back_has_no_effect() {
    let (mut scene, id) = replayed_and_taken_back("taken back, discarded").await;
    act(&scene, "discard", &id).await;
    drain(&scene, 1).await;
    assert_eq!(scene.rows.history_count().await, 0, "effects");
    assert_eq!(show(&scene, &id).await["state"], "discarded");
}

#[tokio::test]
async fn an_edited_copy_has_the_only_effect_after_a_replay_was_taken_back() {
    let (mut scene, id) = replayed_and_taken_back("taken back, edited").await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("body.json");
    std::fs::write(&file, link("", 2, "m-2").body).expect("it is written");
    let path = file.to_str().expect("text");
    let edit = ["edit", &id, "--file", path, "--reason", "another customer"];
    let copy = dead_letters(&scene.settings, &edit).await.expect(0).json();
    let copy = copy["copy"].as_str().expect("an id").to_owned();
    drain(&scene, 2).await;
    assert_eq!(scene.rows.history_count().await, 1, "effects");
    assert_eq!(show(&scene, &id).await["state"], "superseded");
    assert_eq!(show(&scene, &copy).await["state"], "applied");
}

#[tokio::test]
async fn the_latest_replay_counts_and_no_earlier_one() {
    let (mut scene, id) = replayed_and_taken_back("taken back, replayed").await;
    act(&scene, "replay", &id).await;
    drain(&scene, 2).await;
    assert_eq!(scene.rows.history_count().await, 1, "effects");
    assert_eq!(show(&scene, &id).await["state"], "applied");
    let restored = dead_letters(&scene.settings, &["restore", &id, "--reason", "test"]).await;
    restored.expect(5);
    assert_eq!(show(&scene, &id).await["state"], "applied");
}

/// What was taken back is dropped before it is read, so no second letter of it comes about.
#[tokio::test]
async fn a_replay_that_was_taken_back_does_not_die() {
    let mut scene = scene_without_the_org("taken back, dies").await;
    bury(&mut scene, &[link("c-1", 1, "m-1")]).await;
    found_the_org(&mut scene).await;
    let id = only_letter(&scene).await;
    act(&scene, "replay", &id).await;
    act(&scene, "restore", &id).await;
    scene.rows.execute("update org set code = 'gone' where code = 'acme'").await;
    drain(&scene, 1).await;
    assert_eq!(only_letter(&scene).await, id);
    assert_eq!(show(&scene, &id).await["state"], "open");
}

/// The broker gives a command up that has taken effect: its worker never got to the ack.
async fn given_up_by_the_broker_after_its_effect(name: &str, message: &Message) -> Scene {
    let scene = scene(name).await;
    scene.publisher.publish(std::slice::from_ref(message)).await;
    drain(&scene, 1).await;
    scene.publisher.publish(std::slice::from_ref(message)).await;
    let (connection, mut consumer) =
        try_subscribe(&scene.place.amqp_url, LANE_QUEUE).await.expect("the broker answers");
    let delivery = consumer.next().await.expect("it comes").expect("it comes");
    delivery.nack(BasicNackOptions::default()).await.expect("it is rejected");
    drop(connection);
    scene
}

async fn archive_one(scene: &mut Scene) -> String {
    let worker = Process::start(&scene.settings, "archivist");
    archived(scene, 1).await;
    drop(worker);
    only_letter(scene).await
}

#[tokio::test]
async fn a_letter_of_a_command_that_took_effect_says_so() {
    let mut scene =
        given_up_by_the_broker_after_its_effect("given up, known", &link("c-1", 1, "m-1")).await;
    let id = archive_one(&mut scene).await;
    let shown = show(&scene, &id).await;
    assert_eq!(shown["state"], "applied");
    assert_eq!(shown["timeline"][0]["action"], "applied", "{shown}");
}

#[tokio::test]
async fn the_history_remembers_what_the_inbox_has_forgotten() {
    let message = link("c-1", 1, "m-1");
    let mut scene = given_up_by_the_broker_after_its_effect("given up, forgotten", &message).await;
    scene.rows.execute("delete from command_log").await;
    let id = archive_one(&mut scene).await;
    assert_eq!(show(&scene, &id).await["state"], "open");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("body.json");
    std::fs::write(&file, link("", 1, "m-2").body).expect("it is written");
    let path = file.to_str().expect("text");
    let edit = ["edit", &id, "--file", path, "--reason", "test"];
    let refused = dead_letters(&scene.settings, &edit).await.expect(5);
    assert!(refused.err().contains("took effect"), "{}", refused.err());
    assert_eq!(show(&scene, &id).await["state"], "applied");

    scene.rows.execute("update dead_letter set state = 'open'").await;
    let worker = Process::start(&scene.settings, "worker");
    let replay = ["replay", &id, "--reason", "test", "--wait", "100"];
    let report = dead_letters(&scene.settings, &replay).await.expect(0).json();
    assert_eq!(report["applied"], json!(1), "{report}");
    drop(worker);
    assert_eq!(scene.rows.history_count().await, 1, "effects");
}

/// Each death is a death: nothing but its place in the queue tells these two apart.
#[tokio::test]
async fn equal_bodies_without_an_id_are_two_letters_with_two_effects() {
    let mut scene = scene_without_the_org("equal bodies").await;
    let nameless = |correlation: &str| {
        let mut message = link("", 1, "m-1");
        message.properties.message_id = None;
        message.properties.correlation_id = Some(correlation.to_owned());
        message
    };
    bury(&mut scene, &[nameless("first"), nameless("second")]).await;
    let letters = rows(&dead_letters(&scene.settings, &["list"]).await.expect(0));
    let mut correlations: Vec<&str> =
        letters.iter().filter_map(|letter| letter["correlation_id"].as_str()).collect();
    correlations.sort_unstable();
    assert_eq!(correlations, ["first", "second"]);
    assert!(letters.iter().all(|letter| letter["deaths"] == 1), "{letters:?}");

    found_the_org(&mut scene).await;
    let worker = Process::start(&scene.settings, "worker");
    let replay = ["replay", "--all", "--yes", "--reason", "the org is known", "--wait", "100"];
    let report = dead_letters(&scene.settings, &replay).await.expect(0).json();
    assert_eq!(report["applied"], json!(2), "{report}");
    scene.publisher.publish(&[nameless("third")]).await;
    eventually(DEADLINE, "all three are answered", async || {
        (scene.rows.inbox().await.len() == 3).then_some(())
    })
    .await;
    drop(worker);
}
