//! Workers that die, panic or stall at each point of a batch, and commands that make them.

use serde_json::json;

use crate::faults::trial::{DEADLINE, SOME, Trial};
use crate::harness::eventually;
use crate::harness::publisher::command;

/// After so many batches each of the workers that follow each other fails.
const BATCHES: [usize; 3] = [3, 11, 6];
/// Longer than the database may take.
const STALL: &str = "sleep(3000)";

async fn fails_at(point: &str, what: &str, action: &str, dies: bool) {
    let mut trial = Trial::new(&format!("a worker {what} {}", point.replace('-', " "))).await;
    trial.queue_up().await;
    trial.resume_load();
    for batches in BATCHES {
        trial.start_worker(&format!("{point}={batches}*off->1*{action}->off"));
        if dies {
            trial.bury().await;
        } else {
            trial.progress(SOME).await;
        }
    }
    if dies {
        trial.start_worker("");
    }
    trial.progress(SOME).await;
    trial.assert_kept().await;
}

/// A test for each line: its name, the point, and what the worker does there.
macro_rules! points {
    ($($name:ident: $point:expr, $what:expr, $action:expr, $dies:expr;)*) => {
        $(#[tokio::test]
        async fn $name() {
            fails_at($point, $what, $action, $dies).await;
        })*
    };
}

points! {
    aborts_after_load: "after-load", "aborts", "return(abort)", true;
    aborts_before_begin: "before-begin", "aborts", "return(abort)", true;
    aborts_before_commit: "before-commit", "aborts", "return(abort)", true;
    aborts_after_commit: "after-commit", "aborts", "return(abort)", true;
    aborts_before_confirm: "before-confirm", "aborts", "return(abort)", true;
    aborts_before_ack: "before-ack", "aborts", "return(abort)", true;

    // A panic ends a try or a generation, never the process.
    panics_after_load: "after-load", "panics", "panic", false;
    panics_before_begin: "before-begin", "panics", "panic", false;
    panics_before_commit: "before-commit", "panics", "panic", false;
    panics_after_commit: "after-commit", "panics", "panic", false;
    panics_before_confirm: "before-confirm", "panics", "panic", false;
    panics_before_ack: "before-ack", "panics", "panic", false;

    stalls_after_load: "after-load", "stalls", STALL, false;
    stalls_before_begin: "before-begin", "stalls", STALL, false;
    stalls_before_commit: "before-commit", "stalls", STALL, false;
    stalls_after_commit: "after-commit", "stalls", STALL, false;
    stalls_before_confirm: "before-confirm", "stalls", STALL, false;
    stalls_before_ack: "before-ack", "stalls", STALL, false;
}

/// A command that does `what` to each worker that evaluates it ends as a dead letter, and nothing
/// else does.
async fn is_poisoned(name: &str, what: &str) {
    let mut trial = Trial::new(name).await;
    trial.queue_up().await;
    let body = json!({ "linkCustomers": [] }).to_string();
    trial.send_doomed(command("acme.link", Some("poison"), body)).await;
    trial.queue_up().await;
    trial.resume_load();
    // Slow to store, so that the poison always strikes while another hand is at its part.
    let points = format!("before-begin=sleep(10);evaluate=return({what} poison)");
    eventually(DEADLINE, "the poison is given up", async || {
        if trial.workers.last_mut().is_none_or(|last| !last.is_running()) {
            trial.start_worker(&points);
        }
        (trial.letter_count().await > 0).then_some(())
    })
    .await;
    trial.progress(SOME).await;
    trial.assert_kept().await;
}

#[tokio::test]
async fn a_command_panics() {
    is_poisoned("a command panics", "panic").await;
}

#[tokio::test]
async fn a_command_aborts_the_process() {
    is_poisoned("a command aborts the process", "abort").await;
}
