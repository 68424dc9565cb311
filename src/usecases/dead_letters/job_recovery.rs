//! Takes over bulk jobs that have no runner: those that were begun without one, and those whose
//! runner died.

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
use crate::usecases::dead_letters::run;

/// A runner that was silent for so long is taken for dead.
pub const SILENT_S: i32 = 30;
/// How often is looked.
const INTERVAL: Duration = Duration::from_secs(1);
/// The first and the longest pause after a fault.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Keeps operations going until `shutdown`, which ends one between two batches of letters: the
/// next keeper goes on with it.
///
/// `process` is of this process alone: a runner that was frozen must not take an operation that another
/// worker of its id goes on with for its own.
pub async fn keep(config: &Config, process: Uuid, shutdown: &CancellationToken) {
    let runner = format!("{} {process}", config.worker_id);
    let mut pause = Backoff::new(PAUSE.0, PAUSE.1);
    let mut connection = None;
    while !shutdown.is_cancelled() {
        let kept = tokio::select! {
            kept = keep_one(config, &runner, &mut connection) => kept,
            () = shutdown.cancelled() => return,
        };
        let waiting = async {
            match kept {
                Ok(true) => {}
                Ok(false) => {
                    pause.reset();
                    tokio::time::sleep(INTERVAL).await;
                }
                Err(error) => {
                    connection = None;
                    tracing::warn!(
                        "operation on dead letters failed; it is retried later: {error}"
                    );
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

/// Whether there was one.
async fn keep_one(
    config: &Config,
    runner: &str,
    open: &mut Option<Connection>,
) -> Result<bool, Error> {
    let connection = if let Some(connection) = open {
        connection
    } else {
        let name = format!("partner-program operations {}", config.worker_id);
        let connecting = connection::connect_to_search(config.database_url()?, &name);
        open.insert(answered(connecting).await?)
    };
    let ending = endings::end_silent_exports(connection, SILENT_S);
    bounded(config.database_timeout(), ending).await?;
    let taking = bulk_jobs::take(connection, runner, SILENT_S, None);
    let taken = bounded(config.database_timeout(), taking).await?;
    let Some(operation) = taken else { return Ok(false) };
    tracing::info!(operation.id = %operation.id, "running operation {} on dead letters", operation.id);
    let id = operation.id;
    let outcome = match run::run(connection, config, operation, runner, |_| {}).await {
        Ok(outcome) => outcome,
        Err(error) => {
            let text = error.to_string();
            let noting = bulk_jobs::note_problem(connection, id, runner, &text);
            if let Err(unnoted) = bounded(config.database_timeout(), noting).await {
                tracing::debug!("the error of operation {id} could not be stored: {unnoted}");
            }
            return Err(error);
        }
    };
    tracing::info!(
        operation.id = %outcome.operation_id,
        done = outcome.tally.done,
        skipped = outcome.tally.skipped,
        failed = outcome.tally.failed,
        "operation {} on dead letters has ended", outcome.operation_id
    );
    Ok(true)
}
