//! How many commands came with another priority than their lane's, by who publishes them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Publishers of a lane that are counted apart; the others are counted together.
const PUBLISHERS_MAX: usize = 32;
/// The publisher in the counts of those, and of commands that name no publisher.
const OTHERS: &str = "(others)";
const UNNAMED: &str = "(unnamed)";
/// How often a lane says in the log that it lets such commands pass.
const WARN_INTERVAL: Duration = Duration::from_secs(30);

/// What became of a command with another priority than its lane's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It became a dead letter, unless it was answered before.
    Refused,
    /// It took effect, perhaps out of order.
    Warned,
    /// The broker does not tell the two priorities apart. One from 4.3 on would.
    Harmless,
}

impl Outcome {
    /// The word in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Warned => "warned",
            Self::Harmless => "harmless",
        }
    }
}

/// Deliveries with another priority than their lane's, by publisher and outcome.
#[derive(Debug, Default)]
pub struct OtherPriorities {
    counts: Mutex<BTreeMap<(String, Outcome), u64>>,
    warned_at: Mutex<Option<Instant>>,
}

impl OtherPriorities {
    /// Each publisher, as the broker authenticated it, with an outcome and how often there was that.
    #[must_use]
    pub fn each(&self) -> Vec<((String, Outcome), u64)> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(key, count)| (key.clone(), *count)).collect()
    }

    pub(crate) fn count(&self, publisher: Option<&str>, outcome: Outcome) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let publisher = publisher.unwrap_or(UNNAMED);
        let is_known = counts.keys().any(|(known, _)| known == publisher);
        // A publisher has up to three outcomes, next to each other.
        let mut known: Vec<&str> = counts.keys().map(|(known, _)| known.as_str()).collect();
        known.dedup();
        let has_room = known.len() < PUBLISHERS_MAX || publisher == UNNAMED;
        let counted = if is_known || has_room { publisher } else { OTHERS };
        *counts.entry((counted.to_owned(), outcome)).or_default() += 1;
    }

    /// Whether it is time for another line in the log.
    pub(crate) fn may_warn(&self) -> bool {
        let mut warned_at = self.warned_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = warned_at.is_none_or(|at| at.elapsed() > WARN_INTERVAL);
        if is_due {
            *warned_at = Some(Instant::now());
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishers_are_counted_apart_up_to_a_bound() {
        let counts = OtherPriorities::default();
        for n in 0..1_000 {
            counts.count(Some(&format!("user-{}", n % 500)), Outcome::Refused);
        }
        counts.count(None, Outcome::Harmless);
        let each = counts.each();
        assert!(each.len() <= PUBLISHERS_MAX + 2, "{}", each.len());
        assert_eq!(each.iter().map(|(_, count)| count).sum::<u64>(), 1_001);
        assert!(each.iter().any(|((publisher, _), _)| publisher == OTHERS));
    }
}
