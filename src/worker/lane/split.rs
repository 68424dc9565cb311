//! How a batch is cut around commands with which a process died before.

use std::ops::Range;

/// Each death makes the parts around a command smaller by this power of two.
const SHRINK_BITS: u32 = 3;

/// The parts of a batch, as a stack: the first one is last. `deaths` has for each command how many
/// processes died while it ran; `batch` is the most commands of a batch. A part is no larger than any
/// of its commands allows. So a command that kills the process is soon alone, and commands far from it are
/// not delayed.
pub(crate) fn split(deaths: &[u32], batch: usize) -> Vec<Range<usize>> {
    let mut parts: Vec<Range<usize>> = Vec::new();
    let (mut start, mut most) = (0, usize::MAX);
    for (index, deaths) in deaths.iter().enumerate() {
        let allowed = part_size(batch, *deaths);
        if index - start + 1 > most.min(allowed) {
            parts.push(start..index);
            (start, most) = (index, usize::MAX);
        }
        most = most.min(allowed);
    }
    if start < deaths.len() {
        parts.push(start..deaths.len());
    }
    parts.reverse();
    parts
}

fn part_size(batch: usize, deaths: u32) -> usize {
    (batch >> deaths.saturating_mul(SHRINK_BITS).min(usize::BITS - 1)).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::{part_size, split};

    #[test]
    fn commands_far_from_a_death_stay_together() {
        let mut deaths = vec![0; 500];
        deaths[100..108].fill(3);
        let parts: Vec<usize> =
            split(&deaths, 512).into_iter().rev().map(|part| part.len()).collect();
        assert_eq!(parts, [100, 1, 1, 1, 1, 1, 1, 1, 1, 392]);
        assert!(split(&[], 512).is_empty());
    }

    proptest! {
        #[test]
        fn parts_are_in_order_complete_and_no_larger_than_allowed(
            deaths in vec(0_u32..6, 0..300), batch in 1_usize..2_000,
        ) {
            let mut next = 0;
            for part in split(&deaths, batch).into_iter().rev() {
                prop_assert_eq!(part.start, next);
                next = part.end;
                let allowed = deaths[part.clone()].iter().map(|deaths| part_size(batch, *deaths)).min();
                prop_assert!(allowed.is_some_and(|allowed| part.len() <= allowed));
            }
            prop_assert_eq!(next, deaths.len());
        }
    }
}
