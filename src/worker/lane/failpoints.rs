//! What a lane never does, for the fault suite (`failpoint`).

use crate::broker::consumer::Acknowledger;
use crate::broker::error::Error;

/// Acks a batch whose results are not published yet.
pub(crate) async fn ack(
    acknowledger: &Acknowledger,
    ack_through: &mut Option<u64>,
) -> Result<(), Error> {
    match ack_through.take() {
        Some(tag) => acknowledger.ack_through(tag).await,
        None => Ok(()),
    }
}
