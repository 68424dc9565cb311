//! Joins the rooms: takes commands from lanes, applies them, announces the results.
//!
//! A lane is one ordered log. Its loop is the only place where an order of steps matters for
//! safety: commit, then confirm, then ack. Everything that can fail in between is repeated from
//! the queue, and the inbox makes the repetition harmless. Deliberately absent: any state that
//! outlives a channel generation.

mod announce;
mod archive;
pub mod counters;
mod dead_letter;
mod direct_reply;
mod fault;
mod followers;
mod hands;
mod holding;
mod in_hand;
mod intake;
mod isolate;
mod lane;
mod outgoing;
mod pauses;
mod preflight;
mod replays;
mod retention;
mod samples;
mod scout;
mod tenure;
pub(crate) mod window;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{self, Config};
use crate::worker::counters::LaneCounters;
use crate::worker::lane::Lane;

/// Why the worker as a whole ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting that a worker needs is missing.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The database does not keep what it commits.
    #[error("{0}")]
    NotDurable(String),
    /// The schema has lost what this program needs.
    #[error("{0}")]
    ProgramTooOld(String),
    /// A task panicked: a defect in the worker itself.
    #[error("a task of the worker stopped by itself: {0}")]
    TaskStopped(String),
    /// The drain took longer than `shutdown_deadline_ms`; what was not acked is redelivered.
    #[error("the lanes were not drained within {0} ms: what they held will be redelivered")]
    DrainDeadline(u64),
    /// A second signal asked to stop at once.
    #[error("stopped at once: what the lanes held will be redelivered")]
    Killed,
}

/// Where a worker's servers are.
struct Places {
    database_url: String,
    amqp_url: String,
}

/// Runs all lanes of the configuration until `shutdown`, and drains them.
///
/// `kill` ends the drain at once. Faults of the broker or the database never end the worker:
/// its lanes wait them out. `counters` are those of the same configuration.
pub async fn run(
    config: &Config,
    clock: Clock,
    counters: &LaneCounters,
    shutdown: CancellationToken,
    kill: CancellationToken,
) -> Result<(), Error> {
    let places = Arc::new(Places {
        database_url: config.database_url()?.to_owned(),
        amqp_url: config.amqp_url()?.to_owned(),
    });
    let config = Arc::new(config.clone());
    let mut tasks = JoinSet::new();
    let (paused, seen) = watch::channel(None);
    for lane in &config.lanes {
        let (name, seen) = (lane.name.clone(), seen.clone());
        let (config, places) = (Arc::clone(&config), Arc::clone(&places));
        let lane = Lane::new(name.clone(), config, places, clock.clone(), counters.lane(&name));
        tasks.spawn(pauses::work(lane, name, seen, shutdown.clone()));
    }
    tasks.spawn(pauses::watch(Arc::clone(&config), Arc::clone(&places), paused, shutdown.clone()));
    tasks.spawn(samples::run(
        Arc::clone(&config),
        Arc::clone(&places),
        counters.clone(),
        shutdown.clone(),
    ));
    tasks.spawn(retention::run(Arc::clone(&config), Arc::clone(&places), shutdown.clone()));
    if config.archive_dead_letters {
        tasks.spawn(archive::run(
            Arc::clone(&config),
            Arc::clone(&places),
            clock.clone(),
            shutdown.clone(),
        ));
        tasks.spawn(replays::run(Arc::clone(&config), places, clock, shutdown.clone()));
    }

    let deadline = async {
        shutdown.cancelled().await;
        tokio::time::sleep(Duration::from_millis(config.shutdown_deadline_ms)).await;
    };
    let drained = async {
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(|panic| Error::TaskStopped(panic.to_string()))??;
        }
        Ok(())
    };
    tokio::select! {
        ended = drained => ended,
        () = deadline => Err(Error::DrainDeadline(config.shutdown_deadline_ms)),
        () = kill.cancelled() => Err(Error::Killed),
    }
}
