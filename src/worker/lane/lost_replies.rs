//! Replies that were lost: each is counted, and the log has a line now and then.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::worker::counters::Counters;

/// At most one line of a lane's log in so long.
const SAY_INTERVAL: Duration = Duration::from_secs(30);

/// The lost replies of a lane. It outlives the lane's generations, so that a lane that reconnects logs no
/// further line.
#[derive(Clone)]
pub(crate) struct LostReplies {
    lane: String,
    counters: Arc<Counters>,
    unlogged: Arc<Mutex<UnloggedReplies>>,
}

#[derive(Default)]
struct UnloggedReplies {
    count: u64,
    last_reason: String,
    said_at: Option<Instant>,
}

impl LostReplies {
    pub(crate) fn of(lane: String, counters: Arc<Counters>) -> Self {
        Self { lane, counters, unlogged: Arc::default() }
    }

    /// So many replies were lost. The reason names no requester.
    pub(crate) fn add(&self, count: usize, reason: &dyn Display) {
        if count == 0 {
            return;
        }
        Counters::add(&self.counters.replies_lost, count);
        {
            let mut unlogged = self.unlogged.lock().unwrap_or_else(PoisonError::into_inner);
            unlogged.count += count as u64;
            unlogged.last_reason = reason.to_string();
        }
        self.say_if_due();
    }

    /// When the next line may be written; nothing if there is nothing to say.
    pub(crate) fn due(&self) -> Option<Instant> {
        let unlogged = self.unlogged.lock().unwrap_or_else(PoisonError::into_inner);
        (unlogged.count > 0)
            .then(|| unlogged.said_at.map_or_else(Instant::now, |at| at + SAY_INTERVAL))
    }

    /// Says it, if the last line is old enough.
    pub(crate) fn say_if_due(&self) {
        let mut unlogged = self.unlogged.lock().unwrap_or_else(PoisonError::into_inner);
        if unlogged.count == 0 || unlogged.said_at.is_some_and(|at| at.elapsed() < SAY_INTERVAL) {
            return;
        }
        unlogged.said_at = Some(Instant::now());
        let (lane, replies) = (&self.lane, std::mem::take(&mut unlogged.count));
        tracing::warn!(
            lane,
            replies,
            "{replies} replies were lost in lane {lane}, the last one because {}; their commands took effect and their results are published",
            unlogged.last_reason
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_loss_is_said_at_once_and_further_ones_wait() {
        let lost_replies = LostReplies::of("main".to_owned(), Arc::default());
        assert_eq!(lost_replies.due(), None);
        lost_replies.add(3, &"of a test");
        assert_eq!(lost_replies.due(), None, "it was said");
        lost_replies.add(2, &"of a test");
        lost_replies.say_if_due();
        assert!(lost_replies.due().is_some_and(|due| due > Instant::now()), "it is said later");
        assert_eq!(Counters::get(&lost_replies.counters.replies_lost), 5);
    }
}
