//! Dead letters as lines of JSON with their bodies, for a ticket, another system or a publisher.

use std::collections::BTreeMap;
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::config::Config;
use crate::domain::bulk_job::BulkJobState;
use crate::store::connection::Connection;
use crate::store::dead_letters::audit::{self, AuditAction};
use crate::store::dead_letters::bulk_jobs::{self, BulkJob, BulkJobProgress, RunnerInstruction};
use crate::store::dead_letters::claims;
use crate::store::dead_letters::show::{self, Letter};
use crate::usecases::dead_letters::error::Error;
use crate::usecases::dead_letters::heartbeat::Heartbeat;
use crate::usecases::dead_letters::run::Outcome;
use crate::usecases::dead_letters::steps::portions;

/// Dead letters that are read together.
const PAGE: i64 = 200;

/// A dead letter with its body, which may hold personal data: `body` if it is text, else `body_base64`.
#[must_use]
pub fn line(letter: &Letter) -> Value {
    let mut line = json!({
        "id": letter.id,
        "state": letter.state.as_str(),
        "org": letter.org,
        "operation": letter.operation,
        "lane": letter.lane,
        "reason": letter.reason,
        "detail": letter.detail,
        "pointer": letter.pointer,
        "fingerprint": letter.fingerprint,
        "command_id": letter.command_id,
        "correlation_id": letter.correlation_id,
        "app_id": letter.app_id,
        "user_id": letter.user_id,
        "sent_at": letter.sent_at,
        "exchange": letter.exchange,
        "routing_key": letter.routing_key,
        "properties": letter.properties,
        "headers": letter.headers,
        "provenance": letter.provenance,
        "attempts": letter.attempts,
        "deaths": letter.deaths,
        "first_died_at": letter.first_died_at,
        "last_died_at": letter.last_died_at,
        "lane_epoch": letter.lane_epoch,
        "delivery_tag": letter.delivery_tag,
        "archived_at": letter.recorded_at,
        "changed_at": letter.changed_at,
        "replay_of": letter.replay_of,
        "replay_died_as": letter.replay_died_as,
        "edited_from": letter.edited_from,
        "superseded_by": letter.superseded_by,
    });
    match std::str::from_utf8(&letter.body) {
        Ok(body) => line["body"] = body.into(),
        Err(_) => line["body_base64"] = STANDARD.encode(&letter.body).into(),
    }
    line
}

/// Where an export is written.
pub trait Destination: Send {
    /// Writes lines; returns when there is room for more.
    fn write(&mut self, lines: Vec<u8>) -> impl Future<Output = io::Result<()>> + Send;

    /// Returns when all of it is written.
    fn finish(&mut self) -> impl Future<Output = io::Result<()>> + Send;
}

/// Writes the bulk job's dead letters in the order of death, and ends the bulk job even after an error. At
/// most a portion of them is in memory at a time.
pub async fn export(
    connection: &mut Connection,
    config: &Config,
    job: &BulkJob,
    runner: &str,
    destination: &mut impl Destination,
    observe: impl FnMut(&BulkJobProgress) + Send,
) -> Result<Outcome, Error> {
    let mut progress = BulkJobProgress::default();
    // The reader may wait without a bound between two portions.
    let heartbeat = Heartbeat::start(config, job.id, runner)?;
    let exported = all(connection, job, runner, (destination, &mut progress), observe).await;
    drop(heartbeat);
    let (end, problem) = match &exported {
        Ok(end) => (*end, None),
        Err(error) => (BulkJobState::Failed, Some(error.to_string())),
    };
    let ended = bulk_jobs::end(connection, job.id, runner, end, problem.as_deref()).await;
    if exported.is_ok() {
        ended?;
    } else if let Err(error) = ended {
        tracing::warn!(bulk_job.id = %job.id, "export {} failed, and the failure could not be stored; a worker stores it later: {error}", job.id);
    }
    Ok(Outcome { bulk_job_id: job.id, end: exported?, progress, skipped: BTreeMap::new() })
}

async fn all(
    connection: &mut Connection,
    job: &BulkJob,
    runner: &str,
    (destination, progress): (&mut impl Destination, &mut BulkJobProgress),
    mut observe: impl FnMut(&BulkJobProgress) + Send,
) -> Result<BulkJobState, Error> {
    let Some(filter) = &job.filter else {
        return Err(Error::Conflict("another version of the program created it".to_owned()));
    };
    loop {
        match bulk_jobs::record_progress(connection, job.id, runner, progress).await? {
            RunnerInstruction::Continue => {}
            RunnerInstruction::Cancel => return Ok(BulkJobState::Cancelled),
            RunnerInstruction::Leave => return Err(Error::TakenOver(job.id)),
        }
        observe(progress);
        let limit = job.dead_letters_max.map_or(PAGE, |max| PAGE.min(max - progress.done));
        let before = job.started_at;
        let page = claims::page(connection, filter, before, progress.cursor, limit.max(0)).await?;
        let Some(last) = page.last() else { break };
        for portion in portions(&page) {
            let letters = show::letters(connection, &portion).await?;
            let ids: Vec<Uuid> = letters.iter().map(|letter| letter.id).collect();
            // Before the lines are sent: the audit has all that may have been seen.
            audit::note(connection, &ids, AuditAction::Export, &job.actor, Some(job.id)).await?;
            let mut lines = Vec::new();
            for letter in &letters {
                serde_json::to_writer(&mut lines, &line(letter)).map_err(io::Error::from)?;
                lines.push(b'\n');
            }
            destination.write(lines).await?;
            progress.done += i64::try_from(letters.len()).unwrap_or(i64::MAX);
        }
        progress.cursor = Some(last.order);
    }
    destination.finish().await?;
    bulk_jobs::record_progress(connection, job.id, runner, progress).await?;
    Ok(BulkJobState::Done)
}
