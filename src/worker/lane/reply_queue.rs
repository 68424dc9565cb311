//! The queue of replies from a lane to the task that sends them: bounded in count and in bytes.
//!
//! While replies are confirmed, a lane that is faster waits for room, for a short time each. While none is
//! confirmed, the lane waits once and then loses replies, so that they never stop it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use crate::message::Message;
use crate::worker::lane::lost_replies::LostReplies;

/// Replies of one connection that may wait.
const WAITING_MAX: usize = 4_096;
/// What they may hold together, those on their way included, in units of [`UNIT_BYTES`]: 16 MiB.
const WAITING_UNITS_MAX: u32 = 16_384;
const UNIT_BYTES: usize = 1_024;
/// How long the lane waits for room, unless nothing was confirmed since it last waited in vain.
const ROOM_TIMEOUT: Duration = Duration::from_millis(250);

/// The lane's end of one connection.
pub(crate) struct Handover {
    waiting: mpsc::Sender<Reply>,
    room: Arc<Semaphore>,
    /// How many the broker has decided on.
    confirmed: Arc<AtomicUsize>,
    /// How many those were when the lane last waited for room in vain.
    confirmed_in_vain: Option<usize>,
    pending: Arc<AtomicUsize>,
    lost_replies: LostReplies,
}

/// A reply on its way, and its share of the room.
pub(crate) struct Reply {
    pub(crate) message: Message,
    _room: OwnedSemaphorePermit,
    _pending: Pending,
}

/// Counts a reply as long as nothing has become of it.
struct Pending(Arc<AtomicUsize>);

impl Pending {
    fn of(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Handover {
    /// The lane's end, and the sender's.
    pub(crate) fn new(
        confirmed: &Arc<AtomicUsize>,
        pending: &Arc<AtomicUsize>,
        lost_replies: &LostReplies,
    ) -> (Self, mpsc::Receiver<Reply>) {
        let (waiting, replies) = mpsc::channel(WAITING_MAX);
        let handover = Self {
            waiting,
            room: Arc::new(Semaphore::new(WAITING_UNITS_MAX as usize)),
            confirmed: Arc::clone(confirmed),
            confirmed_in_vain: None,
            pending: Arc::clone(pending),
            lost_replies: lost_replies.clone(),
        };
        (handover, replies)
    }

    /// Hands a reply over; one for which there is no room is lost.
    pub(crate) async fn send(&mut self, message: Message) {
        let units = u32::try_from(message.body.len() / UNIT_BYTES + 1).unwrap_or(u32::MAX);
        let units = units.min(WAITING_UNITS_MAX);
        let has_room = self.waiting.capacity() > 0
            && self.room.available_permits() >= usize::try_from(units).unwrap_or(usize::MAX);
        let confirmed = self.confirmed.load(Ordering::Relaxed);
        let retry = if has_room || self.confirmed_in_vain != Some(confirmed) {
            ROOM_TIMEOUT
        } else {
            Duration::ZERO
        };
        let room = Arc::clone(&self.room).acquire_many_owned(units);
        let given = timeout(retry, async { (room.await, self.waiting.reserve().await) }).await;
        match given {
            Ok((Ok(room), Ok(place))) => {
                let pending = Pending::of(&self.pending);
                place.send(Reply { message, _room: room, _pending: pending });
            }
            Ok(_) => self.lost_replies.add(1, &"their sender has ended"),
            Err(_elapsed) => {
                self.confirmed_in_vain = Some(confirmed);
                self.lost_replies.add(1, &"too many replies wait");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost_replies() -> LostReplies {
        LostReplies::of("main".to_owned(), Arc::default())
    }

    #[tokio::test]
    async fn what_finds_no_room_is_lost_and_holds_up_once() {
        let (confirmed, pending) = (Arc::default(), Arc::default());
        let (mut handover, mut replies) = Handover::new(&confirmed, &pending, &lost_replies());
        let reply = |bytes: usize| Message { body: vec![0; bytes], ..Message::default() };
        let half = UNIT_BYTES * (WAITING_UNITS_MAX as usize) / 2;
        for bytes in [half, half / 2, 0, half] {
            handover.send(reply(bytes)).await;
        }
        assert_eq!(pending.load(Ordering::Relaxed), 3, "the last one had no room");
        assert_eq!(handover.confirmed_in_vain, Some(0), "nor is it waited for again");
        drop(replies.recv().await);
        handover.send(reply(half)).await;
        assert_eq!(pending.load(Ordering::Relaxed), 3, "what was sent gives its room back");
    }
}
