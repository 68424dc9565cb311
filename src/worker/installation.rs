//! Checks that broker and database belong to the same installation: with each connection, before anything is
//! consumed or published. A worker that mixes two installations up applies the commands of one to the other.

use crate::broker::connection::Connection;
use crate::broker::installation as broker_installation;
use crate::store::installation;
use crate::store::session::{self, Session};
use crate::worker::lane::error::GenerationError;

/// Fails unless they do.
pub(crate) async fn check(
    session: &mut Session,
    broker: &Connection,
) -> Result<(), GenerationError> {
    let timeout = session.timeout();
    let reading = async { installation::id(session.connection().await?).await };
    let id = session::bounded(timeout, reading).await?;
    match broker_installation::owner(broker, id).await?.problem(id) {
        None => Ok(()),
        Some(problem) => Err(GenerationError::NotOurBroker(problem)),
    }
}
