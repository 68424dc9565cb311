//! Looks ahead: gathers the next batch, decodes it, and looks up its customers while the
//! last one is still being stored. No more than these two are decoded at a time.
//!
//! No command changes a customer, so the look-up may be early. The holder of a membership id may change
//! meanwhile: the executors add the changes of the batches in between.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};

use crate::config::Config;
use crate::config::memory::BATCH_BYTES_MAX;
use crate::domain::enrolment::Membership;
use crate::domain::groups::{self, BatchCommand, Boundary};
use crate::domain::identity::CustomerId;
use crate::domain::needs::Needs;
use crate::domain::snapshot::Snapshot;
use crate::failpoint::{self, Point};
use crate::store;
use crate::store::error::Error;
use crate::store::session::{self, Session};
use crate::worker::lane::facts::{Identities, Preloaded};
use crate::worker::lane::priority::PriorityCheck;
use crate::worker::lane::receive::{self, Delivery, RawDelivery};
use crate::worker::lane::routing::LaneRouting;

/// Batches that are looked at ahead of the one that is being processed: one waits, one is looked at.
pub(crate) const AHEAD: usize = 2;

/// A sub-batch is worth a transaction of its own from this share of a full batch on: a smaller one gets
/// no faster by it, and each commit waits for the disk.
const SUB_BATCHES_OF_A_FULL_BATCH: usize = 8;

/// The most sub-batches for a batch of so many deliveries.
pub(crate) fn sub_batches_max(config: &Config, deliveries: usize) -> usize {
    let worth_a_sub_batch = (config.batch_size / SUB_BATCHES_OF_A_FULL_BATCH).max(1);
    deliveries.div_ceil(worth_a_sub_batch).min(config.connections_per_lane)
}

/// A batch before it is processed.
pub(crate) struct PlannedBatch {
    /// In the order of the queue.
    pub(crate) deliveries: Vec<Delivery>,
    /// `None` if nothing was looked up: the batch is processed in one piece.
    known: Option<BatchFacts>,
}

struct BatchFacts {
    identities: Arc<Identities>,
    members: HashMap<Membership, CustomerId>,
}

impl BatchFacts {
    fn member<'a>(&'a self, delivery: &'a Delivery) -> Option<BatchCommand<'a>> {
        let decoded = delivery.decoded.as_ref().ok()?;
        let org = self.identities.catalogue.orgs.get(&decoded.envelope.org_code)?;
        Some(BatchCommand { org, command: &decoded.command, id: &decoded.command_id })
    }
}

/// Some of a batch's deliveries, which can be applied before or after the others.
pub(crate) struct SubBatch {
    /// Their places in the batch, in order.
    pub(crate) indices: Vec<usize>,
    pub(crate) preloaded: Option<Preloaded>,
}

impl PlannedBatch {
    /// A batch without a look-ahead.
    pub(crate) fn unseen(deliveries: Vec<Delivery>) -> Self {
        Self { deliveries, known: None }
    }

    /// The batch in at most `most` sub-batches; in one if what was looked up is older than `version` of the
    /// customers. `recent` tells who came to hold which membership id in the batches that were
    /// processed meanwhile.
    pub(crate) fn sub_batches(
        &self,
        version: i64,
        recent: &[HashMap<Membership, CustomerId>],
        most: usize,
    ) -> Vec<SubBatch> {
        let known = self.known.as_ref().filter(|known| known.identities.version >= version);
        let Some(known) = known else {
            return vec![SubBatch {
                indices: (0..self.deliveries.len()).collect(),
                preloaded: None,
            }];
        };
        let members = |membership: &Membership| {
            let all = recent.iter().chain([&known.members]);
            all.filter_map(|members| members.get(membership).copied()).collect()
        };
        let batch: Vec<_> = self.deliveries.iter().map(|delivery| known.member(delivery)).collect();
        let sub_batches = groups::sub_batches(&batch, &known.identities.customers, &members, most);
        let boundary = Arc::new(Boundary::between(&sub_batches));
        let sub_batch = |(index, groups::SubBatch { places: indices, customers, .. })| {
            let (identities, boundary) = (Arc::clone(&known.identities), Arc::clone(&boundary));
            let preloaded = Preloaded { identities, customers, cut: (index, boundary) };
            SubBatch { indices, preloaded: Some(preloaded) }
        };
        sub_batches.into_iter().enumerate().map(sub_batch).collect()
    }

