//! Stopping in time, whatever is waited for: a server that is silent, one that refuses, a lock.
//!
//! A drain that makes progress may take as long as `shutdown_deadline_ms` allows. One that makes none is given
//! up: its work is dropped as at a kill, so what was not acked is delivered again, in its order, and what was
//! committed is found in the inbox. Both bounds together keep the promise of ten seconds.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::worker::counters::Counters;
use crate::worker::error::Error;

/// How long a drain may make no progress before it is given up.
pub(crate) const STALL: Duration = Duration::from_secs(6);
/// How often is looked.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// How long a task beside the lanes may take to end. What it leaves undone another worker does.
const BACKGROUND: Duration = Duration::from_secs(5);

/// Returns when a drain that `shutdown` has begun makes no progress any more.
pub(crate) async fn stalled(shutdown: &CancellationToken, counters: &Counters) {
    shutdown.cancelled().await;
    no_step_for(STALL, LOOK_INTERVAL, counters).await;
}

async fn no_step_for(stall: Duration, look_interval: Duration, counters: &Counters) {
    let (mut seen, mut since) = (Counters::get(&counters.steps), Instant::now());
    while since.elapsed() < stall {
        sleep(look_interval).await;
        let now = Counters::get(&counters.steps);
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
    }
}

/// Runs a task beside the lanes, and drops it if it does not end by itself soon after `shutdown`.
pub(crate) async fn within(
    shutdown: CancellationToken,
    task: impl Future<Output = Result<(), Error>>,
) -> Result<(), Error> {
    let over = async {
        shutdown.cancelled().await;
        sleep(BACKGROUND).await;
    };
    tokio::select! {
        ended = task => ended,
        () = over => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_drain_is_given_up_only_when_it_gets_no_further() {
        let (stall, look_interval) = (Duration::from_millis(200), Duration::from_millis(2));
        let counters = Counters::default();
        let begun = Instant::now();
        let steps = async {
            for _ in 0..10 {
                sleep(stall / 4).await;
                Counters::add(&counters.steps, 1);
            }
            Instant::now()
        };
        let given_up = async {
            no_step_for(stall, look_interval, &counters).await;
            Instant::now()
        };
        let (last_step, given_up) = tokio::join!(steps, given_up);
        assert!(begun.elapsed() > stall * 3, "it got on for longer than the bound");
        assert!(given_up > last_step, "it was given up while it got on");
    }
}
