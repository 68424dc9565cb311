//! What Ctrl-C does to a bulk job.

use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::cli::output::note;
use crate::config::Config;
use crate::store::connection;
use crate::store::dead_letters::endings;
use crate::usecases::dead_letters::job_recovery::SILENT_S;

/// Cancels the bulk job on Ctrl-C, until what is returned is dropped.
pub(super) fn cancel_on_interrupt(config: &Config, id: Uuid) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(cancel(config.clone(), id)))
}

async fn cancel(config: Config, id: Uuid) {
    if tokio::signal::ctrl_c().await.is_err() {
        return;
    }
    note("cancelling: it stops after the letters that it has in hand");
    let cancelled = async {
        let mut connection = connection::connect(config.database_url()?, &config.worker_id).await?;
        endings::cancel(&mut connection, id, SILENT_S).await?;
        anyhow::Ok(())
    };
    if let Err(error) = cancelled.await {
        note(&format!("can't cancel: {error}; try `dead-letters bulk-jobs cancel {id}`"));
    }
}
