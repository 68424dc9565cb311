//! The checker is checked: each protection is taken out of the worker, and the suite must catch it.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::checker::Check;
use crate::faults::fault::Fault;
use crate::faults::outcome::Outcome;
use crate::faults::trial::{DEADLINE, SOME, Trial};
use crate::faults::worker::Worker;
use crate::faults::{culprits, partial, table};
use crate::harness::collector::Collector;
use crate::harness::eventually;
use crate::harness::proxy::Line;
use crate::harness::subscriber::QUEUE;
use crate::harness::workload;

const RESULTS: &str = "partner-program.results";
/// Trials that a loss has to show in.
const CHANCES: usize = 8;
/// How often two lanes take their locks at the same moment.
const MEETINGS: usize = 20;
/// How long one lane waits there for the other, which may have run empty.
const ACQUAINTANCE: Duration = Duration::from_secs(5);
/// Rounds of publishing in which confirms may be swapped.
const REFUSALS: usize = 4;

/// Taking `protection` out must break one of `expected`, whatever else it breaks.
fn assert_caught(protection: &str, fault: &str, outcome: &Outcome, expected: &[Check]) {
    table::note_mutant(protection, fault, outcome);
    let broken: BTreeSet<Check> = outcome.broken();
    assert!(
        expected.iter().any(|check| broken.contains(check)),
        "without {protection} one of {expected:?} should have caught it:\n{outcome}"
    );
}

/// Whether the loss shows is up to chance for some protections: those are given several.
async fn with_luck(trial: impl AsyncFn() -> Outcome) -> Outcome {
    let mut outcome = trial().await;
    for _ in 1..CHANCES {
        if outcome.violations.is_empty() {
            outcome = trial().await;
        }
    }
    outcome
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
    assert_caught("inbox", "abort after commit", &outcome, &[Check::OneEffect, Check::Lawful]);
}

#[tokio::test]
async fn without_the_fence_a_worker_commits_for_a_lane_it_has_lost() {
    let (mut trial, _) = begin("fence", "").await;
    trial.progress(SOME).await;
    Fault::Worker(Worker::LaneTaken).inflict(&mut trial).await;
    let outcome = trial.end().await;
    assert_caught("fence", "lane taken", &outcome, &[Check::Order]);
}

#[tokio::test]
async fn without_the_channels_close_a_successor_overtakes() {
    let outcome = with_luck(cancelling_workers_are_rolled).await;
    assert_caught("channel-close", "rolling restart", &outcome, &[Check::Order]);
}

async fn cancelling_workers_are_rolled() -> Outcome {
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
    trial.end().await
}

#[tokio::test]
async fn with_an_ack_before_the_commit_a_crash_loses_commands() {
    let (mut trial, _) = begin("ack-after-commit", "before-commit=10*off->return(abort)").await;
    trial.bury().await;
    trial.start_worker("");
    let outcome = trial.end().await;
    assert_caught("ack-after-commit", "abort before commit", &outcome, &[Check::Settled]);
}

#[tokio::test]
async fn with_an_ack_before_the_confirm_a_crash_loses_results() {
    let (mut trial, _) = begin("ack-after-confirm", "before-confirm=10*off->return(abort)").await;
    // What was sent is lost on the way: the crash alone might still let it arrive.
    trial.place.broker.limit_length(QUEUE, 1);
    trial.subscriber.pause();
    trial.bury().await;
    trial.place.broker.lift_limit();
    trial.subscriber.listen();
    trial.start_worker("");
    let outcome = trial.end().await;
    assert_caught("ack-after-confirm", "abort before confirm", &outcome, &[Check::Answered]);
}

#[tokio::test]
async fn with_many_publishing_tasks_refused_results_are_lost() {
    let outcome = with_luck(many_tasks_publish).await;
    assert_caught("one-publisher", "results queue full", &outcome, &[Check::Answered]);
}

async fn many_tasks_publish() -> Outcome {
    const DELINKS: &str = "test.delinks";
    let mut trial = Trial::new("without one-publisher").await;
    // Of the results of a batch one half is refused: which half, the confirms tell.
    drop(Collector::bound(&trial.place.amqp_url, DELINKS, Some((RESULTS, "*.delink.#"))).await);
    trial.place.broker.bind(RESULTS, QUEUE, "*.link.#");
    trial.place.broker.unbind(RESULTS, QUEUE, "#");
    trial.place.broker.limit_length(DELINKS, 1);
    trial.subscriber.add(DELINKS);
    // Confirms are swapped by chance: a large batch gives it many.
    trial.settings = trial
        .settings
        .clone()
        .with("BATCH_SIZE", 700)
        .with("LINGER_MS", 500)
        .with("MEMORY_BUDGET_BYTES", 4_u64 << 30);
    trial.step = workload::alternating_step;
    trial.queue_up().await;
    trial.start_worker("without-one-publisher=return");
    eventually(DEADLINE, "results are refused again and again", async || {
        let rounds = trial.workers[0].words().matches("are published again").count();
        (rounds >= REFUSALS).then_some(())
    })
    .await;
    trial.place.broker.lift_limit();
    trial.subscriber.listen();
    trial.end().await
}

