//! Work that is done again and again, at an interval.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Runs work at an interval until a shutdown, which drops a run that is under way.
#[derive(Debug)]
pub struct Periodic {
    /// From the end of a run to the beginning of the next one.
    interval: Duration,
    shutdown: CancellationToken,
    has_run: bool,
}

impl Periodic {
    /// The first run begins at once.
    #[must_use]
    pub const fn new(interval: Duration, shutdown: CancellationToken) -> Self {
        Self { interval, shutdown, has_run: false }
    }

    /// Waits until the next run is due and runs `work`; nothing after the shutdown. `work` has to be
    /// cancel-safe.
    pub fn run<T>(&mut self, work: impl Future<Output = T>) -> impl Future<Output = Option<T>> {
        let delay = if self.has_run { self.interval } else { Duration::ZERO };
        self.has_run = true;
        let work = Box::pin(work);
        let running = async move {
            tokio::time::sleep(delay).await;
            work.await
        };
        self.shutdown.run_until_cancelled(running)
    }
}
