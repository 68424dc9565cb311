//! Keeps a database and a broker together that belong together.

use uuid::Uuid;

use crate::broker::connection::Connection as BrokerConnection;
use crate::broker::depth;
use crate::broker::error::Error as BrokerError;
use crate::broker::installation::{self as broker_installation, Claim};
use crate::broker::topology::{CATCH_ALL_LANE, DEAD_LETTERS, lane_queue};
use crate::domain::actor::Actor;
use crate::domain::routing::RoutingMap;
use crate::store::connection::Connection;
use crate::store::error::Error as StoreError;
use crate::store::installation;

/// Why a broker is not to be used for a database.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error("database: {0}")]
    Store(#[from] StoreError),
    /// The broker.
    #[error("broker: {0}")]
    Broker(#[from] BrokerError),
    /// It belongs to another installation or to none.
    #[error("{0}")]
    NotOurs(String),
    /// Workers of the other installation use it.
    #[error("{0}")]
    InUse(String),
}

/// Fails unless the broker is the database's. Changes nothing.
pub async fn check(database: &mut Connection, broker: &BrokerConnection) -> Result<(), Error> {
    let id = installation::id(database).await?;
    match broker_installation::owner(broker, id).await?.problem(id) {
        None => Ok(()),
        Some(problem) => Err(Error::NotOurs(problem)),
    }
}

/// Makes an unclaimed broker the database's. Safe to repeat.
pub async fn claim(database: &mut Connection, broker: &BrokerConnection) -> Result<(), Error> {
    let id = installation::id(database).await?;
    match broker_installation::claim(broker, id).await? {
        Claim::Granted => Ok(()),
        Claim::Refused(owner) => Err(Error::NotOurs(format!(
            "the broker belongs to {}, and the database is of installation {id}: check amqp_url and \
             database_url. To take the broker for this database, stop the workers of the other installation, \
             then: partner-program topology apply --adopt --reason …",
            name(owner)
        ))),
    }
}

/// Makes a broker the database's that is another installation's. What waits in its lanes will be applied
/// to this database. Says whose it was, if it was another's.
///
/// # Errors
///
/// [`Error::InUse`] while workers use it.
pub async fn adopt(
    database: &mut Connection,
    broker: &BrokerConnection,
    map: &RoutingMap,
    actor: &Actor,
) -> Result<Option<String>, Error> {
    let id = installation::id(database).await?;
    let Claim::Refused(owner) = broker_installation::claim(broker, id).await? else {
        return Ok(None);
    };
    let lanes = map.lanes.iter().map(String::as_str).chain([CATCH_ALL_LANE]).map(lane_queue);
    for queue in lanes.chain([DEAD_LETTERS.to_owned()]) {
        let consumers = depth::depth(broker, &queue).await?.map_or(0, |depth| depth.consumers);
        if consumers > 0 {
            return Err(Error::InUse(format!(
                "queue `{queue}` has {consumers} consumer(s): stop the workers of {} first",
                name(owner)
            )));
        }
    }
    installation::note_adoption(database, owner, actor).await?;
    broker_installation::release(broker, owner).await?;
    claim(database, broker).await?;
    Ok(Some(name(owner)))
}

/// Gives a copy of a database an id of its own, and makes the broker the copy's. A broker that belongs to
/// the original refuses, and nothing is changed.
pub async fn renew(
    database: &mut Connection,
    broker: &BrokerConnection,
    actor: &Actor,
) -> Result<Uuid, Error> {
    let id = Uuid::new_v4();
    match broker_installation::claim(broker, id).await? {
        Claim::Granted => {
            installation::renew(database, id, actor).await?;
            Ok(id)
        }
        Claim::Refused(owner) => Err(Error::NotOurs(format!(
            "the broker belongs to {}: a new installation needs a broker, or a virtual host, of its own",
            name(owner)
        ))),
    }
}

fn name(owner: Option<Uuid>) -> String {
    match owner {
        Some(id) => format!("installation {id}"),
        None => "another installation".to_owned(),
    }
}
