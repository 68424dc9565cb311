//! The answer to a command: response body, result event and reply (`docs/contract.md#the-result-event`).
//!
//! Bodies are byte-stable: the same command and outcome always give the same bytes, because a
//! stored result is published again when its command comes again.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::domain::command::{Command, Entry, Identifiers, Operation};
use crate::domain::evaluate::{Counts, CustomerOutcome, Outcome, Verdict};
use crate::domain::names::{CUSTOMER, PARTNER_PROGRAM_NAME, UPDATE_TYPE};
use crate::domain::status::Status;
use crate::message::{JSON, Message, Properties};
use crate::wire::own_headers::TRACEPARENT;

/// The header with the id of the command that an event answers.
pub const COMMAND_ID: &str = "command-id";
/// The header with the number of the command's items.
pub const ITEMS_TOTAL: &str = "items-total";
/// The header with the number of items that succeeded.
pub const ITEMS_SUCCEEDED: &str = "items-succeeded";
/// The header with the number of items that failed.
pub const ITEMS_FAILED: &str = "items-failed";

/// Longest short string of AMQP, in bytes.
const SHORT_STRING_BYTES_MAX: usize = 255;

/// What a result event says beside its body.
#[derive(Clone, Debug)]
pub struct ResultHeader<'a> {
    /// The org's word in the routing key.
    pub org_code: &'a str,
    /// The operation's word in the routing key.
    pub operation: Operation,
    /// How the command went.
    pub verdict: Verdict,
    /// Of the command's items.
    pub counts: Counts,
    /// The command's message id, or the one that was made up for it.
    pub command_id: &'a str,
    /// The command's; without one the event has the command's id.
    pub correlation_id: Option<&'a str>,
    /// The command's.
    pub app_id: Option<&'a str>,
    /// The command's publisher. It goes to a header: the property would claim to be ours.
    pub user_id: Option<&'a str>,
    /// When the command was sent, as its publisher says.
    pub sent_at: Option<DateTime<Utc>>,
    /// The command's W3C trace context.
    pub traceparent: Option<&'a str>,
}

/// The response body. Items that the outcome says nothing of are left out.
#[must_use]
pub fn encode(command: &Command, outcome: &Outcome) -> Vec<u8> {
    let operation = command.operation();
    let entries = match command {
        Command::Link(entries) => {
            views(operation, entries, outcome, |item| [item.program_name.as_deref(), None])
        }
        Command::Update(entries) => views(operation, entries, outcome, |item| {
            [item.program_name.as_deref(), item.update_type.as_deref()]
        }),
        Command::Delink(entries) => {
            views(operation, entries, outcome, |item| [item.program_name.as_deref(), None])
        }
    };
    let warnings = outcome.warnings.iter().map(|w| WarningView::new(w.status, &w.path)).collect();
    json(&Response { operation, entries, warnings })
}

/// The event that carries a response body, to the given exchange.
///
/// Its message id is the command's with `.result` behind it. Where that would be longer than
/// AMQP allows, it is `sha256-{hex of the command id's SHA-256}.result`, which is as stable.
#[must_use]
pub fn event(exchange: &str, header: &ResultHeader<'_>, body: Vec<u8>) -> Message {
    let Counts { total, succeeded, failed } = header.counts;
    let mut properties = Properties {
        message_id: Some(message_id(header.command_id, ".result")),
        correlation_id: Some(header.correlation_id.unwrap_or(header.command_id).to_owned()),
        kind: Some(format!("partner-program.{}.result.v1", header.operation)),
        content_type: Some(JSON.to_owned()),
        app_id: header.app_id.map(str::to_owned),
        timestamp: header.sent_at,
        ..Properties::default()
    };
    let texts = [
        (COMMAND_ID, Some(header.command_id)),
        (TRACEPARENT, header.traceparent),
        ("user-id", header.user_id),
    ];
    let counts = [(ITEMS_TOTAL, total), (ITEMS_SUCCEEDED, succeeded), (ITEMS_FAILED, failed)];
    let texts = texts.into_iter().filter_map(|(name, text)| Some((name, Value::from(text?))));
    let counts = counts.map(|(name, count)| (name, Value::from(count)));
    properties.headers =
        texts.chain(counts).map(|(name, value)| (name.to_owned(), value)).collect();
    Message {
        exchange: exchange.to_owned(),
        routing_key: format!(
            "{}.{}.{}",
            header.org_code,
            header.operation,
            header.verdict.as_str()
        ),
        properties,
        body,
    }
}

