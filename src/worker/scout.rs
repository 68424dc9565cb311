//! Looks ahead: gathers the next window, decodes it, and finds out whom its commands mean while the
//! last one is still being stored. No more than these two are decoded at a time.
//!
//! No command changes a customer, so the answer is as good early as late. Who holds a membership
//! id may change meanwhile; whoever uses the answer adds what the windows in between have done.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};

use crate::config::Config;
use crate::config::memory::BATCH_BYTES_MAX;
use crate::domain::enrolment::Membership;
use crate::domain::groups::{self, Boundary, Member};
use crate::domain::identity::CustomerId;
use crate::domain::needs::Needs;
use crate::domain::snapshot::Snapshot;
use crate::failpoint::{self, Point};
use crate::store;
use crate::store::error::Error;
use crate::store::session::{self, Session};
use crate::worker::facts::{Identities, Preloaded};
use crate::worker::intake::{self, RawDelivery, Taken};
use crate::worker::priority::PriorityCheck;
use crate::worker::routing::LaneRouting;

/// Windows that are looked at ahead of the one that is being settled: one waits, one is looked at.
pub(super) const AHEAD: usize = 2;

/// A part is worth a transaction of its own from this share of a full window on: a smaller one gets
/// no faster by it, and each commit waits for the disk.
const PARTS_OF_A_FULL_WINDOW: usize = 8;

/// In how many parts a window of so many deliveries is settled, at most.
pub(super) fn parts_at_most(config: &Config, deliveries: usize) -> usize {
    let worth_a_part = (config.window / PARTS_OF_A_FULL_WINDOW).max(1);
    deliveries.div_ceil(worth_a_part).min(config.connections_per_lane)
}

/// A window before it is settled.
pub(super) struct Scouted {
    /// In the order of the queue.
    pub(super) taken: Vec<Taken>,
    /// Nothing, if nobody looked or the database did not tell: the window is settled in one piece.
    known: Option<Known>,
}

struct Known {
    identities: Arc<Identities>,
    holders: HashMap<Membership, CustomerId>,
}

impl Known {
    fn member<'a>(&'a self, taken: &'a Taken) -> Option<Member<'a>> {
        let read = taken.read.as_ref().ok()?;
        let org = self.identities.catalogue.orgs.get(&read.envelope.org_code)?;
        Some(Member { org, command: &read.command, id: &read.command_id })
    }
}

/// Some of a window's deliveries, free of the others.
pub(super) struct Part {
    /// Their places in the window, in order.
    pub(super) places: Vec<usize>,
    pub(super) preloaded: Option<Preloaded>,
}

impl Scouted {
    /// A window that nobody has looked at.
    pub(super) fn unseen(taken: Vec<Taken>) -> Self {
        Self { taken, known: None }
    }

    /// The window in at most `most` parts; in one if what was looked up is older than `version` of the
    /// customers. `recent` tells who came to hold which membership id in the windows that were
    /// settled meanwhile.
    pub(super) fn parts(
        &self,
        version: i64,
        recent: &[HashMap<Membership, CustomerId>],
        most: usize,
    ) -> Vec<Part> {
        let known = self.known.as_ref().filter(|known| known.identities.version >= version);
        let Some(known) = known else {
            return vec![Part { places: (0..self.taken.len()).collect(), preloaded: None }];
        };
        let holders = |membership: &Membership| {
            let all = recent.iter().chain([&known.holders]);
            all.filter_map(|holders| holders.get(membership).copied()).collect()
        };
        let window: Vec<_> = self.taken.iter().map(|taken| known.member(taken)).collect();
        let parts = groups::parts(&window, &known.identities.customers, &holders, most);
        let boundary = Arc::new(Boundary::between(&parts));
        let part = |(index, groups::Part { places, customers, .. })| {
            let (identities, boundary) = (Arc::clone(&known.identities), Arc::clone(&boundary));
            let preloaded = Preloaded { identities, customers, cut: (index, boundary) };
            Part { places, preloaded: Some(preloaded) }
        };
        parts.into_iter().enumerate().map(part).collect()
    }

