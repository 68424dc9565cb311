//! A load without an end: an upstream that outlives whatever happens to the servers.

use std::time::Duration;

use partner_program_worker::message::Message;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::harness::journey::step;
use crate::harness::publisher::Publisher;

/// An upstream that keeps sending steps, some hundred a second, whatever happens. What is not
/// confirmed it sends again, so a step may be queued twice but none is left out.
pub(crate) struct Upstream {
    stop: CancellationToken,
    task: JoinHandle<usize>,
}

impl Upstream {
    pub(crate) fn start(amqp_url: &str) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(send(amqp_url.to_owned(), stop.clone()));
        Self { stop, task }
    }

    /// Stops it, and says how many steps are confirmed.
    pub(crate) async fn stop(self) -> usize {
        self.stop.cancel();
        self.task.await.expect("the upstream does not panic")
    }
}

async fn send(amqp_url: String, stop: CancellationToken) -> usize {
    let mut pace = interval(Duration::from_millis(20));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut confirmed = 0;
    let mut publisher: Option<Publisher> = None;
    while !stop.is_cancelled() {
        pace.tick().await;
        let Some(open) = &publisher else {
            publisher = Publisher::try_open(&amqp_url).await.ok();
            continue;
        };
        let batch: Vec<Message> = (confirmed..confirmed + 8).map(step).collect();
        for message in &batch {
            // A confirm that never comes must not end the load.
            let end = Instant::now() + Duration::from_secs(10);
            let Ok(Ok(true)) = timeout_at(end, open.try_publish(message)).await else {
                publisher = None;
                break;
            };
            confirmed += 1;
        }
    }
    confirmed
}
