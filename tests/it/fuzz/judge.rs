//! What must hold of every message, however it looks.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use partner_program_worker::domain::command::Command;
use partner_program_worker::domain::evaluate::{Outcome, evaluate};
use partner_program_worker::domain::rejection::{Reason, Rejection};
use partner_program_worker::message::Message;
use partner_program_worker::wire::decode::{body_hash, decode};
use partner_program_worker::wire::envelope::Envelope;
use partner_program_worker::wire::rejected::{self, Origin, PlaceOfDeath};
use partner_program_worker::wire::result::{self, ResultHeader};
use serde_json::Value;

use crate::fuzz::corpus;
use crate::generate::world;
use crate::model::Model;
use crate::model_based::pure::Product;

/// A frame of 128 KiB has to hold all properties; this leaves room.
const HEADERS_BYTES_MAX: usize = 100_000;
const SHORT_STRING_BYTES_MAX: usize = 255;
const DETAIL_BYTES_MAX: usize = 1024;
/// What one customer, item or warning adds to a result beside the texts that were sent.
const ELEMENT_BYTES_MAX: usize = 700;

pub(super) struct Judge {
    product: Product,
}

impl Judge {
    pub(super) fn new() -> Self {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
        let mut model = Model::new(now, world::orgs(now));
        model.enrolments = world::enrolments(&model.orgs, now);
        Self { product: Product::new(&model) }
    }

    /// Fails where something does not hold.
    pub(super) fn look_at(&self, input: &[u8]) {
        let message = corpus::message(input);
        let read = read(&message);
        assert_eq!(read, self::read(&message), "reading is not deterministic");
        assert_eq!(body_hash(&message.body), body_hash(&message.body));
        match read {
            Ok((envelope, command)) => self.check_answer(&message, &envelope, &command),
            Err(rejection) => check_rejection(&message, &rejection),
        }
    }

    /// What came of it, in the words of the wire.
    pub(super) fn outcome(&self, input: &[u8]) -> BTreeSet<&'static str> {
        let message = corpus::message(input);
        let word = match read(&message) {
            Ok((envelope, command)) => {
                self.decide(&envelope, &command).map(|outcome| outcome.verdict().as_str())
            }
            Err(rejection) => Some(rejection.reason.as_str()),
        };
        word.into_iter().collect()
    }

    /// `None`: no such org.
    fn decide(&self, envelope: &Envelope, command: &Command) -> Option<Outcome> {
        let org = self.product.orgs.get(envelope.org_code.as_str())?;
        Some(evaluate(org, &mut self.product.snapshot.clone(), command, self.product.now))
    }

    fn check_answer(&self, message: &Message, envelope: &Envelope, command: &Command) {
        let Some(outcome) = self.decide(envelope, command) else {
            let rejection = Rejection::new(Reason::UnknownOrg, "no such org");
            return check_rejection(message, &rejection);
        };
        let again = self.decide(envelope, command);
        assert_eq!(Some(&outcome), again.as_ref(), "deciding is not deterministic");
        let body = result::encode(command, &outcome);
        assert_eq!(body, result::encode(command, &outcome), "writing is not deterministic");
        let json: Value = serde_json::from_slice(&body).expect("a result is JSON");
        check_statuses(&json);
        let elements = outcome.entries.len() + outcome.counts().total as usize;
        let elements = elements + outcome.warnings.len() + 1;
        let most = message.body.len() + ELEMENT_BYTES_MAX * elements;
        assert!(body.len() <= most, "{} bytes for {}", body.len(), message.body.len());

        let header = ResultHeader {
            org_code: &envelope.org_code,
            operation: envelope.operation,
            verdict: outcome.verdict(),
            counts: outcome.counts(),
            command_id: envelope.message_id.as_deref().unwrap_or("made-up"),
            correlation_id: envelope.correlation_id.as_deref(),
            app_id: envelope.app_id.as_deref(),
            user_id: envelope.user_id.as_deref(),
            sent_at: envelope.sent_at,
            traceparent: envelope.traceparent.as_deref(),
        };
        let event = result::event("results", &header, body);
        check_sendable(&event);
        if let Some(reply_to) = &envelope.reply_to {
            check_sendable(&result::reply(&event, reply_to, envelope.correlation_id.as_deref()));
        }
    }
}

