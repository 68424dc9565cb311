//! The executors of a lane: they store the sub-batches of a batch at the same time, each over a connection of
//! its own, all behind one fence.
//!
//! Sub-batches are free of each other, so no order is lost. One that does not commit at its first try is
//! processed when the others are done, because facts may have changed (`worker::lane::facts`). A batch is
//! done when all of its sub-batches are. What a fault leaves done of one is found in the inbox when the
//! batch comes again. Once a failure of a command is on record, one executor processes the batch, one
//! sub-batch after the other: so those around that command can be small, and it runs alone in the end.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use futures_util::future::try_join_all;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::domain::enrolment::Membership;
use crate::domain::identity::CustomerId;
use crate::domain::rejection::Reason;
use crate::worker::lane::apply::{BatchOutcome, DeliveryOutcome};
use crate::worker::lane::error::GenerationError;
use crate::worker::lane::executor::Executor;
use crate::worker::lane::facts::Facts;
use crate::worker::lane::look_ahead::{self, PlannedBatch, SubBatch};
use crate::worker::lane::receive::Delivery;
use crate::worker::lane::routing::LaneRouting;

/// The executors of a lane, and the facts of its last batches.
pub(crate) struct Executors {
    first: Executor,
    others: Vec<ExecutorTask>,
    /// The membership ids that changed holders in the batches that were processed during the look-ahead; the
    /// latest batch first.
    recent: VecDeque<HashMap<Membership, CustomerId>>,
    /// The version of the customers by which the last batch was decided.
    version: i64,
}

impl Executors {
    pub(crate) fn of(first: Executor, others: Vec<Executor>) -> Self {
        let others = others.into_iter().map(ExecutorTask::start).collect();
        Self { first, others, recent: VecDeque::with_capacity(look_ahead::AHEAD), version: 0 }
    }

    /// The executor for work that only one may do.
    pub(crate) fn first(&mut self) -> &mut Executor {
        &mut self.first
    }

    /// Processes every delivery of the batch.
    pub(crate) async fn process(
        &mut self,
        batch: &Arc<PlannedBatch>,
    ) -> Result<Vec<DeliveryOutcome>, GenerationError> {
        let all: Vec<&Delivery> = batch.deliveries.iter().collect();
        let known = Arc::new(self.first.known_attempts(&all).await?);
        let is_alone = !known.is_empty() || self.first.holds.is_here();
        let most =
            if is_alone { 1 } else { look_ahead::sub_batches_max(&self.first.config, all.len()) };
        let mut sub_batches = batch
            .sub_batches(self.version, self.recent.make_contiguous(), most)
            .into_iter()
            .map(Arc::new);
        let Some(own) = sub_batches.next() else { return Ok(Vec::new()) };
        let others: Vec<Arc<SubBatch>> = sub_batches.collect();
        if others.is_empty() {
            let facts = own.preloaded.as_ref().map_or(Facts::Stored, Facts::Preloaded);
            let applied = self.first.process(&all, facts, &known).await?;
            // A retry uses what is stored then.
            let stored = self.first.session.customers_version();
            let looked_up = own.preloaded.as_ref().map(|known| known.identities.version);
            self.remember(applied.members, looked_up.map_or(stored, |version| version.max(stored)));
            return Ok(applied.outcomes);
        }
        let tasks = others.iter().zip(&mut self.others).map(|(sub_batch, task)| {
            let (batch, sub_batch) = (Arc::clone(batch), Arc::clone(sub_batch));
            task.process(Job { batch, sub_batch })
        });
        let (own_applied, others_applied) =
            tokio::try_join!(process(&mut self.first, batch, &own), try_join_all(tasks),)?;
        let sub_batches = std::iter::once(own).chain(others);
        let looked_up = batch.identities();
        let mut version = looked_up.map_or(self.version, |identities| identities.version);
        let (mut members, mut rest) = (Vec::new(), Vec::new());
        let mut outcomes: Vec<(usize, DeliveryOutcome)> = Vec::with_capacity(all.len());
        for (sub_batch, applied) in
            sub_batches.zip(std::iter::once(own_applied).chain(others_applied))
        {
            match applied {
                Some(applied) => {
                    outcomes.extend(sub_batch.indices.iter().copied().zip(applied.outcomes));
                    members.extend(applied.members);
                }
                None => rest.extend(sub_batch.indices.iter().copied()),
            }
        }
        if !rest.is_empty() {
            // As one sub-batch, in the order of the queue: that is right by any facts.
            rest.sort_unstable();
            let facts = match looked_up {
                Some(identities) if !outcomes.is_empty() => Facts::Pinned(identities),
                Some(_) | None => Facts::Stored,
            };
            let deliveries: Vec<&Delivery> =
                rest.iter().map(|index| &batch.deliveries[*index]).collect();
            let applied = self.first.process(&deliveries, facts, &known).await?;
            outcomes.extend(rest.into_iter().zip(applied.outcomes));
            members.extend(applied.members);
            if matches!(facts, Facts::Stored) {
                version = self.first.session.customers_version();
            }
        }
        outcomes.sort_unstable_by_key(|(index, _)| *index);
        self.remember(members, version);
        Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect())
    }

    /// Notes the new holders of membership ids of a batch and the version of its customers, for the batches
    /// that the look-ahead has seen already.
    fn remember(&mut self, members: Vec<(Membership, CustomerId)>, version: i64) {
        self.version = version;
        self.recent.truncate(look_ahead::AHEAD - 1);
        self.recent.push_front(members.into_iter().collect());
    }
}

