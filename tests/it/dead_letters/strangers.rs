//! Publishers that may not publish here can't fill the archive, nor the log.

use serde_json::json;

use crate::dead_letters::{
    DEADLINE, QUEUE, archived, broken, bury, dead_letters, env, found_the_org, link, rows,
    scene_without_the_org,
};
use crate::harness::eventually;
use crate::harness::management::Depth;
use crate::harness::worker::Process;

/// A command of some kilobytes, for an org.
fn large(org: &str, number: usize) -> partner_program_worker::message::Message {
    let mut message = link(&format!("large-{org}-{number}"), 1, "m-1");
    message.routing_key = format!("{org}.link");
    message.body.resize(20_000, b' ');
    message
}

#[tokio::test]
async fn beyond_their_quota_strangers_letters_are_kept_in_part() {
    let mut env = scene_without_the_org("quota").await;
    env.settings = env.settings.with("STRANGER_LETTERS_MAX_BYTES", 100_000);
    let messages: Vec<_> = (0..20).map(|number| large("acme", number)).collect();
    bury(&mut env, &messages).await;
    let whole = "select count(*) from dead_letter where octet_length(body) = 20000";
    let cut = "select count(*) from dead_letter where octet_length(body) = 4096 \
               and provenance->>'x-body-length' = '20000' \
               and length(provenance->>'x-body-sha256') = 64";
    let (whole, cut) = (env.rows.count(whole).await, env.rows.count(cut).await);
    assert_eq!(whole + cut, 20);
    assert!((2..=5).contains(&whole), "{whole} are whole");

    found_the_org(&mut env).await;
    let report = dead_letters(&env.settings, &["replay", "--all", "--dry-run"]).await.expect(0);
    assert_eq!(report.json()["eligible"], json!(whole));

    // Letters of those who may publish are whole, whatever strangers send.
    let worker = Process::start(&env.settings, "worker");
    let mut own = broken(1);
    own.body.resize(20_000, b'!');
    env.publisher.publish(&[own]).await;
    archived(&mut env, 21).await;
    drop(worker);
    let kept = "select max(octet_length(body))::bigint from dead_letter where reason = 'not-json'";
    assert_eq!(env.rows.count(kept).await, 20_000);
}

#[tokio::test]
async fn orgs_that_do_not_exist_are_one_group_until_they_do() {
    let mut env = scene_without_the_org("made-up orgs").await;
    let of = |org: String| {
        let mut message = link(&format!("c-{org}"), 1, "m-1");
        message.routing_key = format!("{org}.link");
        message
    };
    let made_up: Vec<_> = (0..50).map(|number| of(format!("org{number}"))).collect();
    let mut messages = made_up;
    messages.push(of("acme".to_owned()));
    messages.push(of("zebra".to_owned()));
    bury(&mut env, &messages).await;
    let groups = rows(&dead_letters(&env.settings, &["groups"]).await.expect(0));
    assert_eq!(groups.len(), 1, "{groups:?}");
    assert_eq!(groups[0]["open"], json!(52));
    assert_eq!(env.rows.count("select count(*) from dead_letter_group").await, 1, "counts");
    let of_org = |org: &'static str, settings: &crate::harness::worker::Settings| {
        let settings = settings.clone();
        async move { rows(&dead_letters(&settings, &["groups", "--org", org]).await.expect(0)) }
    };
    let zebra = of_org("zebra", &env.settings).await;
    assert_eq!((zebra.len(), &zebra[0]["open"]), (1, &json!(1)), "{zebra:?}");

    found_the_org(&mut env).await;
    let acme = of_org("acme", &env.settings).await;
    assert_eq!((acme.len(), &acme[0]["open"]), (1, &json!(1)), "{acme:?}");
    let worker = Process::start(&env.settings, "worker");
    let replay = ["replay", "--org", "acme", "--yes", "--reason", "founded", "--wait", "100"];
    let report = dead_letters(&env.settings, &replay).await.expect(0).json();
    assert_eq!(report["applied"], json!(1));
    drop(worker);
}

#[tokio::test]
async fn a_full_archive_leaves_the_letters_in_their_queue_and_says_so() {
    let mut env = env("full archive").await;
    let large = |number: usize| {
        let mut message = broken(number);
        message.body.resize(50_000, b'!');
        message
    };
    bury(&mut env, &(0..30).map(large).collect::<Vec<_>>()).await;
    let bounded = |bytes: u64| {
        let settings = env.settings.clone().with("OPS_LISTEN", "127.0.0.1:0");
        settings.with("DEAD_LETTERS_MAX_BYTES", bytes)
    };
    let mut worker = Process::start(&bounded(1_000_000), "full");
    env.publisher.publish(&(30..35).map(large).collect::<Vec<_>>()).await;
    eventually(DEADLINE, "letters wait in their queue", async || {
        env.place.broker.depth(QUEUE).filter(|depth| depth.ready == 5)
    })
    .await;
    eventually(DEADLINE, "the log says so", async || {
        worker.words().contains("dead_letters_max_bytes").then_some(())
    })
    .await;
    let metrics = eventually(DEADLINE, "the metric is there", async || {
        let text = worker.text("/metrics").await?;
        text.contains("dead_letters_bytes ").then_some(text)
    })
    .await;
    assert!(metrics.contains("dead_letters_max_bytes 1000000"), "{metrics}");
    worker.signal("TERM").await;
    assert!(worker.ended().await.success());
    assert_eq!(env.rows.archived_commands().await.len(), 30, "letters");

    let worker = Process::start(&bounded(100_000_000), "roomy");
    eventually(DEADLINE, "all are archived", async || {
        (env.rows.archived_commands().await.len() == 35
            && env.place.broker.depth(QUEUE) == Some(Depth::default()))
        .then_some(())
    })
    .await;
    drop(worker);
}

#[tokio::test]
async fn a_flood_of_letters_is_a_few_lines_in_the_log() {
    let mut env = env("flood of letters").await;
    let mut worker = Process::start(&env.settings, "flooded");
    env.publisher.publish(&(0..2_000).map(broken).collect::<Vec<_>>()).await;
    archived(&mut env, 2_000).await;
    worker.signal("TERM").await;
    assert!(worker.ended().await.success());
    let words = worker.words();
    let lines: Vec<&str> = words.lines().filter(|line| line.contains("dead letter")).collect();
    assert!(lines.len() < 20, "{} lines", lines.len());
    let told: usize = lines
        .iter()
        .filter_map(|line| {
            line.split("not-json: ").nth(1)?.split([',', ')']).next()?.parse::<usize>().ok()
        })
        .sum();
    assert_eq!(told, 2_000, "each is counted once: {lines:?}");
}
