//! Partial outages: the database answers, and one thing of it does not work. Workers come and go
//! meanwhile, and nothing is given up on that account.
//!
//! Workers connect as a role that may do no more than a worker must, for a superuser's rights can't
//! be revoked.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::types::AMQPValue;
use uuid::Uuid;

use crate::faults::suite::outage;
use crate::faults::trial::{DEADLINE, LANE, SOME, Trial};
use crate::harness::collector::try_subscribe_for;
use crate::harness::eventually;
use crate::harness::worker::close_workers_connections;

const STEPS: usize = 1_600;
/// More than the tries that a command has, and than it takes until each is tried alone.
const RESTARTS: usize = 10;
/// So many lanes try something before the worker is killed again.
const TRIES: usize = 3;
/// How long that may take: a worker may well try nothing while it knows of the outage.
const TRIES_WITHIN: Duration = Duration::from_secs(4);

/// What does not work.
#[derive(Clone, Copy, Debug)]
enum Outage {
    /// 42501: the right to write one table.
    Right,
    /// Every row of one table raises this SQLSTATE: a full disk; a trigger that is broken.
    Raises(&'static str),
}

impl Outage {
    async fn begin(self, trial: &mut Trial) {
        let statements = match self {
            Self::Right => {
                "revoke insert on enrolment_history from partner_program_worker".to_owned()
            }
            Self::Raises(code) => format!(
                "lock table enrolment_history; \
                 create function fail() returns trigger language plpgsql as $$ begin \
                     raise exception 'as the suite asked' \
                         using errcode = '{code}', constraint = 'tested'; end $$; \
                 create trigger fail before insert on enrolment_history for each row \
                     execute function fail()"
            ),
        };
        trial.rows.execute(&statements).await;
    }

