//! The heartbeat of a runner that waits without a bound.

use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::config::{self, Config};
use crate::store::dead_letters::bulk_jobs;
use crate::store::session::{self, Session};

/// Well below the time after which a runner without a heartbeat counts as dead.
const INTERVAL: Duration = Duration::from_secs(5);

/// Sends heartbeats until it is dropped.
pub(super) struct Heartbeat {
    _beating: AbortOnDropHandle<()>,
}

impl Heartbeat {
    /// # Errors
    ///
    /// If the database has no address.
    pub(super) fn start(
        config: &Config,
        bulk_job_id: Uuid,
        runner: &str,
    ) -> Result<Self, config::error::Error> {
        let name = format!("partner-program heartbeat {}", config.worker_id);
        let url = config.database_url()?.to_owned();
        let mut session = Session::new(url, name, config.database_timeout());
        let runner = runner.to_owned();
        let beating = tokio::spawn(async move {
            loop {
                tokio::time::sleep(INTERVAL).await;
                let touching = session::bounded(session.timeout(), async {
                    bulk_jobs::record_heartbeat(session.connection().await?, bulk_job_id, &runner)
                        .await
                });
                if let Err(error) = touching.await {
                    session.discard();
                    tracing::debug!(
                        "heartbeat of bulk job {bulk_job_id} failed; it is retried: {error}"
                    );
                }
            }
        });
        Ok(Self { _beating: AbortOnDropHandle::new(beating) })
    }
}
