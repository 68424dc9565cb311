//! A load without an end: an upstream that outlives whatever happens to the servers.

use std::time::Duration;

use partner_program_worker::message::Message;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::harness::publisher::Publisher;
use crate::harness::random::Random;

const BATCH: usize = 8;
const PACE: Duration = Duration::from_millis(20);
/// A confirm that never comes must not end the load.
const CONFIRM: Duration = Duration::from_secs(10);
/// Of a hundred commands, so many follow that were sent long ago.
const STALE_PERCENT: usize = 4;

/// An upstream that keeps sending, some hundred a second, whatever happens. What is not
/// confirmed it sends again, and at times something old: so a command may be queued several
/// times, but none is left out.
pub(crate) struct Upstream {
    over: CancellationToken,
    task: JoinHandle<Sent>,
}

/// What an upstream has noted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sent {
    /// The commands from 0 up to here were confirmed.
    pub(crate) confirmed: usize,
    /// Copies that were sent on top, confirmed or not.
    pub(crate) again: usize,
}

impl Upstream {
    /// Sends the commands of `step` in turn. The seed decides which come again.
    pub(crate) fn start(
        amqp_url: &str,
        seed: u64,
        step: impl Fn(usize) -> Message + Send + 'static,
    ) -> Self {
        let over = CancellationToken::new();
        let task = tokio::spawn(send(amqp_url.to_owned(), Random::new(seed), step, over.clone()));
        Self { over, task }
    }

    /// Stops it when nothing is in doubt any more.
    pub(crate) async fn stop(self) -> Sent {
        self.over.cancel();
        self.task.await.expect("the upstream does not panic")
    }
}

async fn send(
    amqp_url: String,
    mut random: Random,
    step: impl Fn(usize) -> Message,
    over: CancellationToken,
) -> Sent {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sent = Sent::default();
    let mut in_doubt = false;
    let mut publisher: Option<Publisher> = None;
    while in_doubt || !over.is_cancelled() {
        pace.tick().await;
        let Some(open) = &publisher else {
            publisher = Publisher::try_open(&amqp_url).await.ok();
            continue;
        };
        for _ in 0..BATCH {
            in_doubt = !confirmed(open, &step(sent.confirmed)).await;
            if in_doubt {
                sent.again += 1;
                publisher = None;
                break;
            }
            sent.confirmed += 1;
            if random.chance(STALE_PERCENT) {
                sent.again += 1;
                if !confirmed(open, &step(random.below(sent.confirmed))).await {
                    publisher = None;
                    break;
                }
            }
        }
    }
    sent
}

async fn confirmed(publisher: &Publisher, message: &Message) -> bool {
    matches!(
        timeout_at(Instant::now() + CONFIRM, publisher.try_publish(message)).await,
        Ok(Ok(true))
    )
}
