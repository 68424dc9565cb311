//! The answer to a command: what is stored of it, and what is published.

use crate::broker::topology;
use crate::domain::evaluate::Outcome;
use crate::domain::program::Org;
use crate::message::Message;
use crate::store::command_log::{CommandKey, Stored};
use crate::wire::result;
use crate::worker::lane::receive::DecodedCommand;

/// The result of a command, ready to publish.
pub(crate) struct Answer {
    pub(crate) event: Message,
    /// The copy for `reply_to`.
    pub(crate) reply: Option<Message>,
    /// Whether it was found in the inbox.
    pub(crate) duplicate: bool,
}

/// What is stored of a command.
pub(crate) fn stored(org: &Org, decoded: &DecodedCommand, outcome: &Outcome) -> Stored {
    let envelope = &decoded.envelope;
    Stored {
        org_code: org.code.clone(),
        body_hash: decoded.body_hash,
        operation: envelope.operation,
        verdict: outcome.verdict(),
        counts: outcome.counts(),
        result: result::encode(&decoded.command, outcome),
        correlation_id: envelope.correlation_id.clone(),
        app_id: envelope.app_id.clone(),
        user_id: envelope.user_id.clone(),
        traceparent: envelope.traceparent.clone(),
        sent_at: envelope.sent_at,
    }
}

/// The event from what is stored, so that it is the same however often it is published; the
/// reply answers the delivery at hand.
pub(crate) fn answer(
    key: &CommandKey,
    stored: &Stored,
    decoded: &DecodedCommand,
    duplicate: bool,
) -> Answer {
    let event = result_event(key, stored);
    let reply_to = decoded.envelope.reply_to.as_deref();
    let reply = reply_to.filter(|queue| !topology::is_own_queue(queue)).map(|reply_to| {
        result::reply(&event, reply_to, decoded.envelope.correlation_id.as_deref())
    });
    Answer { event, reply, duplicate }
}

/// The result event of a stored command.
#[must_use]
pub(crate) fn result_event(key: &CommandKey, stored: &Stored) -> Message {
    let header = result::ResultHeader {
        org_code: &stored.org_code,
        operation: stored.operation,
        verdict: stored.verdict,
        counts: stored.counts,
        command_id: &key.command_id,
        correlation_id: stored.correlation_id.as_deref(),
        app_id: stored.app_id.as_deref(),
        user_id: stored.user_id.as_deref(),
        sent_at: stored.sent_at,
        traceparent: stored.traceparent.as_deref(),
    };
    result::event(topology::RESULTS, &header, stored.result.clone())
}
