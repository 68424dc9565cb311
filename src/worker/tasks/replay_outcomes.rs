//! Finds out what came of replayed dead letters: a replay is done when its command took effect,
//! not when it was sent. That it died again the archive sees by itself. Opens letters that an ended
//! operation has left claimed.

use std::time::Duration;

use crate::periodic::Periodic;
use crate::store::dead_letters::{applied, claims};
use crate::store::error::Error as StoreError;
use crate::store::session::{self, Session};
use crate::worker::context::TaskContext;
use crate::worker::error::Error;
use chrono::{DateTime, TimeDelta, Utc};

/// How often is looked. Nothing is to be done as long as no dead letter was replayed.
const INTERVAL: Duration = Duration::from_secs(1);
/// How many dead letters a statement looks at.
const LETTERS_MAX: i64 = 1_000;
/// Dead letters that were replayed longer ago are looked at now and then only: most are of commands
/// that were lost after all, or died in a way that the archive has not seen.
const SOON: TimeDelta = TimeDelta::minutes(10);
/// Every so many looks are at all of them.
const NOW_AND_THEN: u64 = 60;

/// Follows until `shutdown`.
pub(crate) async fn run(context: TaskContext) -> Result<(), Error> {
    let TaskContext { config, urls, clock, shutdown, .. } = context;
    let name = format!("partner-program follow {}", config.worker_id);
    let mut session = Session::new(urls.database_url.clone(), name, config.database_timeout());
    let mut looks: u64 = 0;
    let mut periodic = Periodic::new(INTERVAL, shutdown);
    loop {
        let following = async {
            let all = looks.is_multiple_of(NOW_AND_THEN);
            let since = if all { DateTime::UNIX_EPOCH } else { clock.now() - SOON };
            looks += 1;
            follow(&mut session, since).await
        };
        let Some(followed) = periodic.run(following).await else { break };
        if let Err(error) = followed {
            session.discard();
            tracing::debug!("the outcomes of replays could not be read; they are retried: {error}");
        }
    }
    Ok(())
}

async fn follow(session: &mut Session, since: DateTime<Utc>) -> Result<(), StoreError> {
    let releasing = session::bounded(session.timeout(), async {
        claims::release_of_ended(session.connection().await?).await
    });
    releasing.await?;
    let mut after = None;
    loop {
        let looked = session::bounded(session.timeout(), async {
            applied::follow(session.connection().await?, since, after, LETTERS_MAX).await
        });
        after = looked.await?;
        if after.is_none() {
            return Ok(());
        }
    }
}
