//! Replays: followed to their outcome, in the order of death, each once.

use serde_json::json;

use crate::dead_letters::{
    DEADLINE, LANE_QUEUE, archived, bury, dead_letters, env, found_the_org, link, refuse, rows,
    scene_without_the_org,
};
use crate::harness::collector::Collector;
use crate::harness::eventually;
use crate::harness::worker::Process;
use crate::harness::workload::steps;

#[tokio::test]
async fn a_replay_is_followed_to_applied_or_failed_again() {
    let mut env = env("outcomes").await;
    refuse(&mut env, &["bad", "worse"]).await;
    bury(&mut env, &[link("c-1", 1, "bad"), link("c-2", 2, "worse")]).await;
    // Only one of them was put right.
    env.rows.execute("delete from poison where membership_id = 'bad'").await;
    let worker = Process::start(&env.settings, "worker");
    let replay = [
        "replay",
        "--cause",
        "processing-failed",
        "--yes",
        "--reason",
        "put right",
        "--wait",
        "100",
    ];
    let report = dead_letters(&env.settings, &replay).await.expect(6).json();
    assert_eq!(
        (&report["done"], &report["applied"], &report["failed_again"]),
        (&json!(2), &json!(1), &json!(1))
    );

    let state = |id: &'static str| {
        let settings = env.settings.clone();
        async move { rows(&dead_letters(&settings, &["list", "--command-id", id]).await.expect(0)) }
    };
    let applied = state("c-1").await;
    assert_eq!((applied.len(), &applied[0]["state"]), (1, &json!("applied")));
    let failed = state("c-2").await;
    assert_eq!(failed.len(), 2);
    let (new, old) = (&failed[0], &failed[1]);
    assert_eq!((&new["state"], &old["state"]), (&json!("open"), &json!("failed_again")));
    assert_eq!(new["replay_of"], old["id"]);
    assert_eq!(new["first_died_at"], old["first_died_at"]);
    let groups = rows(&dead_letters(&env.settings, &["groups"]).await.expect(0));
    assert_eq!(groups.len(), 1, "the letter that came back is of the same group");
    assert_eq!(
        (&groups[0]["replayed"], &groups[0]["failed_again"], &groups[0]["open"]),
        (&json!(2), &json!(1), &json!(1))
    );

    // Its last obstacle goes, and so does it.
    env.rows.execute("delete from poison").await;
    let id = new["id"].as_str().expect("an id");
    let again = ["replay", id, "--reason", "all is well", "--wait", "100"];
    let report = dead_letters(&env.settings, &again).await.expect(0).json();
    assert_eq!(report["applied"], json!(1));
    let shown = dead_letters(&env.settings, &["show", id]).await.expect(0).json();
    let deeds: Vec<_> = shown["timeline"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|deed| {
            (
                deed["action"].as_str().unwrap_or_default(),
                deed["actor"].as_str().unwrap_or_default(),
            )
        })
        .collect();
    assert_eq!(deeds, [("replay", "olivia"), ("applied", "worker")]);
    drop(worker);
}

#[tokio::test]
async fn replays_are_in_the_order_of_death_and_without_what_was_added() {
    let mut env = scene_without_the_org("order of death").await;
    let mut steps = steps(0..300);
    steps[0].properties.headers.insert("own".to_owned(), "kept".into());
    steps[0].properties.correlation_id = Some("c".to_owned());
    bury(&mut env, &steps).await;
    found_the_org(&mut env).await;
    let replay = ["replay", "--all", "--yes", "--reason", "the org is known", "--limit", "299"];
    let report = dead_letters(&env.settings, &replay).await.expect(0).json();
    assert_eq!(report["done"], json!(299));
    let mut lane = Collector::of_queue(&env.place.amqp_url, LANE_QUEUE);
    let replayed = lane.read(299, DEADLINE).await;
    let of = |message: &partner_program_worker::message::Message| {
        (message.properties.message_id.clone(), message.body.clone())
    };
    let sent: Vec<_> = steps.iter().take(299).map(of).collect();
    let got: Vec<_> = replayed.iter().map(|m| (m.message_id.clone(), m.body.clone())).collect();
    assert!(got == sent, "other commands, or in another order");
    let first = &replayed[0];
    let names: Vec<String> = first.headers.inner().keys().map(ToString::to_string).collect();
    assert_eq!(names, ["own", "replay-number", "replay-of"]);
    assert_eq!(first.correlation_id.as_deref(), Some("c"));
    assert_eq!(first.routing_key, steps[0].routing_key);
}

