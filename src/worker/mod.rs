//! Joins the modules below: receives commands from lanes, applies them, publishes the results.
//!
//! A lane is one ordered log. Its loop is the only place where an order of steps matters for
//! safety: commit, then confirm, then ack. Everything that can fail in between is repeated from
//! the queue, and the inbox makes the repetition harmless. Deliberately absent: any state that
//! outlives a channel generation and that work would depend on.

mod hold;
pub(crate) mod lane;
mod tasks;

mod context;
pub mod counters;
mod drain;
pub mod error;
mod event_summary;
pub mod health;
mod in_flight;
mod installation;
mod pauses;
mod permits;
pub mod priority_counts;
pub(crate) mod supervise;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::Config;
use crate::worker::context::{ServerUrls, TaskContext};
use crate::worker::counters::LaneCounters;
use crate::worker::error::Error;
use crate::worker::lane::context::Lane;
use crate::worker::permits::Permits;
use crate::worker::supervise::supervise;
use crate::worker::tasks::{archive, bindings, lane_metrics, replay_outcomes, retention};

/// A task beside the lanes, made again for each restart.
type Task = Box<dyn Fn(&TaskContext) -> BoxFuture<'static, Result<(), Error>> + Send + Sync>;

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
    let urls = ServerUrls {
        database_url: config.database_url()?.to_owned(),
        amqp_url: config.amqp_url()?.to_owned(),
    };
    let context = TaskContext {
        config: Arc::new(config.clone()),
        urls: Arc::new(urls),
        clock,
        permits: Arc::new(Permits::of(counters.process())),
        shutdown: shutdown.clone(),
    };
    let mut tasks = JoinSet::new();
    let (paused, seen) = watch::channel(None);
    for lane in &config.lanes {
        let counters = counters.lane(&lane.name);
        let lane = Arc::new(Lane::new(lane.name.clone(), &context, Arc::clone(&counters)));
        let (seen, stop) = (seen.clone(), shutdown.clone());
        let work = move || pauses::work(Arc::clone(&lane), seen.clone(), stop.clone());
        let shutdown = shutdown.clone();
        tasks
            .spawn(async move { supervise("lane", &counters.task_restarts, shutdown, work).await });
    }
    let mut run_beside = |name: &'static str, task: Task| {
        let (counters, shutdown, context) = (counters.clone(), shutdown.clone(), context.clone());
        tasks.spawn(async move {
            let task = || drain::within(context.shutdown.clone(), task(&context));
            supervise(name, counters.task_restarts(), shutdown, task).await
        });
    };
    let paused = Arc::new(paused);
    run_beside(
        "lane pauses",
        Box::new(move |context| Box::pin(pauses::watch(context.clone(), Arc::clone(&paused)))),
    );
    let of_lanes = counters.clone();
    run_beside(
        "lane metrics",
        Box::new(move |context| Box::pin(lane_metrics::run(context.clone(), of_lanes.clone()))),
    );
    let of_lanes = counters.clone();
    run_beside(
        "bindings",
        Box::new(move |context| Box::pin(bindings::run(context.clone(), of_lanes.clone()))),
    );
    run_beside("retention", Box::new(|context| Box::pin(retention::run(context.clone()))));
    if config.archive_dead_letters {
        run_beside("archive", Box::new(|context| Box::pin(archive::run(context.clone()))));
        run_beside(
            "replay outcomes",
            Box::new(|context| Box::pin(replay_outcomes::run(context.clone()))),
        );
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
