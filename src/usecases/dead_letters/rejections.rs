//! What subscribers were told of letters, to tell them again.

use chrono::{DateTime, Utc};

use crate::broker::topology;
use crate::domain::rejection::{Reason, Rejection};
use crate::message::Message;
use crate::store::connection::Connection;
use crate::store::dead_letters::claims;
use crate::store::dead_letters::filter::Filter;
use crate::store::dead_letters::order::DeathOrder;
use crate::store::dead_letters::show::{self, Letter};
use crate::usecases::dead_letters::eligible::original;
use crate::usecases::dead_letters::error::Error;
use crate::usecases::dead_letters::steps::portions;
use crate::wire::rejected;

/// Letters that are looked up together.
const PAGE: i64 = 200;

/// A rejection as subscribers heard of it.
#[derive(Clone, Debug, PartialEq)]
pub struct RejectionEvent {
    /// The publisher's message id.
    pub command_id: Option<String>,
    /// `link`, `update`, `delink` or `unknown`.
    pub operation: String,
    /// The event, to the byte.
    pub event: Message,
}

/// Some letters' events.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// In the order of death.
    pub published: Vec<RejectionEvent>,
    /// Where the next page begins.
    pub next: DeathOrder,
}

/// The next events behind `after` of letters that were archived before `before`; `None` when there
/// are no more. Letters that no worker wrote are left out: no subscriber was told of them.
pub async fn page(
    connection: &mut Connection,
    filter: &Filter,
    before: DateTime<Utc>,
    after: Option<DeathOrder>,
) -> Result<Option<Page>, Error> {
    let keys = claims::page(connection, filter, before, after, PAGE).await?;
    let Some(next) = keys.last().map(|key| key.order) else { return Ok(None) };
    let mut published = Vec::with_capacity(keys.len());
    for portion in portions(&keys) {
        let letters = show::letters(connection, &portion).await?;
        published.extend(letters.into_iter().filter_map(rejection_event));
    }
    Ok(Some(Page { published, next }))
}

fn rejection_event(letter: Letter) -> Option<RejectionEvent> {
    let reason = Reason::parse(&letter.reason)?;
    let original = original(&letter, topology::COMMANDS);
    let Letter { id, command_id, operation, detail, .. } = letter;
    let event = rejected::event(topology::RESULTS, &original, &Rejection { reason, detail }, id);
    Some(RejectionEvent { command_id, operation, event })
}