    /// Whom the batch's commands mean, as far as the look-ahead has found out.
    pub(super) fn identities(&self) -> Option<&Identities> {
        self.known.as_ref().map(|known| &*known.identities)
    }
}

/// See the module.
pub(super) struct Scout {
    pub(super) config: Arc<Config>,
    pub(super) session: Session,
    pub(super) routing: Arc<LaneRouting>,
    pub(super) priority: PriorityCheck,
    /// Told when a window would be settled at once.
    pub(super) wanted: Arc<Notify>,
}

impl Scout {
    /// Scouts until nothing more is taken, or nobody wants to know.
    pub(super) async fn run(
        mut self,
        mut delivered: mpsc::Receiver<RawDelivery>,
        windows: mpsc::Sender<Scouted>,
    ) {
        // Nothing is decoded before there is room for it.
        while let Ok(room) = windows.reserve().await {
            let window = self.gather(&mut delivered).await;
            if window.is_empty() {
                return;
            }
            let in_parts = parts_at_most(&self.config, window.len()) > 1;
            let known = if in_parts { self.look(&window).await } else { None };
            room.send(Scouted { taken: window, known });
        }
    }

    /// The next window: what has come until it is wanted, up to the bounds; empty when the intake is
    /// gone. While the last one is being settled, a window that is not full can as well grow: it
    /// would only wait, and others would come after it.
    async fn gather(&self, delivered: &mut mpsc::Receiver<RawDelivery>) -> Vec<Taken> {
        let publishers = &self.config.publishers;
        let mut window = Vec::with_capacity(self.config.window);
        let Some(first) = delivered.recv().await else { return window };
        let first = intake::take(first, publishers, &self.routing, &self.priority);
        let linger_until = Instant::now() + Duration::from_millis(self.config.linger_ms);
        let mut wanted = pin!(async {
            self.wanted.notified().await;
            sleep_until(linger_until).await;
        });
        let (mut items, mut bytes) = (first.item_count(), first.estimated_bytes());
        window.push(first);
        while window.len() < self.config.window
            && items < self.config.window_items
            && bytes < BATCH_BYTES_MAX
        {
            let next = tokio::select! {
                biased;
                next = delivered.recv() => next,
                () = &mut wanted => None,
            };
            let Some(next) = next else { break };
            let next = intake::take(next, publishers, &self.routing, &self.priority);
            items += next.item_count();
            bytes += next.estimated_bytes();
            window.push(next);
        }
        window
    }

    /// An outage is for whoever settles the window to wait out.
    async fn look(&mut self, window: &[Taken]) -> Option<Known> {
        failpoint::reach(Point::LookAhead);
        match session::bounded(self.session.timeout(), self.ask(window)).await {
            Ok(known) => Some(known),
            Err(error) => {
                tracing::debug!("could not look ahead: {error}");
                self.session.discard();
                None
            }
        }
    }

    async fn ask(&mut self, window: &[Taken]) -> Result<Known, Error> {
        let catalogue = self.session.catalogue().await?;
        let version = self.session.customers_version();
        let connection = self.session.connection().await?;
        let mut needs = Needs::default();
        for read in window.iter().filter_map(|taken| taken.read.as_ref().ok()) {
            if let Some(org) = catalogue.orgs.get(&read.envelope.org_code) {
                needs.add_command(org, &read.command);
            }
        }
        let mut customers = Snapshot::default();
        if !needs.is_empty() {
            store::load::customers(connection, &needs, &mut customers).await?;
        }
        let holders = store::load::holders(connection, &needs).await?.into_iter().collect();
        Ok(Known { identities: Arc::new(Identities { version, catalogue, customers }), holders })
    }
}
