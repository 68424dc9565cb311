//! The checker is checked: each protection is taken out of the worker, and the suite must miss it.

use std::collections::BTreeSet;

use crate::checker::Check;
use crate::faults::broker::Broker;
use crate::faults::fault::Fault;
use crate::faults::table;
use crate::faults::trial::{Outcome, SOME, Trial};
use crate::faults::worker::Worker;

/// Taking `protection` out must break one of `expected`, whatever else it breaks.
fn assert_missed(protection: &str, fault: &str, outcome: &Outcome, expected: &[Check]) {
    table::note_mutant(protection, fault, outcome);
    let missed: BTreeSet<Check> = outcome.missed();
    assert!(
        expected.iter().any(|check| missed.contains(check)),
        "without {protection} the suite should have missed one of {expected:?}:\n{outcome}"
    );
}

/// The load and a worker without the protection.
async fn begin(protection: &str, further: &str) -> (Trial, String) {
    let mut trial = Trial::new(&format!("without {protection}")).await;
    let points = format!("without-{protection}=return;{further}");
    trial.queue_up().await;
    trial.start_worker(&points);
    (trial, points)
}

#[tokio::test]
async fn without_the_inbox_a_redelivery_is_applied_again() {
    let (mut trial, points) = begin("inbox", "after-commit=10*off->return(abort)").await;
    // The key of the inbox is a second protection: it has to step aside.
    trial
        .rows
        .execute(
            "create function step_aside() returns trigger language plpgsql as $$ begin \
                 delete from command_log where command_id = new.command_id; return new; end $$; \
             create trigger step_aside before insert on command_log for each row \
                 execute function step_aside()",
        )
        .await;
    trial.bury().await;
    trial.start_worker(points.split(';').next().unwrap_or_default());
    let outcome = trial.end().await;
    assert_missed("inbox", "abort after commit", &outcome, &[Check::OneEffect, Check::Lawful]);
}

#[tokio::test]
async fn without_the_fence_a_worker_commits_for_a_lane_it_has_lost() {
    let (mut trial, _) = begin("fence", "").await;
    trial.progress(SOME).await;
    Fault::Worker(Worker::LaneTaken).inflict(&mut trial).await;
    let outcome = trial.end().await;
    assert_missed("fence", "lane taken", &outcome, &[Check::Order]);
}

#[tokio::test]
async fn without_the_channels_close_a_successor_overtakes() {
    let (mut trial, points) = begin("channel-close", "").await;
    trial.progress(SOME).await;
    trial.start_worker(&points);
    for _ in 0..4 {
        let active = trial.active().await;
        let mut leaving = trial.workers.remove(active);
        leaving.signal("TERM").await;
        leaving.ended().await;
        trial.start_worker(&points);
        trial.progress(50).await;
    }
    let outcome = trial.end().await;
    assert_missed("channel-close", "rolling restart", &outcome, &[Check::Order]);
}

#[tokio::test]
async fn with_an_ack_before_the_commit_a_crash_loses_commands() {
    let (mut trial, _) = begin("ack-after-commit", "before-commit=10*off->return(abort)").await;
    trial.bury().await;
    trial.start_worker("");
    let outcome = trial.end().await;
    assert_missed("ack-after-commit", "abort before commit", &outcome, &[Check::Settled]);
}

#[tokio::test]
async fn with_an_ack_before_the_confirm_a_crash_loses_results() {
    let (mut trial, _) = begin("ack-after-confirm", "before-confirm=10*off->return(abort)").await;
    // What was sent is lost on the way: the crash alone might still let it arrive.
    trial.place.broker.limit_length(crate::harness::subscriber::QUEUE, 1);
    trial.subscriber.pause();
    trial.bury().await;
    trial.place.broker.lift_limit();
    trial.subscriber.listen();
    trial.start_worker("");
    let outcome = trial.end().await;
    assert_missed("ack-after-confirm", "abort before confirm", &outcome, &[Check::Answered]);
}

#[tokio::test]
async fn with_two_publishing_tasks_refused_results_are_lost() {
    let (mut trial, _) = begin("one-publisher", "").await;
    for _ in 0..10 {
        Fault::Broker(Broker::ResultsFull).inflict(&mut trial).await;
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        Fault::Broker(Broker::ResultsFull).heal(&mut trial).await;
        trial.progress(50).await;
    }
    let outcome = trial.end().await;
    assert_missed("one-publisher", "results queue full", &outcome, &[Check::Answered]);
}
