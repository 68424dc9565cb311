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

/// Acquires the lane for a generation that has got its first delivery.
///
/// This worker may have been frozen since the delivery. Meanwhile the broker may have closed its channel,
/// and another worker may have given a command up and applied later ones: this worker must not apply that
/// command after them. So it asks the broker *after* it has acquired the lane. If its channel is still open
/// then, no other worker was active before; one that becomes active later acquires the lane from this one.
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
        let acquiring = async { fence::acquire(session.connection().await?, lane, owner).await };
        let error = match session::bounded(timeout, acquiring).await {
            Ok(fence) => break fence,
            Err(error) => error,
        };
        session.discard();
        let is_passing =
            matches!(error, Error::Outage(_) | Error::Statement(_) | Error::Conflict(_));
        if !is_passing || since.elapsed() > grace || shutdown.is_cancelled() {
            return Err(error.into());
        }
        tracing::warn!(
            lane,
            "lane `{lane}` could not be acquired yet; the worker tries again: {error}"
        );
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
