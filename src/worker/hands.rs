//! The hands of a lane: they store the parts of a window at the same time, each over a connection of
//! its own, all behind one fence.
//!
//! Parts are free of each other, so no order is lost. A window is done when all of its parts are;
//! what a fault leaves done of one is found in the inbox when the window comes again.

use std::collections::{HashMap, VecDeque};

use futures_util::future::try_join_all;

use crate::domain::groups::Membership;
use crate::domain::identity::CustomerId;
use crate::worker::fault::Fault;
use crate::worker::intake::Taken;
use crate::worker::isolate::Isolation;
use crate::worker::scout::{self, Scouted};
use crate::worker::window::Settled;

/// A part of fewer commands is not worth a transaction of its own.
const PART_MIN: usize = 8;

/// See the module.
pub(super) struct Hands {
    hands: Vec<Isolation>,
    /// Who came to hold what in the windows that were settled while the next was looked at; the
    /// latest first.
    recent: VecDeque<HashMap<Membership, CustomerId>>,
}

impl Hands {
    /// At least one.
    pub(super) fn of(hands: Vec<Isolation>) -> Self {
        Self { hands, recent: VecDeque::with_capacity(scout::AHEAD) }
    }

    /// Settles every delivery of the window.
    pub(super) async fn settle(&mut self, window: &Scouted) -> Result<Vec<Settled>, Fault> {
        let all: Vec<&Taken> = window.taken.iter().collect();
        let most = all.len().div_ceil(PART_MIN).min(self.hands.len());
        let parts = window.parts(self.recent.make_contiguous(), most);
        let settling = self.hands.iter_mut().zip(&parts).map(async |(hand, part)| {
            let taken: Vec<&Taken> = part.places.iter().map(|place| all[*place]).collect();
            hand.settle(&taken, part.acquaintances.as_ref()).await
        });
        let done = try_join_all(settling).await?;
        let mut holders = HashMap::new();
        let mut settled: Vec<(usize, Settled)> = Vec::with_capacity(all.len());
        for (part, applied) in parts.iter().zip(done) {
            settled.extend(part.places.iter().copied().zip(applied.settled));
            holders.extend(applied.holders);
        }
        settled.sort_unstable_by_key(|(place, _)| *place);
        self.recent.truncate(scout::AHEAD - 1);
        self.recent.push_front(holders);
        Ok(settled.into_iter().map(|(_, settled)| settled).collect())
    }
}
