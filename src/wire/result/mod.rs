//! The answer to a command: response body, result event and reply (`docs/contract.md#the-result-event`).
//!
//! Bodies are byte-stable: the same command and outcome always give the same bytes, because a
//! stored result is published again when its command comes again.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::domain::command::{Command, Entry, Identifiers, Operation};
use crate::domain::evaluate::{Counts, CustomerOutcome, Outcome, Verdict};
use crate::domain::status::Status;
use crate::message::{Message, Properties};

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
    let mut response = Response {
        link: None,
        update: None,
        delink: None,
        warnings: outcome.warnings.iter().map(|w| WarningView::new(w.status, &w.path)).collect(),
    };
    match command {
        Command::Link(entries) => {
            response.link = Some(views(entries, outcome, |customer, items| LinkEntry {
                customer,
                items: items
                    .map(|(item, status)| LinkView {
                        program_name: item.program_name.as_deref(),
                        status: StatusView::new(status),
                    })
                    .collect(),
            }));
        }
        Command::Update(entries) => {
            response.update = Some(views(entries, outcome, |customer, items| UpdateEntry {
                customer,
                items: items
                    .map(|(item, status)| UpdateView {
                        program_name: item.program_name.as_deref(),
                        update_type: item.update_type.as_deref(),
                        status: StatusView::new(status),
                    })
                    .collect(),
            }));
        }
        Command::Delink(entries) => {
            response.delink = Some(views(entries, outcome, |customer, items| DelinkEntry {
                customer,
                items: items
                    .map(|(item, status)| DelinkView {
                        program_name: item.program_name.as_deref(),
                        status: StatusView::new(status),
                    })
                    .collect(),
            }));
        }
    }
    json(&response)
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
        content_type: Some("application/json".to_owned()),
        app_id: header.app_id.map(str::to_owned),
        timestamp: header.sent_at,
        ..Properties::default()
    };
    let texts = [
        ("command-id", Some(header.command_id)),
        ("traceparent", header.traceparent),
        ("user-id", header.user_id),
    ];
    let counts = [("items-total", total), ("items-succeeded", succeeded), ("items-failed", failed)];
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

fn views<'a, I, V>(
    entries: &'a [Entry<I>],
    outcome: &'a Outcome,
    view: impl Fn(CustomerView<'a>, &mut dyn Iterator<Item = (&'a I, Status)>) -> V,
) -> Vec<V> {
    let answered = entries.iter().zip(&outcome.entries);
    answered
        .map(|(entry, answer)| {
            let customer = CustomerView::new(&entry.customer, &answer.customer);
            view(customer, &mut entry.items.iter().zip(answer.items.iter().copied()))
        })
        .collect()
}

#[derive(Serialize)]
struct Response<'a> {
    #[serde(rename = "linkCustomers", skip_serializing_if = "Option::is_none")]
    link: Option<Vec<LinkEntry<'a>>>,
    #[serde(rename = "customersPartnerUpdates", skip_serializing_if = "Option::is_none")]
    update: Option<Vec<UpdateEntry<'a>>>,
    #[serde(rename = "deLinkCustomers", skip_serializing_if = "Option::is_none")]
    delink: Option<Vec<DelinkEntry<'a>>>,
    warnings: Vec<WarningView<'a>>,
}

#[derive(Serialize)]
struct LinkEntry<'a> {
    customer: CustomerView<'a>,
    #[serde(rename = "linkToPartnerPrograms")]
    items: Vec<LinkView<'a>>,
}

#[derive(Serialize)]
struct UpdateEntry<'a> {
    customer: CustomerView<'a>,
    #[serde(rename = "partnerProgramUpdates")]
    items: Vec<UpdateView<'a>>,
}

#[derive(Serialize)]
struct DelinkEntry<'a> {
    customer: CustomerView<'a>,
    #[serde(rename = "deLinkFromPartnerPrograms")]
    items: Vec<DelinkView<'a>>,
}

#[derive(Serialize)]
struct LinkView<'a> {
    #[serde(rename = "partnerProgramName", skip_serializing_if = "Option::is_none")]
    program_name: Option<&'a str>,
    #[serde(rename = "partnerLinkStatus")]
    status: StatusView,
}

#[derive(Serialize)]
struct UpdateView<'a> {
    #[serde(rename = "partnerProgramName", skip_serializing_if = "Option::is_none")]
    program_name: Option<&'a str>,
    #[serde(rename = "updateType", skip_serializing_if = "Option::is_none")]
    update_type: Option<&'a str>,
    #[serde(rename = "updateStatus")]
    status: StatusView,
}

#[derive(Serialize)]
struct DelinkView<'a> {
    #[serde(rename = "partnerProgramName", skip_serializing_if = "Option::is_none")]
    program_name: Option<&'a str>,
    #[serde(rename = "partnerDeLinkStatus")]
    status: StatusView,
}

#[derive(Serialize)]
struct CustomerView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mobile: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(rename = "externalId", skip_serializing_if = "Option::is_none")]
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
