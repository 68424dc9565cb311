//! Gets a batch of commands applied whatever is in it: waits out outages, repeats conflicts, and finds
//! the one command that fails by itself.
//!
//! Order holds throughout: a sub-batch is not begun before the sub-batches ahead of it are done. Only
//! failures that are a command's own count against it (`domain::attempt`): such a command runs alone
//! in the process, and the canary follows. After `attempts_limit` of them it is a dead letter.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use uuid::Uuid;

use crate::domain::attempt::{self, Company, Consequence};
use crate::domain::rejection::{Reason, Rejection};
use crate::retry::Backoff;
use crate::store::attempts::Attempts;
use crate::store::error::Error;
use crate::worker::counters::Counters;
use crate::worker::hold::admit::Holds;
use crate::worker::lane::apply::{self, BatchError, BatchOutcome, DeliveryOutcome};
use crate::worker::lane::attempts;
use crate::worker::lane::canary;
use crate::worker::lane::dead_letter;
use crate::worker::lane::error::GenerationError;
use crate::worker::lane::executor::Executor;
use crate::worker::lane::facts::{Facts, Preloaded};
use crate::worker::lane::receive::Delivery;
use crate::worker::lane::retry::{PAUSE, RetryState};
use crate::worker::lane::split::split;

/// How often a sub-batch is repeated at once after a conflict, before it is split.
const CONFLICTS_MAX: u32 = 5;

/// How a try at a sub-batch ended, other than by a fault of the generation.
enum Attempt {
    Applied(BatchOutcome),
    /// The commands are to be tried in smaller sub-batches, or the only one alone.
    Failed(String),
}

/// By which facts commands are tried beside other executors, and how often a conflict is repeated.
#[derive(Clone, Copy)]
struct Tries<'a> {
    first: Facts<'a>,
    retry: Facts<'a>,
    conflicts_max: u32,
}

impl Executor {
    /// Processes every delivery of a batch, or what is left of one, in order. `facts` are for the
    /// first try; `known` are the failures of its commands so far.
    pub(crate) async fn process(
        &mut self,
        deliveries: &[&Delivery],
        mut facts: Facts<'_>,
        known: &HashMap<Uuid, Attempts>,
    ) -> Result<BatchOutcome, GenerationError> {
        let of = |deliveries: &Delivery| {
            known.get(&dead_letter::attempt_id(deliveries)).cloned().unwrap_or_default()
        };
        let deaths = |deliveries: &&Delivery| {
            if known.is_empty() { 0 } else { of(deliveries).deaths_for_split() }
        };
        let deaths: Vec<u32> = deliveries.iter().map(deaths).collect();
        let mut done =
            BatchOutcome { outcomes: Vec::with_capacity(deliveries.len()), members: Vec::new() };
        let mut pending = split(&deaths, self.config.batch_size);
        while let Some(sub_batch) = pending.pop() {
            let is_suspect = sub_batch.len() == 1 && deaths[sub_batch.start] > 0;
            if is_suspect {
                let suspect = deliveries[sub_batch.start];
                done.add(self.process_alone(suspect, of(suspect), None, facts.of_retry()).await?);
                continue;
            }
            // What was preloaded may be why it fails, and is of the whole only.
            let retry = facts.of_retry();
            let first = std::mem::replace(&mut facts, retry);
            let first = if sub_batch.len() == deliveries.len() { first } else { retry };
            match self
                .try_shared(
                    &deliveries[sub_batch.clone()],
                    Tries { first, retry, conflicts_max: CONFLICTS_MAX },
                )
                .await?
            {
                Attempt::Applied(applied) => done.add(applied),
                Attempt::Failed(why) if sub_batch.len() == 1 => {
                    let suspect = deliveries[sub_batch.start];
                    done.add(self.process_alone(suspect, of(suspect), Some(why), retry).await?);
                }
                Attempt::Failed(why) => {
                    tracing::warn!(
                        lane = self.lane,
                        commands = sub_batch.len(),
                        "a batch of {} commands failed; lane `{}` tries its halves: {why}",
                        sub_batch.len(),
                        self.lane,
                    );
                    let middle = sub_batch.start + sub_batch.len() / 2;
                    pending.push(middle..sub_batch.end);
                    pending.push(sub_batch.start..middle);
                }
            }
        }
        Ok(done)
    }