/// Two lanes that meddle with each other's customers.
async fn two_lanes(name: &str, points: &str) -> Outcome {
    let mut trial = Trial::new(name).await;
    trial.add_second_lane().await;
    // A deadlock has to be found before the wait for a lock is given up.
    trial.settings = trial
        .settings
        .clone()
        .with("DATABASE_TIMEOUT_MS", 20_000)
        .with("BATCH_SIZE", 100)
        .with("CONNECTIONS_PER_LANE", 1);
    // So long that the lanes meet each other between two statements.
    let delay = Line::Delayed(Duration::from_millis(10));
    trial.database.set(delay, delay);
    trial.queue_up().await;
    trial.start_worker(points);
    for _ in 0..MEETINGS {
        if !meet(&mut trial).await {
            break;
        }
    }
    assert!(trial.drained().await, "both lanes run empty");
    trial.end().await
}

/// Lets both lanes take their locks at the same moment; false if they no longer come to it.
async fn meet(trial: &mut Trial) -> bool {
    trial.rows.execute("begin").await;
    // Who queued for the lock would stand between the locks of a lane.
    trial
        .rows
        .execute(
            "do $$ begin loop begin \
                 lock table enrolment in exclusive mode nowait; exit; \
             exception when lock_not_available then perform pg_sleep(0.001); \
             end; end loop; end $$",
        )
        .await;
    let rows = &mut trial.rows;
    let both = eventually(DEADLINE, "both lanes wait", async || {
        let waiting = rows
            .count(
                "select count(*) from pg_locks \
                 where relation = 'enrolment'::regclass and not granted",
            )
            .await;
        (waiting == 2).then_some(())
    });
    let met = tokio::time::timeout(ACQUAINTANCE, both).await.is_ok();
    trial.rows.execute("commit").await;
    met
}

#[tokio::test]
async fn lanes_that_share_customers_stay_consistent() {
    let outcome = two_lanes("two lanes share their customers", "").await;
    table::note_fault("two lanes share their customers", &outcome);
    assert!(outcome.violations.is_empty(), "{outcome}");
}

#[tokio::test]
async fn without_the_version_guard_lanes_overwrite_each_other() {
    let outcome =
        with_luck(async || two_lanes("version guard", "without-version-guard=return").await).await;
    assert_caught("version-guard", "two lanes share their customers", &outcome, &[Check::Lawful]);
}

#[tokio::test]
async fn without_the_lock_order_lanes_deadlock() {
    let outcome =
        with_luck(async || two_lanes("lock order", "without-lock-order=50%return").await).await;
    assert_caught("lock-order", "two lanes share their customers", &outcome, &[Check::Clean]);
}

/// Of a loss of judgement the first thing seen is that an innocent command was given up.
const CULPRITS: [Check; 1] = [Check::OnlyCulprits];

#[tokio::test]
async fn without_the_canary_a_broken_check_makes_innocents_dead_letters() {
    let trial = async || partial::nothing_passes_a_check("without-canary=return").await;
    let outcome = with_luck(async || trial().await.end().await).await;
    assert_caught("canary", "nothing passes a check", &outcome, &CULPRITS);
}

#[tokio::test]
async fn beside_others_a_suspect_takes_the_heads_of_other_lanes_with_it() {
    let trial = async || culprits::a_head_kills_the_process("without-alone=return;", 10).await;
    let outcome = with_luck(async || trial().await.end().await).await;
    let fault = "a command kills the process beside two lanes";
    assert_caught("alone", fault, &outcome, &CULPRITS);
}

#[tokio::test]
async fn if_tries_were_not_taken_back_restarts_would_count_as_deaths() {
    let trial = async || partial::one_row_meets_a_full_disk("without-take-back=return").await;
    let outcome = with_luck(async || trial().await.end().await).await;
    assert_caught("take-back", "one row meets a full disk", &outcome, &CULPRITS);
}
