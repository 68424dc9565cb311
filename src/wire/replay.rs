//! How a message says that it is the replay of a dead letter.

use serde_json::Value;
use uuid::Uuid;

use crate::domain::replay::Replay;
use crate::message::Message;
use crate::wire::own_headers::{REPLAY_NUMBER, REPLAY_OF};

/// Marks a message as this replay.
pub fn mark(message: &mut Message, replay: Replay) {
    let headers = &mut message.properties.headers;
    headers.insert(REPLAY_OF.to_owned(), replay.dead_letter_id.to_string().into());
    headers.insert(REPLAY_NUMBER.to_owned(), replay.number.into());
}

/// The dead letter that a message says it replays.
#[must_use]
pub fn dead_letter_id(message: &Message) -> Option<Uuid> {
    let text = message.properties.headers.get(REPLAY_OF)?.as_str()?;
    Uuid::parse_str(text).ok()
}

/// Which replay a message says it is. Older releases give no number, and so does a publisher that sends a
/// command again for a dead letter.
#[must_use]
pub fn read(message: &Message) -> Option<Replay> {
    let number = message.properties.headers.get(REPLAY_NUMBER).and_then(Value::as_i64)?;
    Some(Replay { dead_letter_id: dead_letter_id(message)?, number: i32::try_from(number).ok()? })
}