#[tokio::test]
async fn a_command_without_an_id_counts_once_however_often_it_is_replayed() {
    let mut env = scene_without_the_org("no id").await;
    let mut nameless = link("", 1, "m-1");
    nameless.properties.message_id = None;
    bury(&mut env, &[nameless]).await;
    found_the_org(&mut env).await;
    let letters = rows(&dead_letters(&env.settings, &["list"]).await.expect(0));
    let id = letters[0]["id"].as_str().expect("an id").to_owned();
    for _ in 0..2 {
        dead_letters(&env.settings, &["replay", &id, "--reason", "test"]).await.expect(0);
        dead_letters(&env.settings, &["restore", &id, "--reason", "nothing heard"]).await.expect(0);
    }
    let worker = Process::start(&env.settings, "worker");
    let replay = ["replay", &id, "--reason", "once more", "--wait", "100"];
    let report = dead_letters(&env.settings, &replay).await.expect(0).json();
    assert_eq!(report["applied"], json!(1));
    drop(worker);
    assert_eq!(env.rows.history_count().await, 1, "effects");
    assert_eq!(env.rows.inbox().await.keys().next().map(|(_, command)| command.clone()), Some(id));
}

#[tokio::test]
async fn where_publishers_are_bound_to_orgs_replays_go_out_as_the_user_of_the_broker() {
    let mut env = env("publishers").await;
    let bound = |user: &str| env.settings.clone().with("PUBLISHERS", format!("{user}=acme"));
    let (ours, others) = (bound("guest"), bound("upstream"));
    env.settings = ours;
    // It says nobody's name.
    bury(&mut env, &[link("c-1", 1, "m-1")]).await;
    let letters = rows(&dead_letters(&env.settings, &["list"]).await.expect(0));
    let id = letters[0]["id"].as_str().expect("an id");
    let replay = ["replay", id, "--override-publisher", "--reason", "by us", "--wait", "100"];
    dead_letters(&others, &replay).await.expect(5);
    let worker = Process::start(&env.settings, "worker");
    let report = dead_letters(&env.settings, &replay).await.expect(0).json();
    assert_eq!(report["applied"], json!(1));
    drop(worker);
}

#[tokio::test]
async fn what_a_worker_would_refuse_again_is_left_alone() {
    let mut env = scene_without_the_org("dry run").await;
    let mut unknown = link("c-1", 1, "m-1");
    unknown.routing_key = "nobody.link".to_owned();
    bury(&mut env, &[super::broken(1), super::broken(2), link("c-2", 1, "m-1"), unknown]).await;
    found_the_org(&mut env).await;
    let before = env.rows.archive_digest().await;
    let preview =
        dead_letters(&env.settings, &["replay", "--all", "--dry-run"]).await.expect(0).json();
    assert_eq!(preview["eligible"], json!(1));
    let skipped: u64 = preview["skipped"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|skipped| skipped["letters"].as_u64().unwrap_or_default())
        .sum();
    assert_eq!(skipped, 3);
    assert!(preview.to_string().contains("not-json"), "{preview}");
    assert!(preview.to_string().contains("catalogue"), "{preview}");
    assert_eq!(env.rows.archive_digest().await, before, "a dry run changes nothing");
    eventually(DEADLINE, "nothing is queued", async || {
        super::is_empty(&env.place, LANE_QUEUE).then_some(())
    })
    .await;

    let report =
        dead_letters(&env.settings, &["replay", "--all", "--yes", "--reason", "test"]).await;
    let report = report.expect(6).json();
    assert_eq!((&report["done"], &report["skipped"]), (&json!(1), &json!(3)));
    eventually(DEADLINE, "it is queued", async || {
        env.place.broker.depth(LANE_QUEUE).filter(|depth| depth.ready == 1)
    })
    .await;
    archived(&mut env, 4).await;
}
