//! The worker.

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::Config;

/// Why the worker ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The loop is not here yet.
    #[error("the worker is not built in yet")]
    Absent,
}

/// Works until `shutdown`, then drains; `kill` ends the drain.
#[expect(clippy::unused_async, reason = "the loop is not here yet")]
pub async fn run(
    _config: &Config,
    _clock: Clock,
    _shutdown: CancellationToken,
    _kill: CancellationToken,
) -> Result<(), Error> {
    Err(Error::Absent)
}
