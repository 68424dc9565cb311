//! Applies the commands that were parked behind a dead letter, once it is replayed or discarded.
//!
//! They are processed like every command, in their order, before anything that was delivered later. They
//! were acked when they were parked, so a command leaves the wait queue when its result is confirmed. After a
//! crash, those that are applied already are found in the inbox, and their results are published again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::config::memory::BATCH_BYTES_MAX;
use crate::domain::dead_letter::QueuePosition;
use crate::domain::holds;
use crate::store;
use crate::store::error::Error;
use crate::store::session::{self, Session};
use crate::wire::parked;
use crate::worker::lane::apply::DeliveryOutcome;
use crate::worker::lane::context::Lane;
use crate::worker::lane::error::GenerationError;
use crate::worker::lane::executor::Executor;
use crate::worker::lane::executors::Executors;
use crate::worker::lane::look_ahead::PlannedBatch;
use crate::worker::lane::publish::ProcessedBatch;
use crate::worker::lane::receive::{self, Delivery};
use crate::worker::lane::retry::RetryState;

/// A release that has waited for so long, in seconds, shows that no worker owns the lane: the next worker
/// that sees it acquires the lane.
const UNNOTICED_SECONDS: f64 = 5.0;

/// Longest look at an idle lane.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether dead letters of the lane were released and no worker has noticed. `false` while the database is
/// unavailable: the next look tells.
pub(crate) async fn wait_unnoticed(session: &mut Session, lane: &str) -> bool {
    let looking = async {
        let connection = session.connection().await?;
        store::parked::released(connection, lane, UNNOTICED_SECONDS).await
    };
    match session::bounded(LOOK_TIMEOUT, looking).await {
        Ok(released) => !released.is_empty(),
        Err(error) => {
            tracing::debug!(
                lane,
                "the search for released commands failed; it is retried: {error}"
            );
            session.discard();
            false
        }
    }
}

/// Applies the parked commands that nothing holds: all of them, in a lane that does not hold customers.
/// Unless `first`, the first time of a generation, it does nothing if no dead letter was released. It ends
/// early when the worker stops: the rest keeps its positions.
///
/// Each pass removes commands from the wait queue or notes that they still wait: so it ends, whatever the
/// wait queue holds.
pub(crate) async fn apply(
    lane: &Lane,
    executors: &mut Executors,
    processed_batches: &mpsc::Sender<ProcessedBatch>,
    first: bool,
) -> Result<(), GenerationError> {
    let name = &lane.name;
    let released = released(executors.first()).await?;
    if released.is_empty() && !first {
        return Ok(());
    }
    let mut applied = 0;
    // Those that were due and still had to wait, since a command last left the wait queue.
    let mut waiting: HashSet<i64> = HashSet::new();
    loop {
        if executors.first().shutdown.is_cancelled() {
            return Ok(());
        }
        let next = next(executors.first(), &waiting).await?;
        if next.is_empty() {
            break;
        }
        let batch = Arc::new(PlannedBatch::unseen(next));
        let outcomes = executors.process(&batch).await?;
        let is_waiting =
            outcomes.iter().map(|outcome| matches!(outcome, DeliveryOutcome::Parked(_)));
        let positions =
            batch.deliveries.iter().filter_map(|delivery| delivery.parked).zip(is_waiting);
        let (wait, done): (Vec<_>, Vec<_>) = positions.partition(|(_, is_waiting)| *is_waiting);
        let done: Vec<i64> = done.into_iter().map(|(position, _)| position).collect();
        let lane_epoch = executors.first().fence.epoch;
        publish(lane, &batch.deliveries, (outcomes, lane_epoch), processed_batches).await;
        if !done.is_empty() {
            applied += done.len();
            waiting.clear();
            remove(executors.first(), &done, &released).await?;
        }
        waiting.extend(wait.into_iter().map(|(position, _)| position));
    }
    if !released.is_empty() {
        remove(executors.first(), &[], &released).await?;
    }
    if applied > 0 {
        tracing::info!(lane = name, "{applied} parked commands were processed");
    }
    Ok(())
}

