//! Runs bulk jobs that have no runner: created by the console, or left by a runner that died.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::Config;
use crate::retry::Backoff;
use crate::store::connection::{self, Connection};
use crate::store::dead_letters::bulk_jobs;
use crate::store::dead_letters::endings;
use crate::store::session::{answered, bounded};
use crate::usecases::dead_letters::error::Error;
use crate::usecases::dead_letters::run as bulk_job;

/// A runner without a heartbeat for so long counts as dead.
pub const SILENT_S: i32 = 30;
/// The pause between two searches.
const INTERVAL: Duration = Duration::from_secs(1);
/// The first and the longest pause after an error.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Runs bulk jobs without a runner until `shutdown`, which stops one between two batches: another worker
/// continues it.
///
/// `process` identifies this process: a runner that was frozen must not mistake a bulk job that another
/// worker with its id runs for its own.
pub async fn run(config: &Config, process: Uuid, shutdown: &CancellationToken) {
    let runner = format!("{} {process}", config.worker_id);
    let mut pause = Backoff::new(PAUSE.0, PAUSE.1);
    let mut connection = None;
    while !shutdown.is_cancelled() {
        let ran = tokio::select! {
            ran = run_one(config, &runner, &mut connection) => ran,
            () = shutdown.cancelled() => return,
        };
        let waiting = async {
            match ran {
                Ok(true) => {}
                Ok(false) => {
                    pause.reset();
                    tokio::time::sleep(INTERVAL).await;
                }
                Err(error) => {
                    connection = None;
                    tracing::warn!("bulk job failed; it is retried: {error}");
                    pause.wait().await;
                }
            }
        };
        tokio::select! {
            () = waiting => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// Runs one. Returns whether there was one.
async fn run_one(
    config: &Config,
    runner: &str,
    open: &mut Option<Connection>,
) -> Result<bool, Error> {
    let connection = if let Some(connection) = open {
        connection
    } else {
        let name = format!("partner-program bulk jobs {}", config.worker_id);
        let connecting = connection::connect_to_search(config.database_url()?, &name);
        open.insert(answered(connecting).await?)
    };
    let ending = endings::end_silent_exports(connection, SILENT_S);
    bounded(config.database_timeout(), ending).await?;
    let taking = bulk_jobs::take_over(connection, runner, SILENT_S, None);
    let acquired = bounded(config.database_timeout(), taking).await?;
    let Some(job) = acquired else { return Ok(false) };
    tracing::info!(bulk_job.id = %job.id, "bulk job {} starts", job.id);
    let id = job.id;
    let outcome = match bulk_job::run(connection, config, job, runner, |_| {}).await {
        Ok(outcome) => outcome,
        Err(error) => {
            let text = error.to_string();
            let recording = bulk_jobs::record_problem(connection, id, runner, &text);
            if let Err(unrecorded) = bounded(config.database_timeout(), recording).await {
                tracing::debug!("the error of bulk job {id} can't be recorded: {unrecorded}");
            }
            return Err(error);
        }
    };
    tracing::info!(
        bulk_job.id = %outcome.bulk_job_id,
        done = outcome.progress.done,
        skipped = outcome.progress.skipped,
        failed = outcome.progress.failed,
        "bulk job {} is done", outcome.bulk_job_id
    );
    Ok(true)
}