    /// Processes a sub-batch while others of the same batch are under way, by the facts that told them
    /// apart. Nothing: it is not committed, and for that may have to wait for the others.
    pub(crate) async fn process_beside_others(
        &mut self,
        deliveries: &[&Delivery],
        preloaded: &Preloaded,
    ) -> Result<Option<BatchOutcome>, GenerationError> {
        let facts = Facts::Preloaded(preloaded);
        // An outage changes nothing of what was loaded before it.
        let tries = Tries { first: facts, retry: facts, conflicts_max: 0 };
        match self.try_shared(deliveries, tries).await? {
            Attempt::Applied(applied) => Ok(Some(applied)),
            Attempt::Failed(why) => {
                Counters::add(&self.counters.repeated_batches, 1);
                tracing::debug!(
                    lane = self.lane,
                    commands = deliveries.len(),
                    "a sub-batch of {} commands was not committed; lane `{}` processes them when the other sub-batches are done: {why}",
                    deliveries.len(),
                    self.lane,
                );
                Ok(None)
            }
        }
    }

    /// Tries one command alone in the process until it takes effect or its failures are its own often
    /// enough. `why` is how it failed beside others.
    async fn process_alone(
        &mut self,
        delivery: &Delivery,
        mut known: Attempts,
        why: Option<String>,
        facts: Facts<'_>,
    ) -> Result<BatchOutcome, GenerationError> {
        let id = dead_letter::attempt_id(delivery);
        let limit = self.config.attempts_limit.unsigned_abs();
        if let Some(why) = why {
            tracing::warn!(lane = self.lane, delivery.id = %id, "a command failed beside others; lane `{}` tries it alone: {why}", self.lane);
            known.last_error = Some(why);
        }
        let permits = Arc::clone(&self.permits);
        let mut waiting = RetryState::new();
        let mut pause = Backoff::new(PAUSE.0, PAUSE.1);
        let mut persists_since: Option<Instant> = None;
        while known.counted < limit {
            self.counters.health.turn();
            let permit = tokio::select! {
                permit = permits.alone() => permit,
                () = self.shutdown.cancelled() => return Err(self.stopping()),
            };
            let begun = self.begin_attempt(&[id], Company::Alone).await;
            if self.retry_transient(begun, &mut waiting).await?.is_none() {
                persists_since = None;
                continue;
            }
            let failure = match self.apply(&[delivery], facts, &[id]).await {
                Ok(applied) => {
                    Counters::add(&self.counters.steps, 1);
                    return Ok(applied);
                }
                Err(BatchError::Store(error @ Error::Fenced { .. })) => return Err(error.into()),
                Err(failure) => failure,
            };
            let why = failure.to_string();
            let failure = failure.kind();
            let canary = if failure.wants_canary(Company::Alone) {
                self.run_canary().await
            } else {
                attempt::Canary::Failed
            };
            persists_since = match canary {
                attempt::Canary::Passed => persists_since.or(Some(Instant::now())),
                attempt::Canary::Failed => None,
            };
            let persists =
                persists_since.is_some_and(|since| since.elapsed() > self.outage_grace());
            let consequence = failure.consequence(Company::Alone, canary, persists);
            let counts = consequence == Consequence::Count;
            let ended = self.end_attempt(id, counts, &why).await;
            drop(permit);
            if let Some(counted) = self.retry_transient(ended, &mut waiting).await? {
                known = Attempts { counted, last_error: Some(why.clone()), ..known };
            }
            if canary == attempt::Canary::Failed {
                Counters::add(&self.counters.repeated_batches, 1);
                self.hold(&mut waiting, Error::Outage(why)).await?;
                continue;
            }
            waiting = RetryState::new();
            tracing::warn!(
                lane = self.lane,
                delivery.id = %id,
                attempts = known.counted,
                "a command failed alone while the canary passed; {} of {limit} attempts count: {why}",
                known.counted,
            );
            if known.counted < limit {
                self.pause(&mut pause).await?;
            }
        }
        let why = known.last_error.unwrap_or_else(|| "the worker died while it ran alone".into());
        // Not how many they were: after a crash the same words are said again.
        let given_up = self.give_up(delivery, limit, &why).await?;
        Ok(BatchOutcome { outcomes: vec![given_up], members: Vec::new() })
    }

    /// Where dead letters hold their customers, this one does before anything later is tried.
    async fn give_up(
        &mut self,
        delivery: &Delivery,
        tries: u32,
        why: &str,
    ) -> Result<DeliveryOutcome, GenerationError> {
        if self.holds.is_here() {
            self.hold_customers(delivery).await?;
        }
        let detail = format!("given up after {tries} tries: {why}");
        let rejection = Rejection { reason: Reason::ProcessingFailed, detail };
        Ok(DeliveryOutcome::GivenUp { rejection, tries })
    }