fn read(message: &Message) -> Result<(Envelope, Command), Rejection> {
    let envelope = Envelope::parse(message)?;
    let command = decode(&message.body, envelope.operation)?;
    Ok((envelope, command))
}

fn check_rejection(message: &Message, rejection: &Rejection) {
    let Rejection { reason, detail } = rejection;
    assert!(Reason::ALL.contains(reason));
    assert!(!detail.is_empty(), "{reason} without a detail");
    assert!(detail.len() <= DETAIL_BYTES_MAX, "{reason}: {} bytes of detail", detail.len());
    assert!(!detail.contains(char::is_control), "{reason}: {detail:?}");
    for value in values(&message.body) {
        assert!(!detail.contains(value), "{reason}: {detail:?} quotes {value:?}");
    }

    let place = PlaceOfDeath { lane: "main", position: None };
    let id = rejected::dead_letter_id(message, *reason, place);
    assert_eq!(id, rejected::dead_letter_id(message, *reason, place));
    let event = rejected::event("results", message, rejection, id);
    check_sendable(&event);
    assert!(event.routing_key.ends_with(".rejected"), "{}", event.routing_key);
    let body: Value = serde_json::from_slice(&event.body).expect("an event is JSON");
    assert_eq!(body["reason"], reason.as_str());
    assert_eq!(body["detail"], detail.as_str());
    assert_eq!(body["deadLetterId"], id.to_string());

    let at: DateTime<Utc> = DateTime::UNIX_EPOCH;
    let origin =
        Origin { lane: "main", worker: "w", position: None, attempts: 1, at, worker_user: None };
    let letter = rejected::dead_letter("dead", message, rejection, id, &origin);
    check_sendable(&letter);
    assert_eq!(letter.body, message.body, "a letter keeps the body");
    assert_eq!(letter.properties.headers["x-reason"], reason.as_str());
}

/// Whether it fits AMQP: longer ones close the connection.
fn check_sendable(message: &Message) {
    let properties = &message.properties;
    let texts = [
        Some(&message.routing_key),
        properties.message_id.as_ref(),
        properties.correlation_id.as_ref(),
        properties.reply_to.as_ref(),
        properties.kind.as_ref(),
        properties.content_type.as_ref(),
        properties.content_encoding.as_ref(),
        properties.app_id.as_ref(),
    ];
    for text in texts.into_iter().flatten().chain(properties.headers.keys()) {
        assert!(text.len() <= SHORT_STRING_BYTES_MAX, "{} bytes: {text:?}", text.len());
    }
    assert_eq!(properties.user_id, None, "the broker would hold it against us");
    let headers = serde_json::to_vec(&properties.headers).expect("headers are JSON");
    assert!(headers.len() <= HEADERS_BYTES_MAX, "{} bytes of headers", headers.len());
}

/// Success in words and codes alike, and nothing without a status.
fn check_statuses(value: &Value) {
    match value {
        Value::Array(values) => values.iter().for_each(check_statuses),
        Value::Object(members) => {
            if let (Some(Value::Bool(status)), Some(code)) =
                (members.get("status"), members.get("code"))
            {
                assert_eq!(*status, code == 200 || code == 1000, "{value}");
                assert!(members["message"].as_str().is_some_and(|text| !text.is_empty()));
            }
            members.values().for_each(check_statuses);
        }
        _ => {}
    }
}

/// What in a body may be somebody's: long words with a digit or an at sign.
fn values(body: &[u8]) -> impl Iterator<Item = &str> {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"@._+-".contains(byte);
    body.split(move |byte| !is_part(byte))
        .filter(|word| word.len() >= 8 && word.iter().any(|b| b.is_ascii_digit() || *b == b'@'))
        .filter_map(|word| str::from_utf8(word).ok())
}
