//! Waits while the database is unavailable, within bounds: a lane that waits for longer than
//! `outage_grace_ms` gives its queue back, and a shutdown waits for no database.

use std::time::{Duration, Instant};

use crate::retry::Backoff;
use crate::store::error::Error;
use crate::worker::lane::error::GenerationError;
use crate::worker::lane::executor::Executor;

/// The first and the longest pause between tries while the database is unavailable.
pub(crate) const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

impl Executor {
    /// Pauses before the next try, unless the lane was kept waiting so long that the broker's ack
    /// timeout could strike: then its channel is closed, and the lane waits for the database without.
    pub(crate) async fn hold(
        &self,
        waiting: &mut RetryState,
        error: Error,
    ) -> Result<(), GenerationError> {
        if waiting.since.elapsed() > self.outage_grace() {
            return Err(error.into());
        }
        self.counters.health.turn();
        self.counters.health.fail(&error);
        let delay = waiting.pause.next_delay();
        tracing::warn!(
            lane = self.lane,
            "database unavailable; lane `{}` retries in {:.1} s: {error}",
            self.lane,
            delay.as_secs_f64()
        );
        self.sleep(delay).await
    }

    pub(crate) async fn pause(&self, pause: &mut Backoff) -> Result<(), GenerationError> {
        self.counters.health.turn();
        self.sleep(pause.next_delay()).await
    }

    /// A shutdown does not wait for a database that is unavailable: the commands are redelivered.
    async fn sleep(&self, delay: Duration) -> Result<(), GenerationError> {
        tokio::select! {
            () = tokio::time::sleep(delay) => Ok(()),
            () = self.shutdown.cancelled() => Err(self.stopping()),
        }
    }

    pub(crate) fn stopping(&self) -> GenerationError {
        let lane = &self.lane;
        Error::Outage(format!("lane `{lane}` is stopping; what it holds is redelivered")).into()
    }

    pub(crate) fn outage_grace(&self) -> Duration {
        Duration::from_millis(self.config.outage_grace_ms)
    }

    /// Gives what came of small work beside the batches; nothing, after a pause, if an outage or a
    /// conflict kept it from being done.
    pub(crate) async fn retry_transient<T>(
        &mut self,
        tried: Result<T, Error>,
        retry: &mut RetryState,
    ) -> Result<Option<T>, GenerationError> {
        match tried {
            Ok(done) => Ok(Some(done)),
            Err(error @ (Error::Outage(_) | Error::Statement(_) | Error::Conflict(_))) => {
                self.session.discard();
                self.hold(retry, error).await?;
                Ok(None)
            }
            Err(error @ (Error::Refused(_) | Error::Fenced { .. })) => Err(error.into()),
        }
    }
}

/// How long something was tried already.
pub(crate) struct RetryState {
    since: Instant,
    pause: Backoff,
}

impl RetryState {
    pub(crate) fn new() -> Self {
        Self { since: Instant::now(), pause: Backoff::new(PAUSE.0, PAUSE.1) }
    }
}