async fn released(executor: &mut Executor) -> Result<Vec<Uuid>, GenerationError> {
    let mut retry = RetryState::new();
    loop {
        let timeout = executor.session.timeout();
        let looking = async {
            let connection = executor.session.connection().await?;
            if !executor.holds.is_here() {
                store::holds::release_lane(connection, &executor.lane).await?;
            }
            store::parked::released(connection, &executor.lane, 0.0).await
        };
        let released = session::bounded(timeout, looking).await;
        if let Some(released) = executor.retry_transient(released, &mut retry).await? {
            return Ok(released);
        }
    }
}

/// The next parked commands to apply, without those that are known to wait: at most a batch of
/// them, in count and in bytes.
async fn next(
    executor: &mut Executor,
    waiting: &HashSet<i64>,
) -> Result<Vec<Delivery>, GenerationError> {
    let mut retry = RetryState::new();
    let parked = loop {
        let timeout = executor.session.timeout();
        let reading = async {
            let connection = executor.session.connection().await?;
            let wait_queue = store::parked::wait_queue(connection, &executor.lane).await?;
            let mut next = wait_queue.applied;
            next.extend(holds::free(&wait_queue.letters, &wait_queue.parked));
            next.retain(|position| !waiting.contains(position));
            next.truncate(executor.config.batch_size);
            store::parked::read(connection, &next, BATCH_BYTES_MAX).await
        };
        let parked = session::bounded(timeout, reading).await;
        if let Some(parked) = executor.retry_transient(parked, &mut retry).await? {
            break parked;
        }
    };
    let (mut next, mut bytes) = (Vec::new(), 0);
    for one in parked {
        if bytes >= BATCH_BYTES_MAX {
            break;
        }
        let message = parked::decode(&one.message, one.body).ok_or_else(|| {
            let position = one.sequence;
            Error::Outage(format!(
                "the parked command {position} can't be read back: was it written by a newer release?"
            ))
        })?;
        let publishers = &executor.config.publishers;
        let position = one.lane_epoch.zip(one.delivery_tag);
        let position = position.and_then(|(epoch, tag)| QueuePosition::new(epoch, tag));
        let position = (one.sequence, position);
        let delivery = receive::reload_parked(position, one.command_id, message, publishers);
        bytes += delivery.estimated_bytes();
        next.push(delivery);
    }
    Ok(next)
}

/// Returns when the results are confirmed.
async fn publish(
    lane: &Lane,
    deliveries: &[Delivery],
    (outcomes, lane_epoch): (Vec<DeliveryOutcome>, i64),
    processed_batches: &mpsc::Sender<ProcessedBatch>,
) {
    let (confirmed, confirm) = oneshot::channel();
    let processed = ProcessedBatch {
        outgoing: lane.message_builder.outgoing(deliveries, outcomes, lane_epoch),
        // They arrived long ago: how long they were parked depends on the operator who replays the dead letter.
        arrivals: Vec::new(),
        ack_through: None,
        confirmed: Some(confirmed),
    };
    let publishing =
        async { processed_batches.send(processed).await.is_ok() && confirm.await.is_ok() };
    if !lane.counters.health.turn_during(publishing).await {
        // The publisher has failed, and its own fault is the one to report.
        std::future::pending::<()>().await;
    }
}

/// Removes what was published from the wait queue; the released dead letters, too, when nothing is left.
async fn remove(
    executor: &mut Executor,
    published: &[i64],
    released: &[Uuid],
) -> Result<(), GenerationError> {
    let mut retry = RetryState::new();
    loop {
        let timeout = executor.session.timeout();
        let leaving = async {
            let connection = executor.session.connection().await?;
            if published.is_empty() {
                store::parked::forget(connection, &executor.fence, released).await
            } else {
                store::parked::remove(connection, &executor.fence, published, released).await
            }
        };
        let left = session::bounded(timeout, leaving).await;
        if executor.retry_transient(left, &mut retry).await?.is_some() {
            return Ok(());
        }
    }
}
