//! One command that can't be stored, or that kills its worker, among many that can.

use chrono::Utc;
use partner_program_worker::message::Message;
use serde_json::json;

use crate::faults::{DEADLINE, env};
use crate::harness::collector::Collector;
use crate::harness::database::TestDatabase;
use crate::harness::environment::TestEnv;
use crate::harness::eventually;
use crate::harness::leftovers::assert_attempts_are_left;
use crate::harness::publisher::command;
use crate::harness::servers::Place;
use crate::harness::worker::Process;
use crate::harness::workload::{PROGRAM, assert_done_in_order, steps};
use crate::model::{Customer, Model, Org};

const COMMANDS: usize = 1000;
/// The setting `attempts_limit`, at its default.
const ATTEMPTS: usize = 5;
/// Those that shrink a batch of 16 to one, the attempts alone, and workers that are killed for what
/// the one before them left hanging.
const KILLS_MAX: usize = 4 * ATTEMPTS;
/// Halving a batch of 16 down to one, several times over, and the tries of one alone.
const TRIES_MAX: usize = 40;

/// The customer that the poisonous command is about; no workload is his.
const VICTIM: i64 = 1_000_000;

/// Links the victim under a membership id that a trigger knows.
fn poisonous() -> Message {
    let body = json!({ "linkCustomers": [{
        "customer": { "id": VICTIM },
        "linkToPartnerPrograms": [{
            "partnerProgramName": PROGRAM,
            "customerPartnerReference": { "partnerMembershipId": "poison" },
        }],
    }]});
    command("acme.link", Some("poison"), body.to_string())
}

/// A load with the poisonous command in the middle, all of it waiting.
async fn poisoned_scene(name: &str) -> (TestEnv, Vec<Message>) {
    let mut env = env(Place::new(name).await).await;
    env.rows
        .execute("insert into customer (org_id, id, state) select id, 1000000, 'active' from org")
        .await;
    let messages = steps(0..COMMANDS);
    let (before, after) = messages.split_at(COMMANDS / 2);
    env.publisher.publish(before).await;
    env.publisher.publish(&[poisonous()]).await;
    env.publisher.publish(after).await;
    (env, messages)
}

async fn assert_poison_alone_is_rejected(
    env: TestEnv,
    messages: &[Message],
    mut worker: Process,
) -> TestDatabase {
    let TestEnv { place, mut rows, mut results, .. } = env;
    assert_done_in_order(messages, &mut results, &mut rows, DEADLINE).await;
    let rejected = |r: &crate::harness::collector::Received| r.routing_key == "acme.link.rejected";
    results.read_until(DEADLINE, "the rejection", |received| received.iter().any(rejected)).await;
    let events: Vec<_> = results.received.iter().filter(|r| rejected(r)).collect();
    for event in &events {
        let body = event.json();
        assert_eq!(body["reason"], "processing-failed");
        assert_eq!(body["commandId"], "poison");
    }
    let mut letters = Collector::of_queue(&place.amqp_url, "partner-program.dead-letters");
    let letter = letters.read(1, DEADLINE).await[0].clone();
    assert_eq!(letter.body, poisonous().body);
    assert_eq!(letter.header("x-attempts"), Some(ATTEMPTS.to_string()));
    worker.signal("TERM").await;
    assert!(worker.ended().await.success());
    assert_attempts_are_left(&place, &["main"], 1).await;
    rows
}

#[tokio::test]
async fn a_command_that_the_database_refuses_is_given_up_alone() {
    let (mut env, messages) = poisoned_scene("poison").await;
    // A sequence counts the tries: it is not rolled back with them.
    env.rows
        .execute(
            "create sequence tries; \
             create function refuse() returns trigger language plpgsql as $$ begin \
                 perform nextval('tries'); raise exception 'poisoned'; \
             end $$; \
             create trigger refuse before insert or update on enrolment for each row \
                 when (new.membership_id = 'poison') execute function refuse()",
        )
        .await;
    let worker = Process::start(&env.settings, "poisoned");
    let mut rows = assert_poison_alone_is_rejected(env, &messages, worker).await;
    let tries = rows.count("select last_value from tries").await;
    assert!((ATTEMPTS..=TRIES_MAX).contains(&tries), "{tries} tries");
}

#[tokio::test]
async fn a_command_that_kills_its_worker_is_given_up_alone() {
    let (mut env, messages) = poisoned_scene("killer").await;
    // It hangs in the database: that is when this test kills the worker.
    env.rows
        .execute(
            "create function hang() returns trigger language plpgsql as $$ begin \
                 perform pg_sleep(60); return new; \
             end $$; \
             create trigger hang before insert or update on enrolment for each row \
                 when (new.membership_id = 'poison') execute function hang()",
        )
        .await;
    let mut kills = 0;
    let worker = loop {
        let mut worker = Process::start(&env.settings, &format!("victim-{kills}"));
        let hangs = eventually(DEADLINE, "the worker hangs or gets through", async || {
            let hanging = "select count(*) from pg_stat_activity where wait_event = 'PgSleep' \
                 and datname = current_database()";
            if env.rows.count(hanging).await > 0 {
                return Some(true);
            }
            let letters = env.place.broker.depth("partner-program.dead-letters")?;
            (letters.ready == 1).then_some(false)
        })
        .await;
        if !hangs {
            break worker;
        }
        worker.kill().await;
        kills += 1;
        assert!(kills <= KILLS_MAX, "killed {kills} times and still not given up");
        env.rows
            .execute(
                "select pg_terminate_backend(pid) from pg_stat_activity \
                 where wait_event = 'PgSleep' and datname = current_database()",
            )
            .await;
    };
    assert_poison_alone_is_rejected(env, &messages, worker).await;
}

#[test]
fn the_victim_is_nobody_elses_customer() {
    let world: Vec<Org> = Model::new(Utc::now(), crate::harness::workload::world()).orgs;
    let others: Vec<&Customer> = world.iter().flat_map(|org| &org.customers).collect();
    assert!(others.iter().all(|customer| customer.id != VICTIM));
}
