//! `partner-program run`

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::context::{Context, Exit};
use crate::clock::Clock;
use crate::console;
use crate::usecases::dead_letters::job_recovery;
use crate::worker;
use crate::worker::counters::LaneCounters;
use crate::worker::supervise::supervise;

/// Work: take commands off the lanes, apply them, publish the results
#[derive(clap::Args)]
#[command(after_help = "\
Runs until SIGTERM or SIGINT (Ctrl-C): then it takes no more, finishes what it has begun, publishes
and acknowledges that, and exits with 0. A second signal exits at once with 1; nothing is lost by
it, because what was not acknowledged is delivered again and counts once.

It waits for a database or broker that is unavailable, for as long as it takes. Start as many as you like:
each lane has one active worker, the others stand by.

Examples:
  partner-program run
  partner-program run --config /etc/partner-program.toml --log info
  PARTNER_PROGRAM_LANES='acme=acme.*;globex=globex.*' partner-program run")]
pub(super) struct Args {}

pub(super) async fn run(_args: &Args, context: &mut Context) -> anyhow::Result<Exit> {
    let config = &context.config;
    config.database_url()?;
    config.amqp_url()?;
    crate::cli::topology::of(config)?;
    let mut signals = Signals::listen()?;
    let lanes: Vec<&str> = config.lanes.iter().map(|lane| lane.name.as_str()).collect();
    let counters = LaneCounters::of(config);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        worker.id = config.worker_id,
        worker.process = %counters.process(),
        lanes = lanes.join(","),
        "partner-program {} starts as {} on the lanes {}",
        env!("CARGO_PKG_VERSION"),
        config.worker_id,
        lanes.join(", "),
    );
    let shutdown = CancellationToken::new();
    let kill = CancellationToken::new();
    let working = async {
        let worked =
            worker::run(config, Clock::system(), &counters, shutdown.clone(), kill.clone()).await;
        shutdown.cancel();
        worked
    };
    let keeping = async {
        if config.archive_dead_letters {
            let keep = || {
                let (config, stop) = (config.clone(), shutdown.clone());
                let process = counters.process();
                async move {
                    Box::pin(job_recovery::run(&config, process, &stop)).await;
                    Ok(())
                }
            };
            supervise("bulk jobs", counters.task_restarts(), shutdown.clone(), keep).await?;
        }
        Ok(())
    };
    let showing = console::run_beside_worker(config, counters.clone(), shutdown.clone());
    let stopping = async {
        signals.next().await;
        tracing::info!("shutting down: the lanes drain; a second signal exits at once");
        shutdown.cancel();
        signals.next().await;
        kill.cancel();
    };
    tokio::select! {
        (worked, kept, ()) = async { tokio::join!(working, keeping, showing) } => {
            worked.and(kept)?;
            tracing::info!("finished");
            Ok(Exit::Success)
        }
        () = stopping => {
            tracing::warn!("exiting at once; unacked commands are redelivered");
            Ok(Exit::Failure)
        }
    }
}

pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
