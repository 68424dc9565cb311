//! Joins the modules below: takes commands from lanes, applies them, announces the results.
//!
//! A lane is one ordered log. Its loop is the only place where an order of steps matters for
//! safety: commit, then confirm, then ack. Everything that can fail in between is repeated from
//! the queue, and the inbox makes the repetition harmless. Deliberately absent: any state that
//! outlives a channel generation and that work would depend on.

mod announce;
pub(crate) mod answer;
mod archive;
mod archive_limits;
mod attempts;
mod bindings;
mod canary;
mod connect;
pub mod counters;
mod dead_letter;
mod drain;
mod evaluation_deadline;
mod event_summary;
mod executor;
mod facts;
mod fault;
mod followers;
mod hands;
pub mod health;
mod holding;
mod in_hand;
mod installation;
mod intake;
mod lane;
mod losses;
mod outage;
mod outgoing;
mod pauses;
mod permit;
mod preflight;
mod presence;
mod priority;
pub mod priority_counts;
mod publishing;
mod replay_check;
mod replays;
mod replies;
mod reply_handover;
mod retention;
mod routing;
mod samples;
mod scout;
mod side_transactions;
mod split;
pub(crate) mod supervise;
mod tenure;
mod window;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{self, Config};
use crate::worker::counters::{Counters, LaneCounters};
use crate::worker::lane::Lane;
use crate::worker::permit::Permits;
use crate::worker::supervise::supervise;

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

/// What the tasks of a worker share.
#[derive(Clone)]
struct Parts {
    config: Arc<Config>,
    places: Arc<Places>,
    clock: Clock,
    permits: Arc<Permits>,
    shutdown: CancellationToken,
}

impl Parts {
    fn lane(&self, name: String, counters: Arc<Counters>) -> Lane {
        let Self { config, places, clock, permits, shutdown: _ } = self.clone();
        Lane::new(name, config, places, clock, counters, permits)
    }
}

/// A task beside the lanes, begun anew each time.
type Task = Box<dyn Fn(&Parts) -> BoxFuture<'static, Result<(), Error>> + Send + Sync>;

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
    let places = Places {
        database_url: config.database_url()?.to_owned(),
        amqp_url: config.amqp_url()?.to_owned(),
    };
    let parts = Parts {
        config: Arc::new(config.clone()),
        places: Arc::new(places),
        clock,
        permits: Arc::new(Permits::of(counters.process())),
        shutdown: shutdown.clone(),
    };
    let mut tasks = JoinSet::new();
    let (paused, seen) = watch::channel(None);
    for lane in &config.lanes {
        let counters = counters.lane(&lane.name);
        let lane = Arc::new(parts.lane(lane.name.clone(), Arc::clone(&counters)));
        let (seen, stop) = (seen.clone(), shutdown.clone());
        let work = move || pauses::work(Arc::clone(&lane), seen.clone(), stop.clone());
        let shutdown = shutdown.clone();
        tasks
            .spawn(async move { supervise("lane", &counters.task_restarts, shutdown, work).await });
    }
    let mut run_beside = |name: &'static str, task: Task| {
        let (counters, shutdown, parts) = (counters.clone(), shutdown.clone(), parts.clone());
        tasks.spawn(async move {
            let task = || drain::within(parts.shutdown.clone(), task(&parts));
            supervise(name, counters.task_restarts(), shutdown, task).await
        });
    };
    let paused = Arc::new(paused);
    run_beside(
        "lane pauses",
        Box::new(move |parts| Box::pin(pauses::watch(parts.clone(), Arc::clone(&paused)))),
    );
    let of_lanes = counters.clone();
    run_beside(
        "lane metrics",
        Box::new(move |parts| Box::pin(samples::run(parts.clone(), of_lanes.clone()))),
    );
    let of_lanes = counters.clone();
    run_beside(
        "bindings",
        Box::new(move |parts| Box::pin(bindings::run(parts.clone(), of_lanes.clone()))),
    );
    run_beside("retention", Box::new(|parts| Box::pin(retention::run(parts.clone()))));
    if config.archive_dead_letters {
        run_beside("archive", Box::new(|parts| Box::pin(archive::run(parts.clone()))));
        run_beside("replay outcomes", Box::new(|parts| Box::pin(replays::run(parts.clone()))));
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
