//! Commands that wait already: how fast are they stored and answered?

use std::time::{Duration, Instant};

use partner_program_worker::message::Message;

use crate::contender::Contender;
use crate::harness::publisher::Publisher;
use crate::rate::per_second;
use crate::stage::{RESULTS, Stage};

/// The share of the commands after which the clock starts: what is before is the start of a
/// process.
const START_SHARE: usize = 20;
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// At a hundred commands a second.
const DEADLINE: Duration = Duration::from_mins(10);

/// A drained lane.
pub(crate) struct Drained {
    pub(crate) per_second: f64,
    pub(crate) peak_mib: f64,
}

/// Lets the contender drain the lane of `messages`.
pub(crate) async fn drain(
    stage: &mut Stage,
    contender: &Contender,
    messages: &[Message],
) -> Drained {
    fill(stage, messages).await;
    drain_filled(stage, contender, messages.len()).await
}

/// Likewise, of a lane that is full already.
pub(crate) async fn drain_filled(
    stage: &mut Stage,
    contender: &Contender,
    count: usize,
) -> Drained {
    let running = contender.start(stage, "bench", count);
    let per_second = answered(stage, count).await;
    let peak_mib = running.peak_mib();
    stage.drained().await;
    running.stop().await;
    eprintln!("{}: {per_second:.0}/s, {peak_mib:.0} MiB", contender.name());
    Drained { per_second, peak_mib }
}

/// Fills the lane.
pub(crate) async fn fill(stage: &mut Stage, messages: &[Message]) {
    stage.reset().await;
    Publisher::open(&stage.place.amqp_url).await.publish(messages).await;
}

/// Waits for so many results, and returns how fast they came.
async fn answered(stage: &Stage, count: usize) -> f64 {
    let deadline = Instant::now() + DEADLINE;
    let mut start = None;
    loop {
        let results = stage.depth(RESULTS).await;
        let (before, since) = match start {
            Some(start) => start,
            None if results >= count / START_SHARE => *start.insert((results, Instant::now())),
            None => (0, Instant::now()),
        };
        if results >= count {
            return per_second(results - before, since.elapsed());
        }
        assert!(Instant::now() < deadline, "{results} of {count} results within {DEADLINE:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
