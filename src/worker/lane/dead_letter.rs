//! What becomes of a delivery that can't be processed at all (`docs/contract.md#answers-and-dead-letters`).

use uuid::Uuid;

use crate::broker::topology;
use crate::domain::dead_letter::QueuePosition;
use crate::domain::rejection::{Reason, Rejection};
use crate::message::Message;
use crate::wire::rejected;
use crate::wire::rejected::{Origin, PlaceOfDeath};
use crate::worker::lane::receive::Delivery;

/// The dead letter for the dead-letter exchange and the event that tells subscribers.
pub(crate) struct DeadLetter {
    pub(crate) letter: Message,
    pub(crate) event: Message,
}

/// Writes both. A dead letter that is published again after a crash is the same letter, see
/// [`rejected::dead_letter_id`].
pub(crate) fn write(delivery: &Delivery, rejection: &Rejection, origin: &Origin<'_>) -> DeadLetter {
    let id = dead_letter_id(delivery, rejection.reason, origin.lane, origin.position);
    DeadLetter {
        letter: rejected::dead_letter(
            topology::DEAD_LETTERS,
            &delivery.message,
            rejection,
            id,
            origin,
        ),
        event: rejected::event(topology::RESULTS, &delivery.message, rejection, id),
    }
}

/// The id of the dead letter that a delivery becomes for this reason at this position in the lane's queue.
pub(crate) fn dead_letter_id(
    delivery: &Delivery,
    reason: Reason,
    lane: &str,
    position: Option<QueuePosition>,
) -> Uuid {
    rejected::dead_letter_id(&delivery.message, reason, PlaceOfDeath { lane, position })
}

/// What a delivery's attempts are counted under.
#[must_use]
pub(crate) fn attempt_id(delivery: &Delivery) -> Uuid {
    rejected::attempt_id(&delivery.message)
}
