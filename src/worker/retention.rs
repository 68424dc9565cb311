//! Keeps the partitions of the inbox and the history, made ahead and dropped when over, and forgets
//! what else has had its time.
//!
//! Every worker does this; the database lets one at a time, and the others find nothing to do.

use std::time::Duration;

use crate::config::Config;
use crate::store;
use crate::worker::{Error, Parts, Places};

/// How often the partitions are looked at: they are made days ahead, so hours are no hurry.
const INTERVAL: Duration = Duration::from_hours(1);

/// Maintains the partitions until `shutdown`. A failure is logged and tried again next time.
pub(super) async fn run(parts: Parts) -> Result<(), Error> {
    let Parts { config, places, shutdown, .. } = parts;
    loop {
        if let Err(error) = maintain(&config, &places).await {
            tracing::warn!(%error, "what has had its time could not be put away, trying again later: {error}");
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

async fn maintain(config: &Config, places: &Places) -> Result<(), store::error::Error> {
    let mut connection =
        store::connection::connect(&places.database_url, "partner-program retention").await?;
    store::retention::maintain(&mut connection, config.retention_days).await?;
    store::attempts::forget_old(&mut connection).await?;
    store::lane_samples::forget_old(&mut connection).await?;
    if config.archive_dead_letters {
        let days = config.dead_letter_retention_days;
        let forgotten = store::retention::forget_dead_letters(&mut connection, days).await?;
        if forgotten > 0 {
            tracing::info!(forgotten, "forgot {forgotten} dead letters, settled {days} days ago");
        }
    }
    Ok(())
}
