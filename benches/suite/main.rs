//! What the worker does a second, beside peers and the machine's limits, in one run.
//!
//! `deploy/local/bench.sh` runs it on private servers and writes `benches/RESULTS.md`. Everything
//! is as durable as in production: fsync, quorum queues, persistent messages, confirms.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "it prints figures, or fails"
)]

#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../../tests/it/harness/mod.rs"]
mod harness;
#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../../tests/it/model/mod.rs"]
mod model;

mod commands;
mod contender;
mod drain;
mod limits;
mod stage;

use crate::contender::Contender;
use crate::stage::Stage;

#[tokio::main]
async fn main() {
    let mut stage = Stage::start(1_000_000).await;
    let count = std::env::var("N").map_or(60_000, |n| n.parse().expect("a number"));
    let rounds = std::env::var("ROUNDS").map_or(3, |n| n.parse().expect("a number"));
    let conns: Vec<usize> = std::env::var("CONNS")
        .unwrap_or("1,2,4".into())
        .split(',')
        .map(|c| c.parse().expect("n"))
        .collect();
    for _ in 0..2 {
        let l = limits::broker(&mut stage, count).await;
        eprintln!("limits: {:.0} {:.0}", l.published, l.consumed);
    }
    for round in 0..rounds {
        for connections in &conns {
            let messages =
                commands::singles(&mut stage, &format!("r{round}-{connections}"), count, 1);
            let contender = Contender::Worker { window: 512, connections: *connections };
            drain::drain(&mut stage, &contender, &messages).await;
        }
    }
}
