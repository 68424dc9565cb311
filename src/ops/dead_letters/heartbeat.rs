//! Says that a runner lives while it waits for something that takes any time.

use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::config::Config;
use crate::store::connection;
use crate::store::dead_letters::operations;

/// Well below the time after which a silent runner is taken for dead.
const INTERVAL: Duration = Duration::from_secs(5);

/// Beats until it is dropped.
pub(super) struct Heartbeat {
    _beating: AbortOnDropHandle<()>,
}

impl Heartbeat {
    pub(super) fn start(config: &Config, operation_id: Uuid, runner: &str) -> Self {
        let (config, runner) = (config.clone(), runner.to_owned());
        let beating = tokio::spawn(async move {
            loop {
                tokio::time::sleep(INTERVAL).await;
                let beaten = tokio::time::timeout(config.database_timeout(), async {
                    let name = format!("partner-program heartbeat {}", config.worker_id);
                    let url = config.database_url().map_err(|error| error.to_string())?;
                    let connected = connection::connect(url, &name).await;
                    let mut connection = connected.map_err(|error| error.to_string())?;
                    let touched = operations::touch(&mut connection, operation_id, &runner).await;
                    touched.map_err(|error| error.to_string())
                });
                if let Ok(Err(error)) = beaten.await {
                    tracing::debug!("operation {operation_id} is said to run later: {error}");
                }
            }
        });
        Self { _beating: AbortOnDropHandle::new(beating) }
    }
}
