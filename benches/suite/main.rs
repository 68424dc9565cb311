//! What the worker does a second, beside peers and the machine's limits, in one run.
//!
//! `scripts/bench.sh` runs it on private servers and writes `benches/RESULTS.md`. Everything
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
#[path = "../../tests/it/model/mod.rs"]
mod model;

mod bare;
mod commands;
mod contender;
mod drain;
mod flow;
mod limits;
mod rate;
mod report;
mod routing;
mod sections;
mod stage;

use crate::stage::Stage;

/// Sets how often each figure is taken.
const ROUNDS_VARIABLE: &str = "PARTNER_PROGRAM_BENCH_ROUNDS";
const SECTIONS: [&str; 6] = ["drain", "routing", "steady", "shapes", "growth", "recovery"];
const MANY: usize = 1_000_000;
const VERY_MANY: usize = 10_000_000;

#[tokio::main]
async fn main() {
    // Cargo adds `--bench`.
    let mut asked: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if asked.is_empty() {
        asked = SECTIONS.map(str::to_owned).to_vec();
    }
    let rounds = std::env::var(ROUNDS_VARIABLE).map_or(5, |n| n.parse().expect("a number"));
    // What the broker alone does needs no customers.
    let customers = if asked == ["routing"] { 1 } else { 4 * MANY };
    let mut stage = Stage::start(customers).await;
    let fewer = rounds.min(3);
    for section in &asked {
        match section.as_str() {
            "drain" => sections::drains(&mut stage, rounds).await,
            "routing" => routing::compare(&mut stage, rounds).await,
            "steady" => sections::steady(&mut stage, fewer).await,
            "shapes" => sections::shapes(&mut stage, fewer).await,
            "growth" => {
                sections::growth(&mut stage, "4,000,000", &[10_000, 100_000, MANY]).await;
            }
            "huge" => {
                let mut huge = Stage::start(VERY_MANY).await;
                sections::growth(&mut huge, "10,000,000", &[10_000, 100_000, MANY]).await;
            }
            "recovery" => sections::recovery(&mut stage, fewer).await,
            other => panic!("no section {other}: {} or huge", SECTIONS.join(", ")),
        }
    }
}
