//! Finds out what came of replayed dead letters: a replay is done when its command took effect,
//! not when it was sent. That it died again the archive sees by itself.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::store::dead_letters::archive;
use crate::store::error::Error as StoreError;
use crate::store::session::{self, Session};
use crate::worker::{Error, Places};

/// How often is looked. Nothing is to be done as long as no letter was replayed.
const INTERVAL: Duration = Duration::from_secs(1);
/// How many letters a statement settles.
const LETTERS_MAX: i64 = 1_000;

/// Follows until `shutdown`.
pub(super) async fn run(
    config: Arc<Config>,
    places: Arc<Places>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let name = format!("partner-program follow {}", config.worker_id);
    let mut session = Session::new(places.database_url.clone(), name, config.database_timeout());
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(INTERVAL) => {}
        }
        if let Err(error) = follow(&mut session).await {
            session.discard();
            tracing::debug!("what came of replayed letters is looked at later: {error}");
        }
    }
}

async fn follow(session: &mut Session) -> Result<(), StoreError> {
    loop {
        let found = session::bounded(session.timeout(), async {
            archive::follow(session.connection().await?, LETTERS_MAX).await
        });
        if found.await? < LETTERS_MAX.unsigned_abs() {
            return Ok(());
        }
    }
}
