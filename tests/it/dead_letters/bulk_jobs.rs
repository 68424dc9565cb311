//! Every operation ends, whatever ends it, and says how; what can't be done is refused with a reason.

use std::fs::File;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use crate::dead_letters::{DEADLINE, broken, bury, dead_letters, env, rows};
use crate::harness::environment::TestEnv;
use crate::harness::eventually;
use crate::harness::worker::Process;

const EXPORT: [&str; 6] = ["dead-letters", "export", "--reason", "test", "--log", "warn"];
/// More than a pipe takes.
const LETTERS: usize = 10;
const SILENT: &str = "update bulk_job set heartbeat_at = now() - interval '1 hour'";

/// Letters of some size.
async fn large_letters(name: &str) -> TestEnv {
    let mut env = env(name).await;
    let large = |number: usize| {
        let mut message = broken(number);
        message.body.resize(50_000, b'!');
        message
    };
    bury(&mut env, &(0..LETTERS).map(large).collect::<Vec<_>>()).await;
    env
}

async fn only_operation(env: &TestEnv) -> Value {
    let listed = dead_letters(&env.settings, &["bulk-jobs", "list"]).await.expect(0);
    let jobs = rows(&listed);
    assert_eq!(jobs.len(), 1, "jobs");
    jobs[0].clone()
}

#[tokio::test]
async fn an_export_that_can_not_be_written_has_failed() {
    let env = large_letters("export, closed pipe").await;
    let mut program = env
        .settings
        .command(&EXPORT)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut out = program.stdout.take().expect("it is piped");
    let mut some = [0; 100];
    out.read_exact(&mut some).await.expect("it writes");
    drop(out);
    let ended = tokio::time::timeout(DEADLINE, program.wait_with_output()).await.expect("it ends");
    let ended = ended.expect("it ends");
    assert!(!ended.status.success(), "{ended:?}");
    let operation = only_operation(&env).await;
    assert_eq!(operation["state"], "failed", "{operation}");

    scene_is_full(&env).await;
}

/// The disk is full when the rest of the file is written.
async fn scene_is_full(env: &TestEnv) {
    let full = File::options().write(true).open("/dev/full").expect("a device");
    let mut exporting = env.settings.command(&EXPORT);
    let ended = exporting.stdout(Stdio::from(full)).status().await.expect("it ends");
    assert!(!ended.success(), "{ended:?}");
    let listed = rows(&dead_letters(&env.settings, &["bulk-jobs", "list"]).await.expect(0));
    assert_eq!(listed[0]["state"], "failed", "{listed:?}");
    let problem = listed[0]["problem"].as_str().unwrap_or_default();
    assert!(problem.contains("space"), "{problem}");
}

#[tokio::test]
async fn an_export_whose_program_is_killed_is_ended_by_a_worker() {
    let mut env = large_letters("export, killed").await;
    let mut program =
        env.settings.command(&EXPORT).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut some = [0; 100];
    program.stdout.as_mut().expect("it is piped").read_exact(&mut some).await.expect("it writes");
    program.kill().await.expect("it is killed");
    let id = only_operation(&env).await["id"].as_str().expect("an id").to_owned();
    let resumed = dead_letters(&env.settings, &["bulk-jobs", "resume", &id]).await.expect(5);
    assert!(resumed.err().contains("begin a new one"), "{}", resumed.err());
    env.rows.execute(SILENT).await;
    let worker = Process::start(&env.settings, "worker");
    eventually(DEADLINE, "the export has failed", async || {
        (only_operation(&env).await["state"] == "failed").then_some(())
    })
    .await;
    drop(worker);
}

#[tokio::test]
async fn an_operation_whose_runner_is_dead_is_cancelled_at_once() {
    let mut env = large_letters("dead runner").await;
    env.rows
        .execute(
            "insert into bulk_job (id, kind, filter, actor, reason, source, matched, \
                 runner, heartbeat_at) \
             values ('0e5ad0a4-5a54-8d7b-9c62-6f0d7d7c3b0a', 'replay', '{}', 'a', 'r', 's', 10, \
                 'dead', now() - interval '1 hour'); \
             update dead_letter set state = 'replaying', replay_number = 1, \
                 bulk_job_id = '0e5ad0a4-5a54-8d7b-9c62-6f0d7d7c3b0a'",
        )
        .await;
    let id = "0e5ad0a4-5a54-8d7b-9c62-6f0d7d7c3b0a";
    dead_letters(&env.settings, &["bulk-jobs", "cancel", id]).await.expect(0);
    let operation = only_operation(&env).await;
    assert_eq!(operation["state"], "cancelled", "{operation}");
    let open = "select count(*) from dead_letter where state = 'open'";
    assert_eq!(env.rows.count(open).await, LETTERS, "nothing stays claimed");
    dead_letters(&env.settings, &["bulk-jobs", "cancel", id]).await.expect(5);
    let refused = ["restore", "--state", "open", "--yes", "--reason", "test"];
    let report = dead_letters(&env.settings, &refused).await.expect(5).json();
    assert_eq!(report["left_alone"][0]["why"], json!("it is open already"), "{report}");
}

#[tokio::test]
async fn words_that_mean_nothing_are_errors() {
    let mut env = env("typing errors").await;
    bury(&mut env, &[broken(1)]).await;
    for (arguments, code, says) in [
        (&["--cause", "nope"][..], 2, "not-json"),
        (&["--operation", "links"], 2, "link, update, delink"),
        (&["--limit", "0"], 2, "1"),
        (&["--group", "xyz"], 3, "dead-letters groups"),
        (&["--lane", "mian"], 3, "lanes list"),
        (&["--org", "acne"], 3, "org"),
    ] {
        for command in [&["list"][..], &["groups"], &["replay", "--dry-run"]] {
            let refused = dead_letters(&env.settings, &[command, arguments].concat()).await;
            let refused = refused.expect(code);
            assert!(refused.err().contains(says), "{command:?} {}", refused.err());
        }
    }
    let rate = ["replay", "--all", "--yes", "--reason", "r", "--rate", "0"];
    let refused = dead_letters(&env.settings, &rate).await.expect(2);
    assert!(refused.err().contains("from 1 on"), "{}", refused.err());

    let discard = ["dead-letters", "discard", "--all", "--yes", "--reason", "r"];
    let mut nameless = env.settings.command(&discard);
    for name in ["USER", "SUDO_USER", "LOGNAME"] {
        nameless.env_remove(name);
    }
    let refused = nameless.output().await.expect("it starts");
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--actor"), "{refused:?}");
    let open = "select count(*) from dead_letter where state = 'open'";
    assert_eq!(env.rows.count(open).await, 1, "nothing was done");
}
