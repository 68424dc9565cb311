//! The worker's memory is bounded whatever publishers send: however many commands wait, however
//! large they are, and however many entries they hold.
//!
//! Each load has servers of its own, because so much data makes a broker block its publishers. The
//! gate sends some hundred commands of each kind; `PARTNER_PROGRAM_TEST_MEMORY_COMMANDS` sets another
//! number.

use std::time::Duration;

use chrono::Utc;
use futures_util::StreamExt;
use lapin::options::BasicAckOptions;
use partner_program_worker::message::Message;
use tokio::time::{Instant, timeout_at};

use crate::harness::collector;
use crate::harness::environment::TestEnv;
use crate::harness::eventually;
use crate::harness::publisher::command;
use crate::harness::servers::{OwnServers, Place};
use crate::harness::worker::Process;
use crate::harness::workload;
use crate::model::Model;

const COMMANDS_VARIABLE: &str = "PARTNER_PROGRAM_TEST_MEMORY_COMMANDS";
const COMMANDS: usize = 600;
/// The budget of the worker, and what its process may take.
const BUDGET_KIB: usize = 512 * 1024;
/// For bodies of 2 MiB, which fill the memory of a broker with 1 GB: with more than a hundred unacked it
/// takes no writes any more, and so no dead letters.
const SMALL_BUDGET_KIB: usize = 320 * 1024;
/// What commands of many entries may take: their bodies are small, and few of them are decoded at a time.
const ENTRIES_KIB_MAX: usize = 160 * 1024;
/// Commands that are published at a time.
const CHUNK: usize = 50;
/// For a debug build on a machine that does other things besides, for each command.
const DEADLINE_PER_COMMAND: Duration = Duration::from_secs(2);

const MIB: usize = 1024 * 1024;
/// Within the contract's bound on the elements of a command.
const ENTRIES: usize = 2_500;

/// A command of so many bytes, most of them in a field that nothing reads.
fn padded(number: usize, bytes: usize) -> Message {
    let mut message = workload::step(number);
    let open = message.body.strip_suffix(b"}").expect("a step is an object").len();
    message.body.truncate(open);
    message.body.extend_from_slice(br#","padding":""#);
    message.body.resize(bytes - 2, b'x');
    message.body.extend_from_slice(br#""}"#);
    message
}

/// A command of many entries that ask for nothing.
fn empty_lists(number: usize) -> Message {
    let entry = r#"{"customer":{},"linkToPartnerPrograms":[]}"#;
    let body = format!(r#"{{"linkCustomers":[{}]}}"#, vec![entry; ENTRIES].join(","));
    command("acme.link", Some(&format!("empty-{number}")), body)
}

/// How many are sent, of a kind of which the gate sends `usually`.
fn commands(usually: usize) -> usize {
    std::env::var(COMMANDS_VARIABLE).map_or(usually, |n| n.parse().expect("a number"))
}

/// Sends commands to a lane that nobody works, starts a worker with that budget, and waits until
/// each has its result.
async fn answered(
    env: &TestEnv,
    budget_kib: usize,
    count: usize,
    message: impl Fn(usize) -> Message,
) -> Process {
    for first in (0..count).step_by(CHUNK) {
        let chunk: Vec<Message> = (first..count.min(first + CHUNK)).map(&message).collect();
        env.publisher.publish(&chunk).await;
    }
    let settings = env.settings.clone().with("ARCHIVE_DEAD_LETTERS", true);
    let settings = settings.with("MEMORY_BUDGET_BYTES", budget_kib * 1024);
    let started = Instant::now();
    let worker = Process::start(&settings, "bounded");
    let deadline = DEADLINE_PER_COMMAND * u32::try_from(count).expect("few");
    await_results(&env.place, count, started + deadline, &worker).await;
    eprintln!(
        "{count} commands of {} bytes: {} MiB at most, {:.0} s",
        message(0).body.len(),
        worker.peak_memory_kib() / 1024,
        started.elapsed().as_secs_f64()
    );
    worker
}

/// Stops the worker, and returns the most memory that it has taken.
async fn stopped(mut worker: Process) -> usize {
    assert!(worker.is_running());
    let peak = worker.peak_memory_kib();
    worker.signal("TERM").await;
    assert!(worker.ended().await.success());
    peak
}

/// Reads so many results and rejections, and keeps none of them.
async fn await_results(place: &Place, count: usize, end: Instant, worker: &Process) {
    let (_connection, mut consumer) =
        collector::try_subscribe(&place.amqp_url, "test.results").await.expect("it answers");
    for number in 0..count {
        let next = timeout_at(end, consumer.next()).await;
        let Ok(Some(Ok(delivery))) = next else {
            panic!("{number} of {count} results came; {} KiB", worker.peak_memory_kib());
        };
        delivery.ack(BasicAckOptions::default()).await.expect("the broker is there");
    }
}

async fn own_scene(name: &str) -> (OwnServers, TestEnv) {
    let servers = OwnServers::start().await;
    let place = Place::on(&servers.servers, name).await;
    let env = TestEnv::at(place, &Model::new(Utc::now(), workload::world())).await;
    (servers, env)
}

#[tokio::test]
async fn commands_as_large_as_the_contract_has_them_do_not_fill_the_memory() {
    let (_servers, mut env) = own_scene("large").await;
    let count = commands(COMMANDS);
    let worker = answered(&env, BUDGET_KIB, count, |number| padded(number, MIB)).await;
    let peak = stopped(worker).await;
    assert_eq!(env.rows.history_count().await, count, "each is applied");
    assert!(peak < BUDGET_KIB, "{peak} KiB at the most");
}

#[tokio::test]
async fn commands_beyond_the_contract_do_not_fill_the_memory_and_each_is_a_dead_letter() {
    let (_servers, mut env) = own_scene("too_large").await;
    let count = commands(COMMANDS / 2);
    let worker = answered(&env, SMALL_BUDGET_KIB, count, |number| padded(number, 2 * MIB)).await;
    let letters = "select count(*) from dead_letter where reason = 'too-large'";
    eventually(Duration::from_mins(2), "every letter is archived", async || {
        (env.rows.count(letters).await == count).then_some(())
    })
    .await;
    let peak = stopped(worker).await;
    assert!(peak < SMALL_BUDGET_KIB, "{peak} KiB at the most");
}

#[tokio::test]
async fn commands_of_many_entries_do_not_fill_the_memory() {
    let (_servers, mut env) = own_scene("entries").await;
    let count = commands(COMMANDS);
    let peak = stopped(answered(&env, BUDGET_KIB, count, empty_lists).await).await;
    assert_eq!(env.rows.count("select count(*) from command_log").await, count);
    assert!(peak < ENTRIES_KIB_MAX, "{peak} KiB at the most");
}
