//! Pauses lanes in every worker: while an operator has paused them, and while a change of the routing map
//! holds them.
//!
//! A paused lane is drained as at the worker's end: what was begun is finished, published and
//! acked, then its channel closes. So a pause costs no delivery, and the lane goes on at the same
//! command. Each worker sees a pause for itself, within a second or so of the others; meanwhile the
//! lane may change its owner, as it may at any time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::periodic::Periodic;
use crate::store::connection;
use crate::store::error::Error as StoreError;
use crate::store::lane_pauses;
use crate::store::session::{self, Session};
use crate::worker::context::TaskContext;
use crate::worker::error::Error;
use crate::worker::health::State;
use crate::worker::lane::context::Lane;

/// How often is looked.
const INTERVAL: Duration = Duration::from_secs(1);

/// The paused lanes, as read last; `None` until they were read once. While the database is unavailable the
/// last answer holds: no lane makes progress then.
pub(crate) type Paused = Option<BTreeSet<String>>;

/// Looks which lanes are paused, until `shutdown`.
pub(crate) async fn watch(
    context: TaskContext,
    paused: Arc<watch::Sender<Paused>>,
) -> Result<(), Error> {
    let TaskContext { config, urls, shutdown, .. } = context;
    let name = format!("partner-program pauses {}", config.worker_id);
    let mut session = Session::new(urls.database_url.clone(), name, config.database_timeout());
    let mut told = false;
    let mut periodic = Periodic::new(INTERVAL, shutdown);
    while let Some(looked) = periodic.run(look(&mut session)).await {
        match looked {
            Ok(seen) => {
                told = false;
                paused.send_if_modified(|known| {
                    let is_news = known.as_ref() != Some(&seen);
                    *known = Some(seen);
                    is_news
                });
            }
            Err(error) => {
                session.discard();
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(
                        "the pauses of lanes could not be read; no lane starts until they can: {error}"
                    );
                }
            }
        }
    }
    Ok(())
}

async fn look(session: &mut Session) -> Result<BTreeSet<String>, StoreError> {
    let looking = session::bounded(session.timeout(), async {
        let connection = session.connection().await?;
        if !connection::is_writable(connection).await {
            return Err(StoreError::Outage("its server takes no writes any more".into()));
        }
        lane_pauses::paused(connection).await
    });
    Ok(looking.await?.into_iter().map(|pause| pause.lane).collect())
}

/// Works the lane until `shutdown`, but for the times in which it is paused.
pub(crate) async fn work(
    lane: Arc<Lane>,
    mut paused: watch::Receiver<Paused>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let (name, health) = (&lane.name, &lane.counters.health);
    loop {
        tokio::select! {
            () = health.turn_during(until_resumed(&mut paused, &lane)) => {}
            () = shutdown.cancelled() => return Ok(()),
        }
        let stop = shutdown.child_token();
        let mut working = std::pin::pin!(lane.run(stop.clone()));
        tokio::select! {
            ended = &mut working => return ended,
            () = until(&mut paused, |seen| is_paused(seen, name) == Some(true)) => {
                tracing::warn!(lane = name, "lane `{name}` is paused by an operator or by a routing change; it drains");
                stop.cancel();
                working.await?;
            }
        }
    }
}

async fn until_resumed(paused: &mut watch::Receiver<Paused>, lane: &Lane) {
    let (name, health) = (&lane.name, &lane.counters.health);
    until(paused, Option::is_some).await;
    if is_paused(&paused.borrow(), name) == Some(true) {
        health.enter(State::Paused);
        tracing::warn!(
            lane = name,
            "lane `{name}` is stopped until it is resumed or the routing change ends"
        );
    }
    until(paused, |seen| is_paused(seen, name) == Some(false)).await;
    health.enter(State::Connecting);
}

/// `None` until the pauses were read once.
fn is_paused(seen: &Paused, lane: &str) -> Option<bool> {
    seen.as_ref().map(|seen| seen.contains(lane))
}

async fn until(paused: &mut watch::Receiver<Paused>, is_so: impl FnMut(&Paused) -> bool) {
    if paused.wait_for(is_so).await.is_err() {
        // The task that reads the pauses has ended, and so does the worker.
        std::future::pending::<()>().await;
    }
}
