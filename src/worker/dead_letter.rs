//! What becomes of a delivery that can't be processed at all (`docs/contract.md#answers-and-dead-letters`).

use uuid::Uuid;

use crate::broker::topology;
use crate::domain::dead_letter::QueuePosition;
use crate::domain::rejection::{Reason, Rejection};
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
    let id = letter_id(taken, rejection.reason, origin.lane, origin.position);
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

/// The id of the letter that a delivery becomes if it dies of this reason where it stood in the lane's queue.
pub(super) fn letter_id(
    taken: &Taken,
    reason: Reason,
    lane: &str,
    position: Option<QueuePosition>,
) -> Uuid {
    rejected::dead_letter_id(&taken.message, reason, PlaceOfDeath { lane, position })
}

/// What a delivery's attempts are counted under.
#[must_use]
pub(super) fn attempt_id(taken: &Taken) -> Uuid {
    rejected::attempt_id(&taken.message)
}
