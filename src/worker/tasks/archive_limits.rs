//! What bounds the archive: a quota for the dead letters of publishers that may not publish here, and a bound
//! for all letters together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::domain::dead_letter::DeadLetter;
use crate::domain::rejection::Reason;
use crate::message::{Headers, Message};
use crate::store::dead_letters::volume::{self, Stranger};
use crate::store::error::Error;
use crate::store::session::{self, Session};
use crate::wire::cut_body;

/// Between two looks at a full archive, and between two lines in the log about it.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const LOG_EVERY: Duration = Duration::from_mins(1);
/// A full archive goes on once it is so many percent of its bound, so that it does not stop again at once.
const RESUME_PERCENT: i64 = 95;
/// What a dead letter takes beside its body and headers, about.
const OTHER_BYTES: usize = 512;

/// Whether no further dead letter may be archived.
pub(crate) async fn is_full(session: &mut Session, config: &Config) -> Result<bool, Error> {
    Ok(total(session).await? >= config.dead_letters_max_bytes)
}

/// Returns when dead letters may be archived: at once, unless the archive is full.
pub(crate) async fn wait_for_room(
    session: &mut Session,
    config: &Config,
    shutdown: &CancellationToken,
) -> Result<(), Error> {
    let most = config.dead_letters_max_bytes;
    let mut logged_at: Option<Instant> = None;
    while !shutdown.is_cancelled() {
        let bytes = total(session).await?;
        match logged_at {
            None if bytes < most => return Ok(()),
            Some(_) if bytes < most / 100 * RESUME_PERCENT => {
                tracing::info!(
                    "the archive of dead letters continues: it has {bytes} of {most} bytes"
                );
                return Ok(());
            }
            None | Some(_) => {}
        }
        if logged_at.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
            logged_at = Some(Instant::now());
            tracing::error!(
                archive.bytes = bytes,
                archive.bytes_max = most,
                "the archive of dead letters is full: it has {bytes} of {most} bytes (dead_letters_max_bytes); new letters stay in their queue, none is lost; discard letters and let them expire (dead_letter_retention_days), or raise dead_letters_max_bytes"
            );
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = shutdown.cancelled() => {}
        }
    }
    Ok(())
}

async fn total(session: &mut Session) -> Result<i64, Error> {
    session::bounded(session.timeout(), async { volume::total(session.connection().await?).await })
        .await
}

/// Cuts the dead letters of publishers that may not publish here, where these have used up their quota.
pub(crate) async fn apply_quota(
    session: &mut Session,
    letters: &mut [DeadLetter],
    quota_bytes: i64,
) -> Result<(), Error> {
    let strangers: BTreeSet<Stranger> = letters.iter().filter_map(stranger).collect();
    if strangers.is_empty() {
        return Ok(());
    }
    let strangers: Vec<Stranger> = strangers.into_iter().collect();
    let used = session::bounded(session.timeout(), async {
        volume::of_strangers(session.connection().await?, &strangers).await
    });
    let mut used: BTreeMap<Stranger, i64> = used.await?.into_iter().collect();
    for letter in letters {
        let Some(stranger) = stranger(letter) else { continue };
        let used = used.entry(stranger).or_default();
        if *used + size(letter) > quota_bytes {
            cut(letter);
        }
        *used += size(letter);
    }
    Ok(())
}

fn stranger(letter: &DeadLetter) -> Option<Stranger> {
    let is_of_stranger = Reason::parse(&letter.reason).is_some_and(Reason::is_of_stranger);
    is_of_stranger.then(|| {
        (letter.message.properties.user_id.clone().unwrap_or_default(), letter.reason.clone())
    })
}

fn size(letter: &DeadLetter) -> i64 {
    let size =
        letter.message.body.len() + json_bytes(&letter.message.properties.headers) + OTHER_BYTES;
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// Leaves the first bytes of a body and the hash of the whole, which can't be replayed, and no headers that
/// are larger than that.
fn cut(letter: &mut DeadLetter) {
    let Message { properties, body, .. } = &mut letter.message;
    // One that was cut before has no more than that.
    if body.len() > cut_body::KEPT_BYTES {
        letter.provenance.extend(cut_body::whole_of(body));
        body.truncate(cut_body::KEPT_BYTES);
    }
    if json_bytes(&properties.headers) > cut_body::KEPT_BYTES {
        properties.headers.clear();
    }
}

/// As the database counts them.
fn json_bytes(headers: &Headers) -> usize {
    serde_json::to_string(headers).map_or(0, |text| text.len())
}
