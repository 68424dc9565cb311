//! Makes partitions of the inbox and the history ahead, drops those that are over, and deletes other rows whose
//! retention is over.
//!
//! Every worker does this; the database lets one at a time, and the others find nothing to do.

use std::time::Duration;

use crate::config::Config;
use crate::periodic::Periodic;
use crate::store;
use crate::store::error::Error;
use crate::store::session::answered;
use crate::worker::context::ServerUrls;
use crate::worker::context::TaskContext;
use crate::worker::error;

/// How often the partitions are looked at: they are made days ahead, so hours are no hurry.
const INTERVAL: Duration = Duration::from_hours(1);

/// Maintains the partitions until `shutdown`. A failure is logged and tried again next time.
pub(crate) async fn run(context: TaskContext) -> Result<(), error::Error> {
    let TaskContext { config, urls, shutdown, .. } = context;
    let mut periodic = Periodic::new(INTERVAL, shutdown);
    while let Some(maintained) = periodic.run(maintain(&config, &urls)).await {
        if let Err(error) = maintained {
            let minutes = INTERVAL.as_secs() / 60;
            tracing::warn!(%error, "retention failed; it is retried in {minutes} min: {error}");
        }
    }
    Ok(())
}

async fn maintain(config: &Config, urls: &ServerUrls) -> Result<(), Error> {
    let mut connection =
        store::connection::connect(&urls.database_url, "partner-program retention").await?;
    let connection = &mut connection;
    answered(store::retention::maintain(connection, config.retention_days)).await?;
    answered(store::attempts::forget_old(connection)).await?;
    answered(store::lane_metrics::forget_old(connection)).await?;
    if config.archive_dead_letters {
        let days = config.dead_letter_retention_days;
        let mut forgotten = 0;
        loop {
            let some =
                answered(store::retention::delete_expired_dead_letters(connection, days)).await?;
            forgotten += some;
            if some == 0 {
                break;
            }
        }
        if forgotten > 0 {
            tracing::info!(
                forgotten,
                "deleted {forgotten} dead letters that were closed {days} days ago"
            );
        }
    }
    Ok(())
}
