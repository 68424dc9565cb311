//! Looks after the bindings that route commands to their lanes: makes those that are missing, once a
//! minute, or says that they are missing where the user may not bind.
//!
//! A command that no binding leads to its lane is confirmed to its publisher all the same, and lost or
//! led into the wrong lane: only the routing map tells.

use std::time::{Duration, Instant};

use crate::broker::connection::Connection;
use crate::broker::management::Management;
use crate::broker::topology::Topology;
use crate::broker::topology::bindings::Mended;
use crate::periodic::Periodic;
use crate::store::routing;
use crate::store::session::{self, Session};
use crate::worker::context::TaskContext;
use crate::worker::counters::LaneCounters;
use crate::worker::error::Error;
use crate::worker::health::Bindings;
use crate::worker::installation;
use crate::worker::lane::error::GenerationError;
use crate::worker::lane::routing::mend_bindings;

const INTERVAL: Duration = Duration::from_mins(1);
/// How often a user who may not bind tries all the same: the broker logs each refusal.
const REFUSED_INTERVAL: Duration = Duration::from_hours(1);
/// Bounds the work in the database, and how long the map may be kept from changing.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Looks after them until `shutdown`.
pub(crate) async fn run(context: TaskContext, counters: LaneCounters) -> Result<(), Error> {
    let name = format!("partner-program bindings {}", context.config.worker_id);
    let url = context.urls.database_url.clone();
    let mut session = Session::new(url, name.clone(), TIMEOUT);
    let mut refused_at: Option<Instant> = None;
    let mut periodic = Periodic::new(INTERVAL, context.shutdown.clone());
    loop {
        let looking = async {
            let may_bind = refused_at.is_none_or(|at| at.elapsed() > REFUSED_INTERVAL);
            (may_bind, look(&context, &mut session, may_bind, &name).await)
        };
        let Some((may_bind, looked)) = periodic.run(looking).await else { break };
        session.discard();
        match looked {
            Ok(Some(bindings)) => {
                refused_at = match bindings {
                    Bindings::Made => None,
                    Bindings::NotChecked
                    | Bindings::Verified
                    | Bindings::NotPermitted
                    | Bindings::Missing(_) => {
                        refused_at.filter(|_| !may_bind).or(Some(Instant::now()))
                    }
                };
                if !bindings.is_ready() {
                    tracing::error!(
                        "commands may reach the wrong lane or none: bindings are {bindings}; run `partner-program topology apply`, \
                         or let the user of amqp_url bind (write on the lanes' queues, read on exchange `{}`)",
                        crate::broker::topology::ROUTING
                    );
                }
                counters.set_bindings(bindings);
            }
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(
                    "bindings can't be checked; the worker tries again in {} s: {error}",
                    INTERVAL.as_secs()
                );
            }
        }
    }
    Ok(())
}

/// Nothing, while the map is being changed.
async fn look(
    context: &TaskContext,
    session: &mut Session,
    may_bind: bool,
    name: &str,
) -> Result<Option<Bindings>, GenerationError> {
    if !may_bind {
        return verify(context, session).await;
    }
    let broker = Connection::open(&context.urls.amqp_url, name).await?;
    let mended = match installation::check(session, &broker).await {
        Ok(()) => mend_bindings(session, &broker).await,
        Err(fault) => Err(fault),
    };
    broker.close().await;
    match mended? {
        Some(Mended::Bound) => Ok(Some(Bindings::Made)),
        Some(Mended::NotPermitted) => verify(context, session).await,
        None => Ok(None),
    }
}

async fn verify(
    context: &TaskContext,
    session: &mut Session,
) -> Result<Option<Bindings>, GenerationError> {
    let Some(url) = &context.config.management_url else { return Ok(Some(Bindings::NotPermitted)) };
    let timeout = session.timeout();
    let loading = async { routing::load(session.connection().await?).await };
    let Some(routing) = session::bounded(timeout, loading).await? else { return Ok(None) };
    if routing.change.is_some() {
        return Ok(None);
    }
    let management = Management::new(url.expose(), &context.urls.amqp_url)?;
    let differences = management.compare_bindings(&Topology { map: routing.map }).await?;
    Ok(Some(if differences.missing.is_empty() {
        Bindings::Verified
    } else {
        Bindings::Missing(differences.missing)
    }))
}
