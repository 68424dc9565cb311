//! A database and a broker that belong together, and those that don't.

use std::process::Output;
use std::time::Duration;

use chrono::Utc;
use serde_json::Value;

use crate::dead_letters::dead_letters;
use crate::harness::environment::TestEnv;
use crate::harness::eventually;
use crate::harness::management::Depth;
use crate::harness::publisher::{Publisher, command};
use crate::harness::servers::Place;
use crate::harness::worker::{Process, Settings};
use crate::harness::workload::{self, steps};
use crate::model::Model;

const DEADLINE: Duration = Duration::from_mins(1);
const LANE_QUEUE: &str = "partner-program.commands.main";

/// Two installations. The tests' databases are copies of one, so each first becomes one of its own.
async fn two(name: &str) -> (TestEnv, TestEnv) {
    let mut scenes = Vec::new();
    for which in ["one", "other"] {
        let model = Model::new(Utc::now(), workload::world());
        let place = Place::new(&format!("{name} {which}")).await;
        let settings = Settings::of(&place).with("ARCHIVE_DEAD_LETTERS", true);
        let apply = ["topology", "apply", "--new-installation", "--reason", "a copy"];
        assert_success(&settings.command(&apply).output().await.expect("the program starts"));
        let mut env = TestEnv::at(place, &model).await;
        env.settings = settings;
        scenes.push(env);
    }
    let other = scenes.pop().expect("two");
    (scenes.pop().expect("two"), other)
}

