//! Acquires a lane: from then on no other worker commits for it, until one acquires it from us.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::broker::consumer::Acknowledger;
use crate::retry::Backoff;
use crate::store::error::Error;
use crate::store::fence::{self, Fence, Owner};
use crate::store::session::{self, Session};
use crate::worker::lane::error::GenerationError;

/// The first and the longest pause between tries while the database is unavailable, or while the
/// last owner of the lane is still committing.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// The least time for the broker's answer whether the channel is still open.
const CHECK_MIN: Duration = Duration::from_mins(1);

/// Acquires the lane for a generation that was delivered something.
///
/// A worker may have stood still since the delivery, while the broker gave it up, and another
/// one gave a command up and went on: then it must not apply that command after its successors.
/// So the broker is asked *after* the lane was acquired. If the channel is still open then, no
/// other worker was active before, and one that becomes active later acquires the lane from us.
pub(crate) async fn acquire(
    session: &mut Session,
    lane: &str,
    owner: Owner<'_>,
    channel: &Acknowledger,
    grace: Duration,
    shutdown: &CancellationToken,
) -> Result<Fence, GenerationError> {
    let timeout = session.timeout();
    let since = Instant::now();
    let mut pause = Backoff::new(PAUSE.0, PAUSE.1);
    let fence = loop {
        let taking = async { fence::take(session.connection().await?, lane, owner).await };
        let error = match session::bounded(timeout, taking).await {
            Ok(fence) => break fence,
            Err(error) => error,
        };
        session.discard();
        let is_passing =
            matches!(error, Error::Outage(_) | Error::Statement(_) | Error::Conflict(_));
        if !is_passing || since.elapsed() > grace || shutdown.is_cancelled() {
            return Err(error.into());
        }
        tracing::warn!(lane, "lane could not be acquired yet; it is retried: {error}");
        tokio::select! {
            () = pause.wait() => {}
            () = shutdown.cancelled() => {}
        }
    };
    tokio::select! {
        open = channel.check_open(grace.max(CHECK_MIN)) => open?,
        () = shutdown.cancelled() => {
            return Err(Error::Outage("the worker is stopping and can't wait for the broker".into()).into());
        }
    }
    tracing::info!(lane, lane.epoch = fence.epoch, "acquired lane {lane} at epoch {}", fence.epoch);
    Ok(fence)
}
