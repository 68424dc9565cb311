//! An edited copy of a letter: checked before it is kept, and with an id of its own.

use uuid::Uuid;

use crate::domain::actor::Actor;
use crate::domain::dead_letter::State;
use crate::message::Message;
use crate::store::connection::Connection;
use crate::store::dead_letters::claims;
use crate::store::dead_letters::edit::{self, Copy};
use crate::store::dead_letters::show::{self, Letter};
use crate::usecases::dead_letters::eligible;
use crate::usecases::dead_letters::error::Error;
use crate::usecases::dead_letters::history_check;
use crate::wire::customer_keys;
use crate::wire::decode;
use crate::wire::envelope::Envelope;

/// Whether a worker could read a command with this routing key and body. What it refuses it
/// refuses in the words of the rejection.
pub fn check(letter: &Letter, routing_key: &str, body: &[u8]) -> Result<(), Error> {
    check_has_its_body(letter)?;
    envelope(letter, routing_key, body).map(drop)
}

/// Puts an edited copy in the letter's place, open and with a new command id, and returns its id.
/// Nothing is published: the copy is to be replayed.
pub async fn edit(
    connection: &mut Connection,
    id: Uuid,
    routing_key: Option<&str>,
    body: &[u8],
    actor: &Actor,
) -> Result<Uuid, Error> {
    let letter = show::show(connection, id).await?.ok_or(Error::NotFound(id))?;
    check_has_its_body(&letter)?;
    if !history_check::note_applied(connection, std::slice::from_ref(&letter)).await?.is_empty() {
        return Err(took_effect(id));
    }
    let routing_key = routing_key.unwrap_or(&letter.routing_key);
    let envelope = envelope(&letter, routing_key, body)?;
    let copy = Copy {
        original: id,
        command_id: Uuid::now_v7().to_string(),
        org: envelope.org_code,
        operation: envelope.operation.as_str().to_owned(),
        routing_key: routing_key.to_owned(),
        body: body.to_vec(),
        customer_keys: customer_keys::of_body(body),
    };
    let copied = edit::supersede(connection, &copy, actor).await?;
    if copied.is_none() {
        let states = claims::count_by_state(connection, &[id]).await?;
        if states.iter().any(|(state, _)| *state == State::Applied) {
            return Err(took_effect(id));
        }
    }
    copied.ok_or_else(|| {
        let state =
            if letter.state == State::Open { "not open any more" } else { letter.state.as_str() };
        Error::Conflict(format!("letter {id} is {state}: only an open one can be edited"))
    })
}

fn took_effect(id: Uuid) -> Error {
    Error::Conflict(format!(
        "letter {id} is applied: its command took effect already. Publish a new command instead"
    ))
}

/// Whether there is anything to edit a copy of.
pub fn check_has_its_body(letter: &Letter) -> Result<(), Error> {
    match eligible::lacks_its_body(letter) {
        None => Ok(()),
        Some(why) => Err(Error::Conflict(format!("letter {} can't be edited: {why}", letter.id))),
    }
}

fn envelope(letter: &Letter, routing_key: &str, body: &[u8]) -> Result<Envelope, Error> {
    let outside = Message { routing_key: routing_key.to_owned(), ..Message::default() };
    let mut outside = outside;
    let property = |name: &str| {
        letter.properties.get(name).and_then(serde_json::Value::as_str).map(str::to_owned)
    };
    outside.properties.content_type = property("content_type");
    outside.properties.content_encoding = property("content_encoding");
    outside.properties.correlation_id.clone_from(&letter.correlation_id);
    let envelope = Envelope::parse(&outside).map_err(Error::StillBroken)?;
    decode::decode(body, envelope.operation).map_err(Error::StillBroken)?;
    Ok(envelope)
}