/// The database of the one, and the broker of the other.
fn mixed(one: &TestEnv, other: &TestEnv) -> Settings {
    one.settings.clone().with("AMQP_URL", &other.place.amqp_url)
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

fn assert_success(output: &Output) {
    assert!(output.status.success(), "{}", words(output));
}

async fn run(settings: &Settings, arguments: &[&str], code: i32) -> String {
    let output = settings.command(arguments).output().await.expect("the program starts");
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", words(&output));
    words(&output)
}

async fn id(env: &mut TestEnv) -> String {
    let database = env.settings.clone();
    let exported = run(&database, &["topology", "export"], 0).await;
    let exported: Value = serde_json::from_str(&exported).expect("JSON alone");
    let names = exported["exchanges"].as_array().expect("a list").iter();
    let id = names.filter_map(|exchange| {
        exchange["name"].as_str()?.strip_prefix("partner-program.installation.")
    });
    id.map(str::to_owned).next().expect("the installation's exchange is exported")
}

/// Waits until the queue has so many messages, and none is delivered.
async fn has(env: &TestEnv, queue: &str, ready: u64) {
    eventually(DEADLINE, &format!("{ready} messages wait in {queue}"), async || {
        env.place.broker.depth(queue).filter(|depth| *depth == Depth { ready, unacked: 0 })
    })
    .await;
}

/// Of each check of `doctor` the state and the words.
async fn doctor(settings: &Settings, check: &str) -> (String, String) {
    let doctor = settings.command(&["doctor", "-o", "json"]).output().await.expect("it starts");
    let checks: Value = serde_json::from_slice(&doctor.stdout).expect("JSON");
    let found = checks.as_array().expect("a list").iter().find(|one| one["check"] == check);
    let found = found.unwrap_or_else(|| panic!("no check {check}: {checks:#}"));
    let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
    (text("state"), text("detail"))
}

#[tokio::test]
async fn nothing_is_replayed_or_published_to_another_installations_broker() {
    let (mut one, other) = two("replay elsewhere").await;
    let mut worker = Process::start(&one.settings, "undertaker");
    let broken = command("acme.link", Some("broken"), "no JSON");
    one.publisher.publish(&[broken, steps(0..1).remove(0)]).await;
    eventually(DEADLINE, "a letter and an effect are stored", async || {
        let stored =
            "select (select count(*) from dead_letter) + (select count(*) from command_log)";
        (one.rows.count(stored).await == 2).then_some(())
    })
    .await;
    worker.signal("TERM").await;
    assert!(worker.ended().await.success());
    // It would be replayed by now.
    let sound = "update dead_letter set body = (select convert_to(replace(convert_from(body, 'UTF8'), \
         'no JSON', '{\"linkCustomers\":[]}'), 'UTF8'))";
    one.rows.execute(sound).await;
    let settings = mixed(&one, &other);
    let replay = ["replay", "--all", "--yes", "--reason", "test"];
    let refused = dead_letters(&settings, &replay).await.expect(5);
    assert!(refused.err().contains("another installation"), "{}", refused.err());
    let open = "select count(*) from dead_letter where state = 'open'";
    assert_eq!(one.rows.count(open).await, 1, "the letter is still there to be replayed");
    let republish = ["results", "republish", "--org", "acme", "--since", "2026-01-01T00:00:00Z"];
    let said = run(&settings, &republish, 5).await;
    assert!(said.contains("another installation"), "{said}");
    has(&other, LANE_QUEUE, 0).await;
    dead_letters(&one.settings, &replay).await.expect(0);
}

#[tokio::test]
async fn no_worker_subscribes_at_another_installations_broker() {
    let (mut one, mut other) = two("worker elsewhere").await;
    let (own, theirs) = (id(&mut one).await, id(&mut other).await);
    assert_ne!(own, theirs);
    let settings = mixed(&one, &other);
    // Its dead letters are none of this database's, either.
    let publisher = Publisher::open(&other.place.amqp_url).await;
    let mut letter = command("acme.link", Some("theirs"), "no JSON");
    letter.exchange = "partner-program.dead-letters".to_owned();
    publisher.publish(&[steps(0..1).remove(0), letter]).await;
    let mut worker = Process::start(&settings, "lost");
    eventually(DEADLINE, "it says what is wrong", async || {
        let words = worker.words();
        let told = words.contains("another installation") && words.contains(&own);
        told.then_some(())
    })
    .await;
    for queue in [LANE_QUEUE, "partner-program.dead-letters"] {
        has(&other, queue, 1).await;
    }
    assert_eq!(one.rows.count("select count(*) from dead_letter").await, 0);
    let (state, detail) = doctor(&settings, "installation").await;
    assert_eq!(state, "fail", "{detail}");
    assert_eq!(doctor(&one.settings, "installation").await.0, "ok");
    worker.signal("TERM").await;
    assert!(worker.ended().await.success(), "{}", worker.words());

    // Who applies is told whose it is, and nothing is changed.
    let said = run(&settings, &["topology", "apply"], 5).await;
    assert!(said.contains(&theirs) && said.contains("--adopt"), "{said}");
    let said = run(&settings, &["topology", "check"], 5).await;
    assert!(said.contains("another installation"), "{said}");
    // Not under the feet of those who work there.
    let mut resident = Process::start(&other.settings, "resident");
    eventually(DEADLINE, "their command is applied", async || {
        (other.rows.count("select count(*) from command_log").await == 1).then_some(())
    })
    .await;
    let adopt = ["topology", "apply", "--adopt", "--reason", "OPS-7"];
    let said = run(&settings, &adopt, 5).await;
    assert!(said.contains("consumer"), "{said}");
    resident.signal("TERM").await;
    assert!(resident.ended().await.success(), "{}", resident.words());
    run(&settings, &adopt, 0).await;
    let noted = format!(
        "select count(*) from installation_change where kind = 'adopt' and former_id = '{theirs}' and reason = 'OPS-7'"
    );
    assert_eq!(one.rows.count(&noted).await, 1, "an adoption is noted");
    let said = run(&other.settings, &["topology", "apply"], 5).await;
    assert!(said.contains(&own), "{said}");
    let worker = Process::start(&settings, "adopted");
    publisher.publish(&steps(1..2)).await;
    eventually(
        DEADLINE,
        "a command is applied in the database that adopted the broker",
        async || (one.rows.count("select count(*) from command_log").await == 1).then_some(()),
    )
    .await;
    drop(worker);
}

#[tokio::test]
async fn a_broker_that_was_built_anew_is_waited_for_and_applied_again() {
    let model = Model::new(Utc::now(), workload::world());
    let mut env = TestEnv::new("built anew", &model).await;
    let id = id(&mut env).await;
    env.place.broker.delete_exchange(&format!("partner-program.installation.{id}"));
    env.place.broker.delete_exchange("partner-program.installation");
    let worker = Process::start(&env.settings, "waits");
    eventually(DEADLINE, "it says what to do", async || {
        worker.words().contains("topology apply").then_some(())
    })
    .await;
    env.publisher.publish(&steps(0..1)).await;
    has(&env, LANE_QUEUE, 1).await;
    run(&env.settings, &["topology", "apply"], 0).await;
    eventually(DEADLINE, "the command is applied", async || {
        (env.rows.count("select count(*) from command_log").await == 1).then_some(())
    })
    .await;
    drop(worker);
}
