//! The loop of a lane: waits for the first delivery, acquires the lane, and processes batch after
//! batch.
//!
//! It is the only place where an order of steps matters for safety: commit, then confirm, then ack.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::broker::consumer::Acknowledger;
use crate::store::fence::Owner;
use crate::store::session::Session;
use crate::worker::health::State;
use crate::worker::hold::unpark;
use crate::worker::lane::acquire;
use crate::worker::lane::context::Lane;
use crate::worker::lane::error::GenerationError;
use crate::worker::lane::executor::Executor;
use crate::worker::lane::executors::Executors;
use crate::worker::lane::look_ahead::PlannedBatch;
use crate::worker::lane::publish::ProcessedBatch;
use crate::worker::lane::routing::LaneRouting;

/// How often a busy lane says in the log what it has done.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);
/// How often an idle lane shows that its loop turns.
const TURN_INTERVAL: Duration = Duration::from_secs(1);

/// The batches of a generation, as the look-ahead gives them.
pub(crate) struct IncomingBatches {
    pub(crate) batches: mpsc::Receiver<PlannedBatch>,
    /// Tells the look-ahead that a batch would be processed at once.
    pub(crate) wanted: Arc<Notify>,
    pub(crate) stop: CancellationToken,
}

/// What a lane does next.
enum Arrival {
    Batch(PlannedBatch),
    /// Nothing came within [`TURN_INTERVAL`].
    Idle,
}

impl IncomingBatches {
    /// Waits for the next batch; nothing when the lane stops. If the receiver has ended, its own error
    /// is the one to report.
    async fn next(&mut self) -> Option<Arrival> {
        if self.batches.is_empty() {
            self.wanted.notify_one();
        }
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            batch = self.batches.recv() => batch.map(Arrival::Batch),
            () = tokio::time::sleep(TURN_INTERVAL) => Some(Arrival::Idle),
        }
    }
}

impl Lane {
    /// Processes batches until the generation stops or no more of them come.
    pub(crate) async fn process_batches(
        &self,
        mut session: Session,
        (routing, channel): (&LaneRouting, &Acknowledger),
        mut incoming: IncomingBatches,
        processed_batches: mpsc::Sender<ProcessedBatch>,
    ) -> Result<(), GenerationError> {
        let Some(mut arrival) = self.stand_by(&mut session, &mut incoming).await else {
            return Ok(());
        };
        let acquiring = Box::pin(self.acquire(session, routing, channel, &incoming.stop));
        let mut executors = self.counters.health.turn_during(acquiring).await?;
        self.counters.health.enter(State::Active);
        unpark::apply(self, &mut executors, &processed_batches, true).await?;
        let mut reported = Instant::now();
        // Parked commands that are still due come before the batch.
        while !incoming.stop.is_cancelled() {
            if let Arrival::Batch(batch) = arrival {
                self.process(batch, &mut executors, routing, &processed_batches).await?;
                self.report_if_due(&mut reported);
            }
            let Some(next) = incoming.next().await else { break };
            arrival = next;
            self.counters.health.turn();
            if self.holds().is_here() {
                unpark::apply(self, &mut executors, &processed_batches, false).await?;
            }
        }
        Ok(())
    }

    /// Waits until there is a reason to acquire the lane: a batch, or released commands that no worker
    /// has noticed. Nothing when the lane stops before.
    async fn stand_by(
        &self,
        session: &mut Session,
        incoming: &mut IncomingBatches,
    ) -> Option<Arrival> {
        loop {
            let arrival = incoming.next().await?;
            self.counters.health.turn();
            let is_needed = match arrival {
                Arrival::Batch(_) => true,
                Arrival::Idle => {
                    self.holds().is_here() && unpark::wait_unnoticed(session, &self.name).await
                }
            };
            if is_needed {
                return Some(arrival);
            }
        }
    }

    /// Commits a batch, and hands its messages over to be published and acked.
    async fn process(
        &self,
        batch: PlannedBatch,
        executors: &mut Executors,
        routing: &LaneRouting,
        processed_batches: &mpsc::Sender<ProcessedBatch>,
    ) -> Result<(), GenerationError> {
        let batch = Arc::new(batch);
        let ack_through = batch.deliveries.last().map(|last| last.tag);
        let outcomes = executors.process(&batch).await?;
        let lane_epoch = executors.first().fence.epoch;
        executors.conclude(&batch, &outcomes, routing).await?;
        let outgoing = self.message_builder.outgoing(&batch.deliveries, outcomes, lane_epoch);
        let arrivals = batch.deliveries.iter().map(|delivery| delivery.arrived_at).collect();
        let processed = ProcessedBatch { outgoing, arrivals, ack_through, confirmed: None };
        if self.counters.health.turn_during(processed_batches.send(processed)).await.is_err() {
            // The publisher has failed, and its own error is the one to report.
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    fn report_if_due(&self, reported: &mut Instant) {
        if reported.elapsed() > REPORT_INTERVAL {
            *reported = Instant::now();
            self.report("lane working");
        }
    }

    /// Acquires the lane and starts its executors. Only a worker that has got a delivery, or has found
    /// unnoticed releases, may do this.
    async fn acquire(
        &self,
        mut session: Session,
        routing: &LaneRouting,
        channel: &Acknowledger,
        stop: &CancellationToken,
    ) -> Result<Executors, GenerationError> {
        let grace = Duration::from_millis(self.config.outage_grace_ms);
        let owner = Owner { worker: &self.config.worker_id, process: Some(self.permits.process) };
        let fence = acquire::acquire(&mut session, &self.name, owner, channel, grace, stop).await?;
        routing.check_version(&mut session).await?;
        let others: Vec<Session> =
            (1..self.config.connections_per_lane).map(|_| session.another()).collect();
        let executor = |session| Executor {
            lane: self.name.clone(),
            config: Arc::clone(&self.config),
            clock: self.clock.clone(),
            counters: Arc::clone(&self.counters),
            permits: Arc::clone(&self.permits),
            session,
            fence: fence.clone(),
            shutdown: stop.clone(),
            holds: self.holds(),
        };
        Ok(Executors::of(executor(session), others.into_iter().map(executor).collect()))
    }
}
