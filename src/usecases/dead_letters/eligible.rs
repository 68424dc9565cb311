//! Whether a letter can be replayed, and as what message.
//!
//! A dead letter that a worker would refuse again, whatever the database holds, needs an edited copy.
//! A worker decides on all others.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::broker::topology;
use crate::config::Config;
use crate::domain::bulk_job::BulkJobKind;
use crate::domain::dead_letter::State;
use crate::domain::rejection::Reason;
use crate::message::{BODY_HASH, BODY_LENGTH, Message, Properties, UNREADABLE_TIMESTAMP};
use crate::store::dead_letters::show::Letter;
use crate::usecases::priority;
use crate::wire::cut_body;
use crate::wire::decode;
use crate::wire::envelope::Envelope;

/// What the check needs beside the dead letter.
pub struct Rules<'a> {
    /// The settings, with `publishers`.
    pub config: &'a Config,
    /// The user that publishes the replay.
    pub user: Option<String>,
    /// The orgs of the catalogue.
    pub orgs: BTreeSet<String>,
    /// Whether a replay has effect although the publisher may not publish for the org.
    pub overrides_publisher: bool,
}

/// The message to publish, or why the dead letter is not eligible. The reasons name no values, so that
/// they can be counted.
pub fn check(letter: &Letter, rules: &Rules<'_>) -> Result<Message, String> {
    if let Some(why) = not_open(letter.state) {
        return Err(why.to_owned());
    }
    if !has_own_id(letter) {
        return Err("its id belongs to another command: edit a copy, which gets its own".to_owned());
    }
    if let Some(why) = lacks_its_body(letter) {
        return Err(why);
    }
    let message = replay(letter, rules.config);
    let fails_again = |why: &dyn std::fmt::Display| format!("would fail again, edit a copy: {why}");
    let envelope = Envelope::parse(&message).map_err(|rejection| fails_again(&rejection.reason))?;
    decode::decode(&message.body, envelope.operation)
        .map_err(|rejection| fails_again(&rejection.reason))?;
    if !rules.orgs.contains(&envelope.org_code) {
        return Err("its org is not in the catalogue: import it first, or edit a copy".to_owned());
    }
    if !rules.config.may_publish(rules.user.as_deref(), &envelope.org_code) {
        let user = rules.user.as_deref().unwrap_or("the user of amqp_url");
        return Err(format!("{user} may not publish for its org: see the setting `publishers`"));
    }
    if !rules.overrides_publisher
        && !rules.config.may_publish(letter.user_id.as_deref(), &envelope.org_code)
    {
        return Err("its publisher may not publish for its org, or is unknown: list it under [publishers], or replay this dead letter alone with --override-publisher".to_owned());
    }
    Ok(message)
}

/// Whether its id is not known to belong to another command.
pub(super) fn has_own_id(letter: &Letter) -> bool {
    letter.reason != Reason::MessageIdReused.as_str()
}

/// How many bytes the body of a letter had before it was cut, and the hash of them; nothing if the
/// letter has all of it.
#[must_use]
pub fn whole_body(letter: &Letter) -> Option<(usize, &str)> {
    let length = cut_body::length_in(letter.provenance.get(BODY_LENGTH))?;
    let hash = letter.provenance.get(BODY_HASH).and_then(Value::as_str);
    Some((length, hash.unwrap_or("unknown")))
}

/// Why a letter whose body was cut can be neither replayed nor edited: what is left of it may
/// well be a command by itself, and another one.
#[must_use]
pub fn lacks_its_body(letter: &Letter) -> Option<String> {
    whole_body(letter)?;
    let kept = cut_body::KEPT_BYTES;
    Some(format!(
        "only the first {kept} bytes of its body were kept: have its publisher send the command again, in several smaller ones"
    ))
}

/// Why dead letters in this state are not replayed.
const fn not_open(state: State) -> Option<&'static str> {
    match state {
        State::Open => None,
        State::Replaying => Some("another bulk job replays it"),
        State::Replayed => {
            Some("its replay waits in a lane: restore it, which takes the replay back")
        }
        State::Applied => Some("its command took effect already"),
        State::FailedAgain => {
            Some("its replay failed again: replay the dead letter that it became")
        }
        State::Discarded => Some("discarded: restore it first"),
        State::Superseded => Some("an edited copy replaces it"),
    }
}

/// Why a discard or a restore does not change a dead letter in this state.
pub(super) const fn why_unchanged(kind: BulkJobKind, state: State) -> &'static str {
    match state {
        State::Replaying => "a running bulk job replays it: cancel that first",
        State::Applied => "its command took effect, which can't be undone",
        State::FailedAgain => "its replay failed again: use the dead letter that it became",
        State::Superseded => "an edited copy replaces it: use that one",
        State::Open if matches!(kind, BulkJobKind::Restore) => "it is open already",
        State::Discarded if matches!(kind, BulkJobKind::Discard) => "it is discarded already",
        State::Replayed => {
            "its replay waits in a lane: restore it first, which takes the replay back"
        }
        State::Open | State::Discarded => "another bulk job changes it: try again",
    }
}

/// What the publisher sent, with the priority of its lane. A command without an id gets the dead
/// letter's, so that its replays take effect once, too.
fn replay(letter: &Letter, config: &Config) -> Message {
    let id = letter.id.to_string();
    let mut message = original(letter, topology::COMMANDS);
    let place = priority::in_lane(config, &message.routing_key, message.properties.priority);
    let properties = &mut message.properties;
    properties.priority = place;
    properties.message_id.get_or_insert(id);
    message
}

/// What the publisher sent, to the given exchange, without the user that the broker authenticated.
pub(super) fn original(letter: &Letter, exchange: &str) -> Message {
    let property =
        |name: &str| letter.properties.get(name).and_then(Value::as_str).map(str::to_owned);
    let mut headers: BTreeMap<String, Value> =
        letter.headers.as_object().into_iter().flatten().map(owned).collect();
    // Becomes the property again that it was sent in.
    let timestamp = letter.provenance.get(UNREADABLE_TIMESTAMP);
    headers.extend(timestamp.map(|value| (UNREADABLE_TIMESTAMP.to_owned(), value.clone())));
    Message {
        exchange: exchange.to_owned(),
        routing_key: letter.routing_key.clone(),
        properties: Properties {
            message_id: letter.command_id.clone(),
            correlation_id: letter.correlation_id.clone(),
            reply_to: property("reply_to"),
            kind: property("type"),
            content_type: property("content_type"),
            content_encoding: property("content_encoding"),
            app_id: letter.app_id.clone(),
            user_id: None,
            priority: letter
                .properties
                .get("priority")
                .and_then(Value::as_u64)
                .and_then(|p| p.try_into().ok()),
            expiration: None,
            timestamp: letter.sent_at,
            headers,
        },
        body: letter.body.clone(),
    }
}

fn owned((name, value): (&String, &Value)) -> (String, Value) {
    (name.clone(), value.clone())
}
