//! Message priority, and what it does to the order of a lane.
//!
//! A lane is one ordered log, but a broker from 4.0 on delivers by priority, and that can't be switched
//! off. So the commands of a lane must have priorities that its broker does not tell apart.

/// A quorum queue treats a message without a priority as one with this.
pub const WITHOUT_PRIORITY: u8 = 4;
/// The first of the priorities that a broker from 4.0 on treats as high.
const FIRST_HIGH: u8 = 5;
/// The highest priority that a broker from 4.3 on tells from lower ones.
const HIGHEST_LEVEL: u8 = 31;

/// How a broker delivers the messages of a quorum queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryOrder {
    /// In the order in which they were queued, whatever their priorities.
    Queued,
    /// Those from 5 on are preferred.
    TwoClasses,
    /// Each level before the lower ones.
    Levels,
}

impl DeliveryOrder {
    /// Whether two messages of these priorities may be delivered in another order than they were
    /// queued in.
    #[must_use]
    pub fn tells_apart(self, one: Option<u8>, other: Option<u8>) -> bool {
        self.class(one) != self.class(other)
    }

    fn class(self, priority: Option<u8>) -> u8 {
        let priority = priority.unwrap_or(WITHOUT_PRIORITY);
        match self {
            Self::Queued => 0,
            Self::TwoClasses => u8::from(priority >= FIRST_HIGH),
            Self::Levels => priority.min(HIGHEST_LEVEL),
        }
    }
}

/// The priority to publish a command with so that it keeps its place in a lane whose commands have the
/// priority `lane`: its own, unless some broker tells the two apart.
#[must_use]
pub fn in_lane(lane: u8, own: Option<u8>) -> Option<u8> {
    if DeliveryOrder::Levels.tells_apart(Some(lane), own) {
        (lane != WITHOUT_PRIORITY).then_some(lane)
    } else {
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_differ_in_what_they_tell_apart() {
        use DeliveryOrder::{Levels, Queued, TwoClasses};
        for (one, other, by) in [
            (None, None, &[][..]),
            (None, Some(4), &[]),
            (Some(31), Some(255), &[]),
            (None, Some(0), &[Levels]),
            (Some(0), Some(3), &[Levels]),
            (Some(5), Some(9), &[Levels]),
            (None, Some(5), &[Levels, TwoClasses]),
            (Some(0), Some(255), &[Levels, TwoClasses]),
        ] {
            for order in [Queued, TwoClasses, Levels] {
                let tells = order.tells_apart(one, other);
                assert_eq!(tells, by.contains(&order), "{one:?} {other:?} {order:?}");
                assert_eq!(order.tells_apart(other, one), tells);
            }
        }
    }

    #[test]
    fn what_is_published_again_has_the_priority_of_its_lane() {
        for (lane, own, expected) in [
            (WITHOUT_PRIORITY, None, None),
            (WITHOUT_PRIORITY, Some(4), Some(4)),
            (WITHOUT_PRIORITY, Some(0), None),
            (WITHOUT_PRIORITY, Some(9), None),
            (0, None, Some(0)),
            (0, Some(0), Some(0)),
            (0, Some(9), Some(0)),
            (9, None, Some(9)),
        ] {
            assert_eq!(in_lane(lane, own), expected, "{lane} {own:?}");
        }
    }
}
