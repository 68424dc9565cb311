//! What becomes of a delivery that can't be processed at all (contract, "What is a dead letter,
//! what is an answer").

use uuid::Uuid;

use crate::broker::topology;
use crate::domain::rejection::Rejection;
use crate::message::Message;
use crate::wire::rejected;
use crate::wire::rejected::{Origin, PlaceOfDeath};
use crate::worker::intake::Taken;

/// The letter for the dead-letter exchange and the event that tells subscribers.
pub(super) struct DeadLetter {
    pub(super) letter: Message,
    pub(super) event: Message,
}

/// Writes both. A letter that is published again after a crash is the same letter, see
/// [`rejected::dead_letter_id`].
pub(super) fn write(taken: &Taken, rejection: &Rejection, origin: &Origin<'_>) -> DeadLetter {
    let place = PlaceOfDeath { lane: origin.lane, position: origin.position };
    let id = rejected::dead_letter_id(&taken.message, rejection.reason, place);
    DeadLetter {
        letter: rejected::dead_letter(
            topology::DEAD_LETTERS,
            &taken.message,
            rejection,
            id,
            origin,
        ),
        event: rejected::event(topology::RESULTS, &taken.message, rejection, id),
    }
}

/// What a delivery's attempts are counted under.
#[must_use]
pub(super) fn attempt_id(taken: &Taken) -> Uuid {
    rejected::attempt_id(&taken.message)
}
