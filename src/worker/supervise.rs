//! Restarts the tasks of the worker that end by themselves.
//!
//! A defect in one task ends no lane, and each restart is logged.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::retry::Backoff;
use crate::worker::counters::Counters;
use crate::worker::error::Error;

/// The first and the longest pause before a task restarts.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// Runs `task` until `shutdown`, and restarts it when it ends. Ends early only with an error that ends the
/// whole worker.
pub(crate) async fn supervise<F>(
    name: &'static str,
    restarts: &AtomicU64,
    shutdown: CancellationToken,
    task: impl Fn() -> F,
) -> Result<(), Error>
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let mut pause = Backoff::new(PAUSE.0, PAUSE.1);
    loop {
        let why = match AbortOnDropHandle::new(tokio::spawn(task())).await {
            Ok(Err(error)) => return Err(error),
            Ok(Ok(())) if shutdown.is_cancelled() => return Ok(()),
            Ok(Ok(())) => "it ended early".to_owned(),
            Err(panic) => panic.to_string(),
        };
        Counters::add(restarts, 1);
        let delay = pause.next_delay();
        tracing::error!(
            task = name,
            "task `{name}` stopped by itself; it restarts in {:.1} s: {why}",
            delay.as_secs_f64()
        );
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_or_ends_early_begins_anew() {
        let (restarts, runs) = (AtomicU64::new(0), Arc::new(AtomicU64::new(0)));
        let shutdown = CancellationToken::new();
        let task = || {
            let (shutdown, run) = (shutdown.clone(), runs.fetch_add(1, Ordering::Relaxed));
            async move {
                assert_ne!(run, 0, "the first run panics");
                if run == 2 {
                    shutdown.cancel();
                }
                Ok(())
            }
        };
        supervise("test", &restarts, shutdown.clone(), task).await.unwrap();
        assert_eq!(runs.load(Ordering::Relaxed), 3);
        assert_eq!(restarts.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn an_error_of_the_worker_ends_it() {
        let restarts = AtomicU64::new(0);
        let task = || async { Err(Error::NotDurable("fsync is off".into())) };
        let ended = supervise("test", &restarts, CancellationToken::new(), task).await;
        assert!(matches!(ended, Err(Error::NotDurable(_))));
    }
}
