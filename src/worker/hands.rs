//! The hands of a lane: they store the parts of a window at the same time, each over a connection of
//! its own, all behind one fence.
//!
//! Parts are free of each other, so no order is lost. A window is done when all of its parts are;
//! what a fault leaves done of one is found in the inbox when the window comes again. One hand does
//! it all once a command was under way when the process died: what is beside it must not be
//! counted as tried each time that it kills the process.

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
    first: Isolation,
    others: Vec<Isolation>,
    /// Who came to hold what in the windows that were settled while the next was looked at; the
    /// latest first.
    recent: VecDeque<HashMap<Membership, CustomerId>>,
}

impl Hands {
    pub(super) fn of(first: Isolation, others: Vec<Isolation>) -> Self {
        Self { first, others, recent: VecDeque::with_capacity(scout::AHEAD) }
    }

    /// The hand that does alone what only one may do.
    pub(super) fn first(&mut self) -> &mut Isolation {
        &mut self.first
    }

    /// Settles every delivery of the window.
    pub(super) async fn settle(&mut self, window: &Scouted) -> Result<Vec<Settled>, Fault> {
        let all: Vec<&Taken> = window.taken.iter().collect();
        let attempts = self.first.known_attempts(&all).await?;
        let is_alone = attempts > 0 || self.first.parked_max.is_some();
        let hands = if is_alone { 1 } else { 1 + self.others.len() };
        let most = all.len().div_ceil(PART_MIN).min(hands);
        let parts = window.parts(self.recent.make_contiguous(), most);
        let hands = std::iter::once(&mut self.first).chain(&mut self.others);
        let settling = hands.zip(&parts).map(async |(hand, part)| {
            let taken: Vec<&Taken> = part.places.iter().map(|place| all[*place]).collect();
            hand.settle(&taken, part.acquaintances.as_ref(), attempts).await
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
