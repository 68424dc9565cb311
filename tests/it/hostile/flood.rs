//! A flood of garbage with good commands in it.

use std::time::Duration;

use partner_program_worker::message::Message;

use crate::harness::environment::TestEnv;
use crate::harness::eventually;
use crate::harness::leftovers::assert_nothing_is_left;
use crate::harness::publisher::command;
use crate::harness::worker::Process;
use crate::harness::workload::{assert_done_in_order, assert_first_results_in_order, step, steps};
use crate::hostile::{DEAD_LETTERS, assert_one_generation, workload_env};

const GARBAGE: usize = 100_000;
/// One good command after so much garbage.
const EVERY: usize = 1_000;
/// For all of it, on a machine that does other things besides.
const DEADLINE: Duration = Duration::from_mins(6);
/// Far more than batches of such messages need, and far less than all of them would.
const MEMORY_KIB_MAX: usize = 300 * 1024;

fn garbage(number: usize) -> Message {
    let id = format!("garbage-{number}");
    command("acme.link", Some(&id), format!("{{\"linkCustomers\": garbage {number}"))
}

#[tokio::test]
async fn a_flood_of_garbage_neither_stalls_nor_loses_anything() {
    let TestEnv { place, settings, mut rows, mut results, publisher } = workload_env("flood").await;
    let mut worker = Process::start(&settings, "flooded");
    for good in 0..GARBAGE / EVERY {
        let mut batch: Vec<Message> = (good * EVERY..(good + 1) * EVERY).map(garbage).collect();
        batch.push(step(good));
        publisher.publish(&batch).await;
    }
    let good = steps(0..GARBAGE / EVERY);
    results.read(GARBAGE + good.len(), DEADLINE).await;
    assert_done_in_order(&good, &mut results, &mut rows, DEADLINE).await;
    assert_first_results_in_order(&results);
    eventually(DEADLINE, "every piece of garbage is a dead letter", async || {
        let depth = place.broker.depth(DEAD_LETTERS)?;
        (depth.ready == GARBAGE as u64).then_some(())
    })
    .await;
    assert!(worker.is_running());
    assert_one_generation(&mut rows).await;
    let memory_kib = worker.peak_memory_kib();
    assert!(memory_kib < MEMORY_KIB_MAX, "{memory_kib} KiB at the most");
    worker.signal("TERM").await;
    assert!(worker.ended().await.success());
    assert_nothing_is_left(&place, &["main"]).await;
    // Neither more nor fewer, now that nobody works any more.
    let depth = place.broker.depth(DEAD_LETTERS).expect("the queue");
    assert_eq!(depth.ready, GARBAGE as u64);
    assert_eq!(results.received.len(), GARBAGE + good.len(), "each outcome once");
}
