//! Commands reach their own lane, whatever else is bound to the broker, and whatever lanes there were.

use std::time::Duration;

use chrono::Utc;
use partner_program_worker::message::Message;
use serde_json::{Value, json};

use crate::dead_letters::dead_letters;
use crate::harness::collector::Collector;
use crate::harness::environment::TestEnv;
use crate::harness::eventually;
use crate::harness::management::Depth;
use crate::harness::worker::{Process, Settings};
use crate::harness::workload;
use crate::model::Model;

/// Long enough for a slow machine; reached only by a failure.
const DEADLINE: Duration = Duration::from_mins(2);
const COMMANDS: &str = "partner-program.commands";
const STORED: &str = "select count(*) from command_log";

async fn env(name: &str) -> TestEnv {
    let mut env = TestEnv::new(name, &Model::new(Utc::now(), workload::world())).await;
    env.settings = env.settings.with("ARCHIVE_DEAD_LETTERS", true);
    env
}

async fn stored(env: &mut TestEnv, commands: usize) {
    let rows = &mut env.rows;
    eventually(DEADLINE, &format!("{commands} commands are stored"), async || {
        (rows.count(STORED).await == commands).then_some(())
    })
    .await;
}

async fn archived(env: &mut TestEnv, reason: &str, letters: usize) {
    let rows = &mut env.rows;
    let query = format!("select count(*) from dead_letter where reason = '{reason}'");
    eventually(DEADLINE, &format!("{letters} letters are archived"), async || {
        (rows.count(&query).await == letters).then_some(())
    })
    .await;
}

/// Runs a command of the program; its exit code, and what it says on standard error.
async fn run(settings: &Settings, arguments: &[&str]) -> (Option<i32>, String) {
    let running = settings.command(arguments).output();
    let output = tokio::time::timeout(DEADLINE, running).await.expect("it ends in time");
    let output = output.expect("the program starts");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn with_header(mut message: Message, name: &str, value: Value) -> Message {
    message.properties.headers.insert(name.to_owned(), value);
    message
}

#[tokio::test]
async fn what_others_bind_or_copy_takes_no_command_away() {
    let mut env = env("routing_tap").await;
    let url = &env.place.amqp_url;
    let tap = Collector::bound(url, "tap", Some((COMMANDS, "#"))).await;
    let copies = Collector::bound(url, "copies", Some((COMMANDS, "copies.please"))).await;
    let worker = Process::start(&env.settings, "tested");
    let mut steps = workload::steps(0..10);
    steps[3] = with_header(steps[3].clone(), "CC", json!(["copies.please"]));
    steps[4] = with_header(steps[4].clone(), "BCC", json!(["copies.please", "of.none"]));
    env.publisher.publish(&steps).await;
    stored(&mut env, 10).await;
    for (mut queue, count) in [(tap, 10), (copies, 2)] {
        queue.read(count, DEADLINE).await;
    }
    drop(worker);
}

#[tokio::test]
async fn a_command_that_comes_through_another_lane_is_not_applied_there() {
    let mut env = env("routing_copy").await;
    env.settings = env.settings.with("LANES", "second=globex.#;third=initech.#");
    env.settings.declare().await;
    let _worker = Process::start(&env.settings, "tested");
    let steps = workload::steps(0..3);
    // The first goes to `second` alone, past `main`; the others go to their lane as well.
    let led_astray = with_header(steps[0].clone(), "CC", json!(["globex.link"]));
    env.publisher.publish(&[led_astray]).await;
    archived(&mut env, "wrong-lane", 1).await;
    let lanes = env.rows.texts("select lane from dead_letter").await;
    assert_eq!((lanes, env.rows.count(STORED).await), (vec!["second".to_owned()], 0));
    assert_eq!(env.rows.count("select count(*) from enrolment where org_id > 0").await, 0);

    let replay = ["replay", "--cause", "wrong-lane", "--reason", "r", "--yes"];
    dead_letters(&env.settings, &replay).await.expect(0);
    stored(&mut env, 1).await;
    assert_eq!(env.rows.texts("select lane from command_log").await, ["main"]);
    env.publisher.publish(&steps[1..]).await;
    stored(&mut env, 3).await;
    archived(&mut env, "wrong-lane", 1).await;
}

#[tokio::test]
async fn a_worker_with_other_lanes_than_the_routing_map_does_not_subscribe() {
    let mut env = env("routing_renamed").await;
    let old = env.settings.clone().with("LANES", "old=acme.#");
    old.declare().await;
    let new = env.settings.clone().with("LANES", "new=acme.#");
    let (code, said) = run(&new, &["topology", "apply"]).await;
    assert_eq!(code, Some(0), "{said}");
    let old_worker = Process::start(&old, "old");
    let _new_worker = Process::start(&new, "new");
    env.publisher.publish(&workload::steps(0..20)).await;
    stored(&mut env, 20).await;
    let lanes = env.rows.texts("select distinct lane from command_log").await;
    assert_eq!(lanes, ["new"]);
    eventually(DEADLINE, "the old lane's queue is empty", async || {
        let depth = env.place.broker.depth("partner-program.commands.old")?;
        (depth == Depth::default()).then_some(())
    })
    .await;
    eventually(DEADLINE, "the old worker says why", async || {
        let words = old_worker.words();
        let named = "the routing map has a lane `new`, the configuration has none";
        (words.contains("does not subscribe") && words.contains(named)).then_some(())
    })
    .await;
    let subscribed = "subscribed to";
    assert!(!old_worker.words().contains(subscribed), "{}", old_worker.words());

    // Once the map is that of its configuration, it works.
    run(&new, &["lanes", "pause", "new", "--reason", "r"]).await;
    eventually(DEADLINE, "the new worker has left", async || {
        let (code, _) = run(&old, &["topology", "apply"]).await;
        (code == Some(0)).then_some(())
    })
    .await;
    env.publisher.publish(&workload::steps(20..25)).await;
    stored(&mut env, 25).await;
    let lanes = env.rows.texts("select distinct lane from command_log order by lane").await;
    assert_eq!(lanes, ["new", "old"]);
}

#[tokio::test]
async fn a_change_that_would_reorder_waiting_commands_is_refused() {
    let mut env = env("routing_refused").await;
    env.publisher.publish(&workload::steps(0..5)).await;
    let new = env.settings.clone().with("LANES", "vip=acme.#");
    eventually(DEADLINE, "the commands wait", async || {
        let depth = env.place.broker.depth("partner-program.commands.main")?;
        (depth.ready == 5).then_some(())
    })
    .await;
    let (code, said) = run(&new, &["topology", "apply"]).await;
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("5 commands wait in lane `main`"), "{said}");
    assert!(said.contains("partner-program lanes move 'acme.#' --to vip"), "{said}");
    // Nothing was changed, and nothing stands still.
    let worker = Process::start(&env.settings, "tested");
    stored(&mut env, 5).await;
    assert_eq!(env.rows.texts("select distinct lane from command_log").await, ["main"]);
    // Once nothing waits, it is applied beside a worker.
    let (code, said) = run(&new, &["topology", "apply"]).await;
    assert_eq!(code, Some(0), "{said}");
    let _new_worker = Process::start(&new, "new");
    env.publisher.publish(&workload::steps(5..10)).await;
    stored(&mut env, 10).await;
    let lanes = env.rows.texts("select distinct lane from command_log order by lane").await;
    assert_eq!(lanes, ["main", "vip"]);
    drop(worker);
}

