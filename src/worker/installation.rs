//! Whether the broker is the database's: looked at with each connection, before anything is taken from
//! the broker or given to it. A worker that mixes two installations up applies the commands of one to the
//! other.

use crate::broker::connection::Connection;
use crate::broker::installation as broker_installation;
use crate::store::installation;
use crate::store::session::{self, Session};
use crate::worker::fault::Fault;

/// Fails unless it is.
pub(super) async fn check(session: &mut Session, broker: &Connection) -> Result<(), Fault> {
    let timeout = session.timeout();
    let reading = async { installation::id(session.connection().await?).await };
    let id = session::bounded(timeout, reading).await?;
    match broker_installation::owner(broker, id).await?.problem(id) {
        None => Ok(()),
        Some(problem) => Err(Fault::NotOurBroker(problem)),
    }
}
