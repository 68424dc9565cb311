//! How much memory a worker takes at most, and the prefetch that follows from its budget.
//!
//! A publisher decides how large a command is, up to the contract's bound, and the broker sends as
//! many as the prefetch allows. So the worst case is prefetch x 1 MiB for each lane, and what the
//! batches at work add to it. The bounds stand here, because the worker obeys them, and the
//! prefetch and `doctor` are reckoned from them.

use crate::config::Config;
use crate::message::BODY_BYTES_MAX;

const MIB: usize = 1 << 20;

/// What the process takes without any message: program, connections, catalogue, console.
const PROCESS_BYTES: usize = 64 * MIB;

/// A delivery that waits: its body, and its properties, which `wire::cut_body` bounds.
const DELIVERY_BYTES: usize = BODY_BYTES_MAX + MIB / 16;

/// What an element of a command, an entry or an item, takes while its batch is processed, without its
/// texts: some 100 bytes decoded, twice that while its list grows; some 250 bytes of result, in four
/// copies on their way into the database and to the broker; rows and parameters of its effect.
pub const ELEMENT_BYTES: usize = 2_048;
/// Commands whose estimates come to more end a batch; one that has more is a batch by itself.
pub const BATCH_BYTES_MAX: usize = 8 * MIB;
/// No more batches are published while the bodies of those that are not confirmed come to more.
pub const UNCONFIRMED_BYTES_MAX: usize = 8 * MIB;

/// What a lane takes beside the deliveries that wait: the batch that is processed and the next one,
/// each with the command that ended it; results and dead letters that wait for their confirms, those
/// of two further batches, and the copies that are on their way to the socket.
const LANE_BYTES: usize =
    2 * (BATCH_BYTES_MAX + 4 * MIB) + UNCONFIRMED_BYTES_MAX + 4 * BATCH_BYTES_MAX;

/// Most dead letters that the archive of a worker holds at a time.
pub const ARCHIVE_PREFETCH: u16 = 32;
/// Bodies beyond so many bytes end a batch of the archive.
pub const ARCHIVE_BATCH_BYTES_MAX: usize = 8 * MIB;
/// The letters that wait; the batch that is stored: as read, as parameters, and as sent; and a portion
/// of a bulk job, which has the same bound: as read, and as sent.
const ARCHIVE_BYTES: usize =
    ARCHIVE_PREFETCH as usize * DELIVERY_BYTES + 5 * ARCHIVE_BATCH_BYTES_MAX;

/// With fewer a lane would hardly move: too small a budget is exceeded, and `doctor` says so.
const PREFETCH_MIN: usize = 16;

/// How many deliveries each of so many lanes may hold within the budget. It depends on nothing in
/// which workers may differ, because a queue whose consumers differ in it loses its order.
pub(super) fn deliveries(budget_bytes: usize, lanes: usize) -> usize {
    let for_lanes = budget_bytes.saturating_sub(PROCESS_BYTES + ARCHIVE_BYTES);
    let for_deliveries = (for_lanes / lanes.max(1)).saturating_sub(LANE_BYTES);
    (for_deliveries / DELIVERY_BYTES).max(PREFETCH_MIN)
}

/// The most memory that a worker takes, if every command is as large as the contract allows.
#[must_use]
pub fn worst_case_bytes(config: &Config) -> usize {
    let lane = usize::from(config.prefetch) * DELIVERY_BYTES + LANE_BYTES;
    PROCESS_BYTES + ARCHIVE_BYTES + config.lanes.len() * lane
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, proptest};

    use super::*;

    proptest! {
        #[test]
        fn the_worst_case_is_within_the_budget_or_the_prefetch_is_the_least(
            budget in 0_usize..8 << 30,
            lanes in 1_usize..20,
        ) {
            let deliveries = deliveries(budget, lanes);
            let worst = PROCESS_BYTES + ARCHIVE_BYTES
                + lanes * (deliveries * DELIVERY_BYTES + LANE_BYTES);
            prop_assert!(worst <= budget || deliveries == PREFETCH_MIN);
            let one_more = worst + lanes * DELIVERY_BYTES;
            prop_assert!(one_more > budget, "nothing is left unused");
        }
    }
}