#[tokio::test]
async fn an_apply_that_dies_holds_its_lanes_until_it_has_come_to_its_end() {
    let mut env = env("routing_died").await;
    let worker = Process::start(&env.settings, "tested");
    let new = env.settings.clone().with("LANES", "vip=acme.#");
    let dying = new.clone().failing("apply-bound=return(abort)");
    let (code, said) = run(&dying, &["topology", "apply"]).await;
    assert_eq!(code, None, "{said}");
    env.publisher.publish(&workload::steps(0..3)).await;
    // Nothing is worked, and it is said why and what to do.
    let (_, said) = run(&env.settings, &["lanes", "resume", "main"]).await;
    assert!(said.contains("`topology apply` is under way; if it has died, run it again"), "{said}");
    assert_eq!(env.rows.count(STORED).await, 0);
    // Commands have taken the new way already: there is no way back before the end.
    let (code, said) = run(&env.settings, &["topology", "apply"]).await;
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("it gave `acme.#` to lane `vip`"), "{said}");
    let (code, said) = run(&new, &["topology", "apply"]).await;
    assert_eq!(code, Some(0), "{said}");
    let _new_worker = Process::start(&new, "new");
    env.publisher.publish(&workload::steps(3..6)).await;
    stored(&mut env, 6).await;
    assert_eq!(env.rows.texts("select distinct lane from command_log").await, ["vip"]);
    drop(worker);
}

#[tokio::test]
async fn a_move_that_can_not_be_is_refused_by_name() {
    let mut env = env("routing_refusals").await;
    let lanes = "vip=acme.*.7;other=globex.#";
    env.settings = env.settings.with("LANES", lanes);
    env.settings.declare().await;
    for (arguments, code, says) in [
        (&["acme.#", "--to", "vpi", "--reason", "r"][..], 3, "there is main, other, vip"),
        (&["acme..#", "--to", "vip", "--reason", "r"], 2, "is no topic pattern"),
        (&["#", "--to", "vip", "--reason", "r"], 2, "would take every command"),
        (&["--org", "acne", "--to", "vip", "--reason", "r"], 3, "no org has the code `acne`"),
        (&["acme.#", "--to", "other", "--reason", "r"], 2, "match the same routing key"),
        (&["acme.*.7", "--to", "vip", "--reason", "r"], 3, "takes `acme.*.7` already"),
        (&["acme.*.7", "--reason", "r"], 2, "--to LANE"),
        (&["--to", "vip", "--reason", "r"], 2, "--org"),
        (&["acme.*.7", "--to", "main"], 2, "--reason"),
        (&["--resume"], 5, "no move is under way"),
    ] {
        let (found, said) = run(&env.settings, &[&["lanes", "move"], arguments].concat()).await;
        assert!(found == Some(code) && said.contains(says), "{arguments:?}: {found:?} {said}");
    }
    let changes = env.rows.count("select count(*) from routing_change where kind = 'move'").await;
    assert_eq!(changes, 0);
}

