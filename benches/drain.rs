//! How fast one worker drains a lane that holds many commands, and in how much memory.
//!
//! `deploy/local/drain.sh` runs it on private servers. One run gives both figures that matter:
//! windows of 512, and windows of one, which is what one transaction per command costs here.
//! Everything is as durable as in production, and a quorum queue takes the results.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "it prints figures, or fails"
)]

#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../tests/it/harness/mod.rs"]
mod harness;
#[path = "../tests/it/model/mod.rs"]
mod model;

use std::time::{Duration, Instant};

use chrono::Utc;
use partner_program_worker::message::Message;
use serde_json::json;

use crate::harness::eventually;
use crate::harness::journey::{self, ORG, PROGRAM};
use crate::harness::publisher::command;
use crate::harness::scene::Scene;
use crate::harness::servers::Place;
use crate::harness::worker::Process;
use crate::model::Model;

/// Sets how many commands wait when the worker starts.
const COMMANDS_VARIABLE: &str = "PARTNER_PROGRAM_BENCH_COMMANDS";
const WINDOWS: [usize; 2] = [512, 1];
/// At a hundred commands a second, the slowest that is still worth a figure.
const DEADLINE: Duration = Duration::from_mins(10);

#[tokio::main]
async fn main() {
    let commands: usize = std::env::var(COMMANDS_VARIABLE)
        .map_or(50_000, |given| given.parse().expect("a number of commands"));
    println!("| window | commands | seconds | commands/s | peak RSS |");
    println!("|---|---|---|---|---|");
    for window in WINDOWS {
        let (took, peak_kib) = drain(window, commands).await;
        println!(
            "| {window} | {commands} | {:.1} | {:.0} | {:.0} MiB |",
            took.as_secs_f64(),
            f64::from(u32::try_from(commands).expect("few")) / took.as_secs_f64(),
            f64::from(peak_kib) / 1024.0,
        );
    }
}

/// From the start of the worker until all is stored, announced and acknowledged.
async fn drain(window: usize, commands: usize) -> (Duration, u32) {
    let world = Model::new(Utc::now(), journey::world());
    let mut scene = Scene::at(Place::new(&format!("drain {window}")).await, &world).await;
    scene
        .rows
        .execute(
            "insert into customer (org_id, id, mobile, state) \
             select org.id, n, (919000000000 + n)::text, 'active' \
             from org, generate_series(1000, 1000000) n; analyze",
        )
        .await;
    let messages: Vec<Message> = (0..commands).map(link).collect();
    scene.publisher.publish(&messages).await;

    let settings = scene.settings.with("WINDOW", window);
    let start = Instant::now();
    let mut worker = Process::start(&settings, "drain");
    eventually(DEADLINE, "all effects are stored", async || {
        let stored = scene.rows.count("select last_value from enrolment_history_id_seq").await;
        (stored >= commands).then_some(())
    })
    .await;
    let peak_kib = peak_rss_kib(worker.id());
    worker.signal("TERM").await;
    assert!(worker.ended().await.success(), "{}", worker.words());
    let took = start.elapsed();
    assert_eq!(scene.rows.history_count().await, commands);
    (took, peak_kib)
}

/// Links a customer of his own for each number.
fn link(number: usize) -> Message {
    let body = json!({ "linkCustomers": [{
        "customer": { "mobile": format!("{}", 9_000_001_000_u64 + number as u64) },
        "linkToPartnerPrograms": [{
            "partnerProgramName": PROGRAM,
            "customerPartnerReference": { "partnerMembershipId": format!("m-{number}") },
        }],
    }]});
    command(&format!("{ORG}.link"), Some(&format!("drain-{number}")), body.to_string())
}

fn peak_rss_kib(process: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let words = line.expect("Linux tells").split_whitespace().next();
    words.and_then(|number| number.parse().ok()).expect("a number of KiB")
}