    /// Tries commands beside other executors until they take effect or are to be tried in smaller
    /// sub-batches: waits out outages, repeats conflicts.
    async fn try_shared(
        &mut self,
        deliveries: &[&Delivery],
        by: Tries<'_>,
    ) -> Result<Attempt, GenerationError> {
        let mut facts = by.first;
        let redelivered = attempts::redelivered(deliveries);
        let permits = Arc::clone(&self.permits);
        let mut waiting = RetryState::new();
        let mut conflicts = 0;
        loop {
            self.counters.health.turn();
            let permit = tokio::select! {
                // What has begun when a shutdown comes is finished.
                biased;
                permit = permits.shared() => permit,
                () = self.shutdown.cancelled() => return Err(self.stopping()),
            };
            if !redelivered.is_empty() {
                let begun = self.begin_attempt(&redelivered, Company::Shared).await;
                if self.retry_transient(begun, &mut waiting).await?.is_none() {
                    continue;
                }
            }
            let tried = self.apply(deliveries, facts, &redelivered).await;
            facts = by.retry;
            drop(permit);
            let failure = match tried {
                Ok(applied) => {
                    Counters::add(&self.counters.steps, 1);
                    return Ok(Attempt::Applied(applied));
                }
                Err(failure) => failure,
            };
            match failure {
                BatchError::Store(error @ Error::Fenced { .. }) => return Err(error.into()),
                BatchError::Store(Error::Conflict(why)) if conflicts < by.conflicts_max => {
                    Counters::add(&self.counters.repeated_batches, 1);
                    conflicts += 1;
                    tracing::debug!(
                        lane = self.lane,
                        "a conflict; the commands are tried again: {why}"
                    );
                }
                BatchError::Store(Error::Conflict(why))
                    if deliveries.len() > 1 || by.conflicts_max == 0 =>
                {
                    return Ok(Attempt::Failed(why));
                }
                BatchError::Store(
                    Error::Conflict(_) | Error::Outage(_) | Error::Statement(_) | Error::Refused(_),
                )
                | BatchError::Panicked(_) => {
                    let (kind, why) = (failure.kind(), failure.to_string());
                    let canary = if kind.wants_canary(Company::Shared) {
                        self.run_canary().await
                    } else {
                        attempt::Canary::Failed
                    };
                    match kind.consequence(Company::Shared, canary, false) {
                        Consequence::Split | Consequence::Count => {
                            return Ok(Attempt::Failed(why));
                        }
                        Consequence::Wait => {
                            Counters::add(&self.counters.repeated_batches, 1);
                            self.hold(&mut waiting, Error::Outage(why)).await?;
                        }
                    }
                }
            }
        }
    }

    /// One transaction, if it works. A session on which it did not end well is replaced.
    async fn apply(
        &mut self,
        deliveries: &[&Delivery],
        facts: Facts<'_>,
        attempts: &[Uuid],
    ) -> Result<BatchOutcome, BatchError> {
        let publishers = &self.config.publishers;
        let extras = apply::Extras { attempts, holds: self.holds, publishers };
        let timeout = self.session.timeout();
        let applying =
            apply::apply(&mut self.session, &self.fence, &self.clock, deliveries, facts, extras);
        let applied =
            AssertUnwindSafe(tokio::time::timeout(timeout, applying)).catch_unwind().await;
        let applied = match applied {
            Ok(Ok(applied)) => applied,
            Ok(Err(_elapsed)) => Err(Error::timeout("the database", timeout).into()),
            Err(panic) => Err(BatchError::Panicked(apply::panic_message(panic.as_ref()))),
        };
        match &applied {
            Err(
                BatchError::Store(Error::Outage(_) | Error::Statement(_)) | BatchError::Panicked(_),
            ) => {
                self.session.discard();
            }
            Ok(_)
            | Err(BatchError::Store(
                Error::Conflict(_) | Error::Refused(_) | Error::Fenced { .. },
            )) => {}
        }
        applied
    }

    async fn run_canary(&mut self) -> attempt::Canary {
        let (worker, now) = (&self.config.worker_id, self.clock.now());
        let holds = self.holds != Holds::Nowhere;
        match canary::run(&mut self.session, &self.fence, worker, holds, now).await {
            Ok(()) => attempt::Canary::Passed,
            Err(error) => {
                tracing::warn!(
                    lane = self.lane,
                    "the canary failed, so no command of lane `{}` is to blame: {error}",
                    self.lane
                );
                attempt::Canary::Failed
            }
        }
    }
}