impl Executors {
    /// After a batch is committed: ends the generation if commands were refused by a map that has changed
    /// since, and notes the markers of moves.
    pub(crate) async fn conclude(
        &mut self,
        batch: &PlannedBatch,
        outcomes: &[DeliveryOutcome],
        routing: &LaneRouting,
    ) -> Result<(), GenerationError> {
        let is_in_wrong_lane = |outcome: &DeliveryOutcome| matches!(outcome, DeliveryOutcome::Rejected(rejection) if rejection.reason == Reason::WrongLane);
        if outcomes.iter().any(is_in_wrong_lane) {
            routing.check_version(&mut self.first.session).await?;
        }
        let markers: Vec<Uuid> =
            batch.deliveries.iter().filter_map(|delivery| delivery.marker).collect();
        if markers.is_empty() { Ok(()) } else { self.first.note_drained(&markers).await }
    }
}

/// An executor on a task of its own, so that evaluating takes as many cores as there are executors.
struct ExecutorTask {
    jobs: mpsc::Sender<(Job, oneshot::Sender<Outcome>)>,
    working: AbortOnDropHandle<()>,
}

/// Nothing: the sub-batch is to be processed when the others are done.
type Outcome = Result<Option<BatchOutcome>, GenerationError>;

/// A sub-batch to process.
struct Job {
    batch: Arc<PlannedBatch>,
    sub_batch: Arc<SubBatch>,
}

impl ExecutorTask {
    fn start(mut executor: Executor) -> Self {
        let (jobs, mut given) = mpsc::channel::<(Job, oneshot::Sender<_>)>(1);
        let working = tokio::spawn(async move {
            while let Some((Job { batch, sub_batch }, done)) = given.recv().await {
                let applied = process(&mut executor, &batch, &sub_batch).await;
                // Without a receiver the lane has given the batch up.
                if done.send(applied).is_err() {
                    return;
                }
            }
        });
        Self { jobs, working: AbortOnDropHandle::new(working) }
    }

    async fn process(&mut self, job: Job) -> Outcome {
        let (done, applied) = oneshot::channel();
        if self.jobs.send((job, done)).await.is_ok()
            && let Ok(applied) = applied.await
        {
            return applied;
        }
        let why = match (&mut self.working).await {
            Err(ended) => ended.to_string(),
            Ok(()) => "it ended early".into(),
        };
        Err(GenerationError::TaskStopped { task: "executor", why })
    }
}

async fn process(executor: &mut Executor, batch: &PlannedBatch, sub_batch: &SubBatch) -> Outcome {
    let deliveries: Vec<&Delivery> =
        sub_batch.indices.iter().map(|index| &batch.deliveries[*index]).collect();
    // Without a look-ahead nothing tells that sub-batches are free of each other.
    let Some(preloaded) = &sub_batch.preloaded else { return Ok(None) };
    executor.process_beside_others(&deliveries, preloaded).await
}