    async fn end(self, trial: &mut Trial) {
        let statements = match self {
            Self::Right => "grant insert on enrolment_history to partner_program_worker",
            Self::Raises(_) => "lock table enrolment_history; drop function fail cascade",
        };
        trial.rows.execute(statements).await;
    }
}

/// A trial at default settings, all of whose load waits, and whose workers have a worker's rights.
/// Tries, those of the canary among them or not, are counted by sequences, which are not rolled back.
async fn trial(name: &str, connections: usize) -> Trial {
    let mut trial = Trial::at_defaults(name, connections).await;
    let role = format!("tested_{}", Uuid::new_v4().simple());
    let statements = format!(
        "create role {role} login in role partner_program_worker; \
         create sequence tries; create sequence tries_of_commands; \
         create function count_tries() returns trigger language plpgsql security definer as $$ begin \
             perform nextval('tries'); \
             if exists (select from added where org_id > 0) then \
                 perform nextval('tries_of_commands'); \
             end if; \
             return null; end $$; \
         create trigger count_tries after insert on command_log \
             referencing new table as added for each statement execute function count_tries(); \
         alter function witness() security definer"
    );
    trial.rows.execute(&statements).await;
    let url = trial.database.url().replace("postgres@", &format!("{role}@"));
    trial.settings = trial.settings.clone().with("DATABASE_URL", url);
    trial.queue_up_with_doomed(STEPS, &[]).await;
    trial
}

/// How often the first command of the lane was delivered. It must have no consumer.
async fn deliveries(trial: &Trial, lane: &str) -> usize {
    let queue = format!("partner-program.commands.{lane}");
    let (_connection, mut consumer) =
        try_subscribe_for(&trial.place.amqp_url, &queue, 0).await.expect("the broker answers");
    let next = tokio::time::timeout(DEADLINE, consumer.next()).await.expect("it comes in time");
    let delivery = next.expect("it goes on").expect("a delivery");
    let headers = delivery.properties.headers().clone().unwrap_or_default();
    match headers.inner().get("x-delivery-count") {
        None => 0,
        Some(AMQPValue::LongLongInt(count)) => usize::try_from(*count).expect("no less than none"),
        Some(other) => panic!("{other:?}"),
    }
}

async fn kill_all(trial: &mut Trial) {
    for mut worker in std::mem::take(&mut trial.workers) {
        worker.kill().await;
    }
}

/// Waits until the lanes have tried something, or until they don't seem to try, and then until
/// nothing is under way: a kill in the middle of a try can't be told from poison.
async fn some_tries(trial: &mut Trial, sequence: &str) {
    const UNDER_WAY: &str = "select count(*) from pg_stat_activity where state <> 'idle' \
        and datname = current_database() and application_name like 'partner-program%'";
    let count = format!("select last_value from {sequence}");
    let before = trial.rows.count(&count).await;
    let rows = &mut trial.rows;
    let tries = eventually(DEADLINE, "lanes try", async || {
        (rows.count(&count).await >= before + TRIES).then_some(())
    });
    drop(tokio::time::timeout(TRIES_WITHIN, tries).await);
    eventually(DEADLINE, "nothing is under way", async || {
        (rows.count(UNDER_WAY).await == 0).then_some(())
    })
    .await;
}

/// By kill -9 at once, or by SIGTERM as an orchestrator does.
async fn restart(trial: &mut Trial, at_once: bool, points: &str) {
    for mut worker in std::mem::take(&mut trial.workers) {
        if at_once {
            worker.kill().await;
        } else {
            worker.signal("TERM").await;
            worker.ended().await;
        }
    }
    trial.start_worker(points);
}

/// Workers are restarted again and again while nothing can be committed.
async fn hurts_nobody(name: &str, outage: Outage, connections: usize) {
    let mut trial = trial(name, connections).await;
    trial.start_worker("");
    trial.progress(SOME).await;
    outage.begin(&mut trial).await;
    for number in 0..RESTARTS {
        some_tries(&mut trial, "tries").await;
        restart(&mut trial, number % 3 > 0, "").await;
    }
    some_tries(&mut trial, "tries").await;
    close_workers_connections(&trial.place).await;
    some_tries(&mut trial, "tries").await;
    kill_all(&mut trial).await;
    for lane in trial.lanes.names() {
        let deliveries = deliveries(&trial, lane).await;
        assert!(
            deliveries <= RESTARTS + 4,
            "{lane}: delivered {deliveries} times by the broker's count"
        );
    }
    outage.end(&mut trial).await;
    trial.start_worker("");
    trial.assert_kept().await;
}

#[tokio::test]
async fn a_right_revoked_on_one_table_hurts_nobody() {
    hurts_nobody("a right on one table is revoked", Outage::Right, 2).await;
}

#[tokio::test]
async fn a_disk_that_is_full_for_one_table_hurts_nobody() {
    hurts_nobody("the disk is full for one table", Outage::Raises("53100"), 4).await;
}

#[tokio::test]
async fn a_trigger_that_refuses_everything_hurts_nobody() {
    hurts_nobody("a trigger refuses everything", Outage::Raises("P0001"), 2).await;
}

/// For some seconds a check refuses every row of one table.
pub(super) async fn nothing_passes_a_check(points: &str) -> Trial {
    let mut trial = trial("nothing passes a check", 2).await;
    let broken = Outage::Raises("23514");
    trial.start_worker(points);
    trial.progress(SOME).await;
    broken.begin(&mut trial).await;
    tokio::time::sleep(outage()).await;
    broken.end(&mut trial).await;
    trial
}

#[tokio::test]
async fn a_check_that_nothing_passes_hurts_nobody() {
    nothing_passes_a_check("").await.assert_kept().await;
}

/// The disk is full for one row, while workers are restarted again and again.
pub(super) async fn one_row_meets_a_full_disk(points: &str) -> Trial {
    let mut trial = trial("one row meets a full disk", 2).await;
    trial
        .rows
        .execute(
            "create function fail() returns trigger language plpgsql as $$ begin \
                 raise exception 'as the suite asked' using errcode = '53100'; end $$; \
             create trigger fail before insert on enrolment for each row \
                 when (new.membership_id = 'm-3') execute function fail()",
        )
        .await;
    trial.start_worker(points);
    for _ in 0..2 * RESTARTS {
        some_tries(&mut trial, "tries_of_commands").await;
        restart(&mut trial, false, points).await;
    }
    some_tries(&mut trial, "tries_of_commands").await;
    trial.rows.execute("drop function fail cascade").await;
    trial
}

#[tokio::test]
async fn a_command_whose_row_meets_a_full_disk_is_not_given_up() {
    one_row_meets_a_full_disk("").await.assert_kept().await;
}

/// What is unacked when a channel closes counts as delivered, so a lane that can't commit must not
/// close and subscribe by turns.
#[tokio::test]
async fn a_lane_that_cannot_commit_subscribes_once() {
    let mut trial = trial("a right on one table is revoked for long", 2).await;
    trial.settings = trial.settings.clone().with("OUTAGE_GRACE_MS", 1_000);
    Outage::Right.begin(&mut trial).await;
    trial.start_worker("");
    // Today's pauses between generations would allow five of them.
    tokio::time::sleep(4 * outage()).await;
    kill_all(&mut trial).await;
    let deliveries = deliveries(&trial, LANE).await;
    assert!(deliveries <= 2, "delivered {deliveries} times by the broker's count");
    Outage::Right.end(&mut trial).await;
    trial.start_worker("");
    trial.assert_kept().await;
}