/// The copy of a result event for a requester's own queue, through the default exchange.
///
/// Without a correlation id of this very request it keeps the event's.
#[must_use]
pub fn reply(event: &Message, reply_to: &str, correlation_id: Option<&str>) -> Message {
    let mut reply = event.clone();
    reply.exchange.clear();
    reply_to.clone_into(&mut reply.routing_key);
    if let Some(correlation_id) = correlation_id {
        reply.properties.correlation_id = Some(correlation_id.to_owned());
    }
    reply
}

/// An id with a suffix, within the length of a short string.
pub(super) fn message_id(id: &str, suffix: &str) -> String {
    if id.len() + suffix.len() <= SHORT_STRING_BYTES_MAX {
        return format!("{id}{suffix}");
    }
    format!("sha256-{}{suffix}", hex::encode(Sha256::digest(id)))
}

/// The value as JSON. The views in this module have string keys only, so it can't fail.
pub(super) fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// `echoed` gives the texts of an item that its answer repeats: the program's name and the update type.
fn views<'a, I>(
    operation: Operation,
    entries: &'a [Entry<I>],
    outcome: &'a Outcome,
    echoed: impl Fn(&'a I) -> [Option<&'a str>; 2],
) -> Vec<EntryView<'a>> {
    let item = |(item, status): (&'a I, &Status)| {
        let [program_name, update_type] = echoed(item);
        ItemView { operation, program_name, update_type, status: StatusView::new(*status) }
    };
    let answered = entries.iter().zip(&outcome.entries);
    let view = answered.map(|(entry, answer)| EntryView {
        operation,
        customer: CustomerView::new(&entry.customer, &answer.customer),
        items: entry.items.iter().zip(&answer.items).map(item).collect(),
    });
    view.collect()
}

struct Response<'a> {
    operation: Operation,
    entries: Vec<EntryView<'a>>,
    warnings: Vec<WarningView<'a>>,
}

impl Serialize for Response<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        map.serialize_entry(self.operation.root_key(), &self.entries)?;
        map.serialize_entry("warnings", &self.warnings)?;
        map.end()
    }
}

struct EntryView<'a> {
    operation: Operation,
    customer: CustomerView<'a>,
    items: Vec<ItemView<'a>>,
}

impl Serialize for EntryView<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        map.serialize_entry(CUSTOMER, &self.customer)?;
        map.serialize_entry(self.operation.list_key(), &self.items)?;
        map.end()
    }
}

struct ItemView<'a> {
    operation: Operation,
    program_name: Option<&'a str>,
    update_type: Option<&'a str>,
    status: StatusView,
}

impl Serialize for ItemView<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        for (name, text) in
            [(PARTNER_PROGRAM_NAME, self.program_name), (UPDATE_TYPE, self.update_type)]
        {
            if let Some(text) = text {
                map.serialize_entry(name, text)?;
            }
        }
        map.serialize_entry(self.operation.status_key(), &self.status)?;
        map.end()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CustomerView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mobile: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<&'a str>,
    status: StatusView,
}

impl<'a> CustomerView<'a> {
    /// A customer that was found as registered, one that failed as given.
    fn new(given: &'a Identifiers, outcome: &'a CustomerOutcome) -> Self {
        match outcome {
            CustomerOutcome::Retrieved(customer) => Self {
                id: Some(customer.id.0),
                mobile: customer.mobile.as_deref(),
                email: customer.email.as_deref(),
                external_id: customer.external_id.as_deref(),
                status: StatusView::new(Status::CustomerRetrieved),
            },
            CustomerOutcome::Failed(status) => Self {
                id: None,
                mobile: given.mobile.as_deref(),
                email: given.email.as_deref(),
                external_id: given.external_id.as_deref(),
                status: StatusView::new(*status),
            },
        }
    }
}

#[derive(Serialize)]
struct StatusView {
    status: bool,
    message: &'static str,
    code: u16,
}

impl StatusView {
    const fn new(status: Status) -> Self {
        Self { status: status.is_success(), message: status.message(), code: status.code() }
    }
}

#[derive(Serialize)]
struct WarningView<'a> {
    status: bool,
    code: u16,
    message: &'static str,
    path: &'a str,
}

impl<'a> WarningView<'a> {
    const fn new(status: Status, path: &'a str) -> Self {
        Self { status: false, code: status.code(), message: status.message(), path }
    }
}

#[cfg(test)]
mod tests;