    /// The customers that the batch's commands name, as far as the look-ahead has found them.
    pub(crate) fn identities(&self) -> Option<&Identities> {
        self.known.as_ref().map(|known| &*known.identities)
    }
}

/// The task that gathers batches and looks up their customers.
pub(crate) struct LookAhead {
    pub(crate) config: Arc<Config>,
    pub(crate) session: Session,
    pub(crate) routing: Arc<LaneRouting>,
    pub(crate) priority: PriorityCheck,
    /// Told when a batch would be processed at once.
    pub(crate) wanted: Arc<Notify>,
}

impl LookAhead {
    /// Looks ahead until the receiver or the lane has ended.
    pub(crate) async fn run(
        mut self,
        mut delivered: mpsc::Receiver<RawDelivery>,
        batches: mpsc::Sender<PlannedBatch>,
    ) {
        // Nothing is decoded before there is room for it.
        while let Ok(room) = batches.reserve().await {
            let batch = self.gather(&mut delivered).await;
            if batch.is_empty() {
                return;
            }
            let is_split = sub_batches_max(&self.config, batch.len()) > 1;
            let known = if is_split { self.look(&batch).await } else { None };
            room.send(PlannedBatch { deliveries: batch, known });
        }
    }

    /// The next batch: what has come until it is wanted, up to the bounds; empty when the receiver is
    /// gone. While the last one is being processed, a batch that is not full can as well grow: it
    /// would only wait, and others would come after it.
    async fn gather(&self, delivered: &mut mpsc::Receiver<RawDelivery>) -> Vec<Delivery> {
        let publishers = &self.config.publishers;
        let mut batch = Vec::with_capacity(self.config.batch_size);
        let Some(first) = delivered.recv().await else { return batch };
        let first = receive::decode(first, publishers, &self.routing, &self.priority);
        let linger_until = Instant::now() + Duration::from_millis(self.config.linger_ms);
        let mut wanted = pin!(async {
            self.wanted.notified().await;
            sleep_until(linger_until).await;
        });
        let (mut items, mut bytes) = (first.item_count(), first.estimated_bytes());
        batch.push(first);
        while batch.len() < self.config.batch_size
            && items < self.config.batch_items
            && bytes < BATCH_BYTES_MAX
        {
            let next = tokio::select! {
                biased;
                next = delivered.recv() => next,
                () = &mut wanted => None,
            };
            let Some(next) = next else { break };
            let next = receive::decode(next, publishers, &self.routing, &self.priority);
            items += next.item_count();
            bytes += next.estimated_bytes();
            batch.push(next);
        }
        batch
    }

    /// Looks up the customers of the batch; nothing in an outage, which the executors wait out.
    async fn look(&mut self, batch: &[Delivery]) -> Option<BatchFacts> {
        failpoint::reach(Point::LookAhead);
        match session::bounded(self.session.timeout(), self.ask(batch)).await {
            Ok(known) => Some(known),
            Err(error) => {
                tracing::debug!("could not look ahead: {error}");
                self.session.discard();
                None
            }
        }
    }

    async fn ask(&mut self, batch: &[Delivery]) -> Result<BatchFacts, Error> {
        let catalogue = self.session.catalogue().await?;
        let version = self.session.customers_version();
        let connection = self.session.connection().await?;
        let mut needs = Needs::default();
        for decoded in batch.iter().filter_map(|delivery| delivery.decoded.as_ref().ok()) {
            if let Some(org) = catalogue.orgs.get(&decoded.envelope.org_code) {
                needs.add_command(org, &decoded.command);
            }
        }
        let mut customers = Snapshot::default();
        if !needs.is_empty() {
            store::load::customers(connection, &needs, &mut customers).await?;
        }
        let members = store::load::members(connection, &needs).await?.into_iter().collect();
        Ok(BatchFacts {
            identities: Arc::new(Identities { version, catalogue, customers }),
            members,
        })
    }
}
