//! The deliveries that a lane's worker has not acked yet: the head of the queue, and how old it is.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};

/// The deliveries of one channel, in their order. At most the prefetch.
#[derive(Debug, Default)]
pub(crate) struct InFlight(Mutex<VecDeque<(u64, DateTime<Utc>)>>);

impl InFlight {
    /// A delivery came, which was sent then. Tags rise.
    pub(crate) fn add(&self, tag: u64, sent_at: DateTime<Utc>) {
        self.change(|deliveries| deliveries.push_back((tag, sent_at)));
    }

    /// All up to this one were acked.
    pub(crate) fn ack_through(&self, tag: u64) {
        self.change(|deliveries| {
            let acked = deliveries.partition_point(|(held, _)| *held <= tag);
            deliveries.drain(..acked);
        });
    }

    /// The channel has closed: the broker delivers everything again.
    pub(crate) fn clear(&self) {
        self.change(VecDeque::clear);
    }

    /// When the oldest was sent.
    pub(crate) fn oldest(&self) -> Option<DateTime<Utc>> {
        self.change(|deliveries| deliveries.iter().map(|(_, sent_at)| *sent_at).min())
    }

    fn change<T>(&self, change: impl FnOnce(&mut VecDeque<(u64, DateTime<Utc>)>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn the_oldest_is_what_no_ack_has_reached() {
        let now = DateTime::UNIX_EPOCH;
        let in_flight = InFlight::default();
        assert_eq!(in_flight.oldest(), None);
        for (tag, age) in [(3, 9), (4, 30), (5, 7), (6, 2)] {
            in_flight.add(tag, now - TimeDelta::seconds(age));
        }
        for (acked, oldest) in [(2, Some(30)), (3, Some(30)), (4, Some(7)), (6, None)] {
            in_flight.ack_through(acked);
            assert_eq!(in_flight.oldest().map(|at| (now - at).num_seconds()), oldest, "{acked}");
        }
        in_flight.add(7, now);
        in_flight.clear();
        assert_eq!(in_flight.oldest(), None);
    }
}