#[tokio::test]
async fn a_binding_that_is_lost_is_made_again_within_a_minute_or_at_the_start() {
    let mut env = env("routing_lost").await;
    env.settings = env.settings.with("LANES", "vip=acme.#");
    env.settings.declare().await;
    let worker = Process::start(&env.settings, "tested");
    env.publisher.publish(&workload::steps(0..1)).await;
    stored(&mut env, 1).await;
    let lose = || {
        let broker = &env.place.broker;
        let routing = "partner-program.commands.routing";
        broker.unbind(routing, "partner-program.commands.vip", "acme.#");
        broker.unbind("partner-program.commands.unbound", "partner-program.commands.main", "");
    };
    lose();
    let bound = async |deadline: Duration| {
        eventually(deadline, "both bindings are there again", async || {
            let broker = &env.place.broker;
            let vip = broker.is_bound("partner-program.commands.routing", "acme.#");
            (vip && broker.is_bound("partner-program.commands.unbound", "")).then_some(())
        })
        .await;
    };
    bound(Duration::from_mins(2)).await;
    drop(worker);
    lose();
    let _worker = Process::start(&env.settings, "tested");
    bound(Duration::from_secs(30)).await;
}

#[tokio::test]
async fn doctor_sees_foreign_and_missing_bindings_by_the_management_api_alone() {
    let env = env("routing_doctor").await;
    let doctor = async |settings: &Settings| -> Vec<String> {
        let output = settings.command(&["doctor", "-o", "json"]).output().await.expect("it starts");
        let checks: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let checks = checks.as_array().expect("a list").iter();
        let checks = checks.filter(|check| check["check"] == "bindings");
        checks.map(|check| format!("{}: {}", check["state"], check["detail"])).collect()
    };
    let blind = doctor(&env.settings).await;
    assert!(blind.len() == 1 && blind[0].contains("not checked"), "{blind:?}");
    let seeing = env.settings.clone().with("MANAGEMENT_URL", env.place.broker.management_url());
    let fine = doctor(&seeing).await;
    assert!(fine.len() == 1 && fine[0].starts_with("\"ok\""), "{fine:?}");
    let broker = &env.place.broker;
    let url = &env.place.amqp_url;
    drop(Collector::bound(url, "thief", None).await);
    broker.bind("partner-program.commands.routing", "thief", "#");
    broker.unbind("partner-program.commands.unbound", "partner-program.commands.main", "");
    let found = eventually(DEADLINE, "both are found", async || {
        let found = doctor(&seeing).await;
        (found.len() == 2).then_some(found)
    })
    .await;
    assert!(found[0].contains("missing") && found[0].contains("commands.main"), "{found:?}");
    assert!(found[1].contains("foreign") && found[1].contains("thief"), "{found:?}");
}

#[tokio::test]
async fn a_worker_that_may_not_bind_says_so_and_knows_what_is_missing() {
    let env = env("routing_rights").await;
    let user = format!("reader-{}", env.place.vhost());
    // It may read and write as a worker does, but not write to the lanes' queues, as binding takes.
    let broker = &env.place.broker;
    broker.permit_writing(
        &user,
        "secret",
        "^(partner-program\\.(results|dead-letters|commands))?$",
    );
    let url = env.place.amqp_url.replacen("guest:guest@", &format!("{user}:secret@"), 1);
    assert_ne!(url, env.place.amqp_url);
    let settings = env
        .settings
        .clone()
        .with("AMQP_URL", url)
        .with("ARCHIVE_DEAD_LETTERS", false)
        .with("OPS_LISTEN", "127.0.0.1:0");
    let tells = async |settings: &Settings, wanted: &str, status: &str| {
        let worker = Process::start(settings, "tested");
        eventually(DEADLINE, wanted, async || {
            let (_status, body) = worker.probe("/health/ready").await?;
            let is_told = body["bindings"].as_str().is_some_and(|said| said.contains(wanted));
            (is_told && body["status"] == status).then_some(())
        })
        .await;
    };
    tells(&settings, "management_url is not set", "ready").await;
    let management = broker.management_url().replacen("//", "//guest:guest@", 1);
    let settings = settings.with("MANAGEMENT_URL", management);
    tells(&settings, "verified", "ready").await;
    broker.unbind("partner-program.commands.unbound", "partner-program.commands.main", "");
    tells(&settings, "missing", "not ready").await;
    env.place.broker.delete_user(&user);
}
