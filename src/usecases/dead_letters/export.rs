//! Letters as lines of JSON, whole: for a ticket, another system, or a publisher to look into.

use std::collections::BTreeMap;
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::config::Config;
use crate::store::connection::Connection;
use crate::store::dead_letters::audit::{self, AuditAction};
use crate::store::dead_letters::bulk_jobs::{self, End, Operation, Order, Tally};
use crate::store::dead_letters::claims;
use crate::store::dead_letters::show::{self, Letter};
use crate::usecases::dead_letters::error::Error;
use crate::usecases::dead_letters::heartbeat::Heartbeat;
use crate::usecases::dead_letters::run::Outcome;
use crate::usecases::dead_letters::steps::portions;

/// Letters that are looked up together.
const PAGE: i64 = 200;

/// A letter with its body, which may hold personal data: as `body` where it is text, else as
/// `body_base64`.
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
        "came_back_as": letter.came_back_as,
        "edited_from": letter.edited_from,
        "superseded_by": letter.superseded_by,
    });
    match std::str::from_utf8(&letter.body) {
        Ok(body) => line["body"] = body.into(),
        Err(_) => line["body_base64"] = STANDARD.encode(&letter.body).into(),
    }
    line
}

/// Where an export goes.
pub trait Destination: Send {
    /// Takes lines; returns once there is room for more.
    fn write(&mut self, lines: Vec<u8>) -> impl Future<Output = io::Result<()>> + Send;

    /// Returns once all of it is where it belongs.
    fn finish(&mut self) -> impl Future<Output = io::Result<()>> + Send;
}

/// Writes the operation's letters, in the order of death, and ends the operation whatever comes of it. No
/// more than a portion of them is in memory at a time.
pub async fn export(
    connection: &mut Connection,
    config: &Config,
    operation: &Operation,
    runner: &str,
    destination: &mut impl Destination,
    observe: impl FnMut(&Tally) + Send,
) -> Result<Outcome, Error> {
    let mut tally = Tally::default();
    // Its reader may take any time for a portion.
    let heartbeat = Heartbeat::start(config, operation.id, runner)?;
    let exported = all(connection, operation, runner, (destination, &mut tally), observe).await;
    drop(heartbeat);
    let (end, problem) = match &exported {
        Ok(end) => (*end, None),
        Err(error) => (End::Failed, Some(error.to_string())),
    };
    let ended = bulk_jobs::end(connection, operation.id, runner, end, problem.as_deref()).await;
    if exported.is_ok() {
        ended?;
    } else if let Err(error) = ended {
        tracing::warn!(operation.id = %operation.id, "export {} failed, and the failure could not be stored; a worker stores it later: {error}", operation.id);
    }
    Ok(Outcome { operation_id: operation.id, end: exported?, tally, skipped: BTreeMap::new() })
}

async fn all(
    connection: &mut Connection,
    operation: &Operation,
    runner: &str,
    (destination, tally): (&mut impl Destination, &mut Tally),
    mut observe: impl FnMut(&Tally) + Send,
) -> Result<End, Error> {
    let Some(filter) = &operation.filter else {
        return Err(Error::Conflict("another version of the program began it".to_owned()));
    };
    loop {
        match bulk_jobs::beat(connection, operation.id, runner, tally).await? {
            Order::GoOn => {}
            Order::Stop => return Ok(End::Cancelled),
            Order::GivenAway => return Err(Error::TakenOver(operation.id)),
        }
        observe(tally);
        let limit = operation.letters_max.map_or(PAGE, |max| PAGE.min(max - tally.done));
        let before = operation.started_at;
        let page = claims::page(connection, filter, before, tally.cursor, limit.max(0)).await?;
        let Some(last) = page.last() else { break };
        for portion in portions(&page) {
            let letters = show::letters(connection, &portion).await?;
            let ids: Vec<Uuid> = letters.iter().map(|letter| letter.id).collect();
            // Noted first: what may have been seen stands in the audit.
            audit::note(
                connection,
                &ids,
                AuditAction::Export,
                &operation.actor,
                Some(operation.id),
            )
            .await?;
            let mut lines = Vec::new();
            for letter in &letters {
                serde_json::to_writer(&mut lines, &line(letter)).map_err(io::Error::from)?;
                lines.push(b'\n');
            }
            destination.write(lines).await?;
            tally.done += i64::try_from(letters.len()).unwrap_or(i64::MAX);
        }
        tally.cursor = Some(last.order);
    }
    destination.finish().await?;
    bulk_jobs::beat(connection, operation.id, runner, tally).await?;
    Ok(End::Done)
}
