//! Who published a command decides whether its replay has effect, not who replays it.

use serde_json::json;

use super::archive::{header, sent};
use crate::dead_letters::{DEADLINE, QUEUE, archived, bury, dead_letters, env, link, rows};
use crate::harness::eventually;
use crate::harness::publisher::Publisher;
use crate::harness::worker::Process;
use crate::hostile::raw::{HEADERS, MESSAGE_ID, RawPublisher, long, short};

const PASSWORD: &str = "secret";

#[tokio::test]
async fn a_replay_gives_no_publisher_a_right_that_it_has_not() {
    let mut env = env("re-authorisation").await;
    // Workers and operators have a name that a URL must quote.
    let ours = format!("svc@acme-{}", uuid::Uuid::new_v4().simple());
    env.place.broker.create_user(&ours, PASSWORD);
    let (_, server) = env.place.amqp_url.rsplit_once('@').expect("a URL with a user");
    let url = format!("amqp://{}:{PASSWORD}@{server}", ours.replace('@', "%40"));
    let settings = env.settings.clone().with("AMQP_URL", url);
    let bound = |orgs: &str| settings.clone().with("PUBLISHERS", format!("{ours}=acme;{orgs}"));
    env.settings = bound("guest=globex");
    let mut messages = [link("c-1", 1, "m-1"), link("c-2", 2, "m-2")];
    for message in &mut messages {
        message.properties.user_id = Some("guest".to_owned());
    }
    env.publisher = Publisher::open(&env.place.amqp_url).await;
    bury(&mut env, &messages).await;

    let mut worker = Process::start(&env.settings, "worker");
    let replay_all = ["replay", "--all", "--yes", "--reason", "test"];
    let report = dead_letters(&env.settings, &replay_all).await.expect(5);
    assert!(report.out.contains("--override-publisher"), "{}", report.out);
    let unnamed = [&replay_all[..], &["--override-publisher"]].concat();
    let refused = dead_letters(&env.settings, &unnamed).await.expect(2);
    assert!(refused.err().contains("name one letter"), "{}", refused.err());

    let letters = rows(&dead_letters(&env.settings, &["list", "--command-id", "c-1"]).await);
    let id = letters[0]["id"].as_str().expect("an id").to_owned();
    let alone =
        ["replay", &id, "--override-publisher", "--reason", "asked by acme", "--wait", "100"];
    let report = dead_letters(&env.settings, &alone).await.expect(0).json();
    assert_eq!(report["applied"], json!(1), "{report}");
    let shown = dead_letters(&env.settings, &["show", &id]).await.expect(0).json();
    assert_eq!(shown["timeline"][0]["action"], "override_publisher", "{shown}");
    worker.signal("TERM").await;
    assert!(worker.ended().await.success());

    // Today's mapping counts, not that of the day when it died.
    let allowing = bound("guest=acme");
    let worker = Process::start(&allowing, "allowing");
    let replay_all = [&replay_all[..], &["--wait", "100"]].concat();
    let report = dead_letters(&allowing, &replay_all).await.expect(0).json();
    assert_eq!(report["applied"], json!(1), "{report}");
    drop(worker);
    assert_eq!(env.rows.history_count().await, 2, "effects");
    env.place.broker.delete_user(&ours);
}

/// The mapping may change while a replay waits in its lane.
#[tokio::test]
async fn the_worker_judges_the_publisher_when_the_replay_arrives() {
    let mut env = env("re-authorisation, late").await;
    let settings = env.settings.clone();
    let bound = |orgs: &str| settings.clone().with("PUBLISHERS", orgs);
    let user = format!("crm-{}", uuid::Uuid::new_v4().simple());
    env.place.broker.create_user(&user, PASSWORD);
    let (_, server) = env.place.amqp_url.rsplit_once('@').expect("a URL with a user");
    env.publisher = Publisher::open(&format!("amqp://{user}:{PASSWORD}@{server}")).await;
    env.settings = bound("guest=acme");
    let mut message = link("c-1", 1, "m-1");
    message.properties.user_id = Some(user.clone());
    bury(&mut env, &[message]).await;
    let allowing = bound(&format!("guest=acme;{user}=acme"));
    dead_letters(&allowing, &["replay", "--all", "--yes", "--reason", "test"]).await.expect(0);
    let worker = Process::start(&env.settings, "strict");
    eventually(DEADLINE, "the replay dies again", async || {
        (env.rows.count("select count(*) from dead_letter where state = 'failed_again'").await == 1)
            .then_some(())
    })
    .await;
    drop(worker);
    assert_eq!(env.rows.history_count().await, 0, "effects");
    env.place.broker.delete_user(&user);
}

/// A header of a message in the dead-letter queue does not prove who published it.
#[tokio::test]
async fn a_letter_that_no_worker_has_written_does_not_say_who_published_it() {
    let mut env = env("forged publisher").await;
    env.settings = env.settings.with("PUBLISHERS", "guest=acme");
    let mut raw = RawPublisher::open(&env.place.amqp_url).await;
    let headers = [
        header(b"x-user-id", b"guest"),
        header(b"x-reason", b"processing-failed"),
        header(b"x-original-routing-key", b"acme.link"),
    ];
    let properties = vec![(HEADERS, long(&headers.concat())), (MESSAGE_ID, short(b"c-1"))];
    raw.publish_to(QUEUE, &sent(properties, link("", 1, "m-1").body)).await;
    let worker = Process::start(&env.settings, "archivist");
    archived(&mut env, 1).await;
    let letters = rows(&dead_letters(&env.settings, &["list"]).await.expect(0));
    let id = letters[0]["id"].as_str().expect("an id");
    let shown = dead_letters(&env.settings, &["show", id]).await.expect(0).json();
    assert_eq!(shown["user_id"], json!(null), "{shown}");
    let replay = ["replay", id, "--reason", "test"];
    dead_letters(&env.settings, &replay).await.expect(5);
    drop(worker);
}
