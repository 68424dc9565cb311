//! Gets a batch of commands applied whatever is in it: waits out outages, repeats conflicts, and finds
//! the one command that fails by itself.
//!
//! Order holds throughout: a part of a batch is not begun before the parts ahead of it are done. Only
//! failures that are a command's own count against it (`domain::attempt`): such a command runs alone
//! in the process, and the canary follows. After `attempts_limit` of them it is a dead letter.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock::Clock;
use crate::config::Config;
use crate::domain::attempt::{self, Company, Consequence};
use crate::domain::rejection::{Reason, Rejection};
use crate::retry::Backoff;
use crate::store::attempts::Attempts;
use crate::store::error::Error;
use crate::store::fence::Fence;
use crate::store::session::Session;
use crate::worker::counters::Counters;
use crate::worker::facts::{Facts, Preloaded};
use crate::worker::fault::Fault;
use crate::worker::holding::Holds;
use crate::worker::intake::Taken;
use crate::worker::outage::{PAUSE, Patience};
use crate::worker::permit::Permits;
use crate::worker::split::split;
use crate::worker::window::{self, Applied, Failure, Settled};
use crate::worker::{attempts, canary, dead_letter};

/// How often a part of a batch is repeated at once after a conflict, before it is split.
const CONFLICTS_MAX: u32 = 5;

/// Applies parts of a lane's batches over a connection of its own, for one channel generation.
pub(super) struct Executor {
    pub(super) lane: String,
    pub(super) config: Arc<Config>,
    pub(super) clock: Clock,
    pub(super) counters: Arc<Counters>,
    pub(super) permits: Arc<Permits>,
    pub(super) session: Session,
    pub(super) fence: Fence,
    pub(super) shutdown: CancellationToken,
    /// Where dead letters hold their customers.
    pub(super) holds: Holds,
}

/// How a try at a part of a batch ended, other than by a fault of the generation.
enum Attempt {
    Applied(Applied),
    /// The commands are to be tried in smaller parts, or the only one alone.
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
    pub(super) async fn process(
        &mut self,
        taken: &[&Taken],
        mut facts: Facts<'_>,
        known: &HashMap<Uuid, Attempts>,
    ) -> Result<Applied, Fault> {
        let of =
            |taken: &Taken| known.get(&dead_letter::attempt_id(taken)).cloned().unwrap_or_default();
        let deaths =
            |taken: &&Taken| if known.is_empty() { 0 } else { of(taken).deaths_for_split() };
        let deaths: Vec<u32> = taken.iter().map(deaths).collect();
        let mut done = Applied { settled: Vec::with_capacity(taken.len()), holders: Vec::new() };
        let mut pending = split(&deaths, self.config.window);
        while let Some(part) = pending.pop() {
            let is_suspect = part.len() == 1 && deaths[part.start] > 0;
            if is_suspect {
                let suspect = taken[part.start];
                done.add(self.process_alone(suspect, of(suspect), None, facts.of_retry()).await?);
                continue;
            }
            // What was preloaded may be why it fails, and is of the whole only.
            let retry = facts.of_retry();
            let first = std::mem::replace(&mut facts, retry);
            let first = if part.len() == taken.len() { first } else { retry };
            match self
                .try_shared(
                    &taken[part.clone()],
                    Tries { first, retry, conflicts_max: CONFLICTS_MAX },
                )
                .await?
            {
                Attempt::Applied(applied) => done.add(applied),
                Attempt::Failed(why) if part.len() == 1 => {
                    let suspect = taken[part.start];
                    done.add(self.process_alone(suspect, of(suspect), Some(why), retry).await?);
                }
                Attempt::Failed(why) => {
                    tracing::warn!(
                        lane = self.lane,
                        commands = part.len(),
                        "a batch of {} commands failed; lane `{}` tries its halves: {why}",
                        part.len(),
                        self.lane,
                    );
                    let middle = part.start + part.len() / 2;
                    pending.push(middle..part.end);
                    pending.push(part.start..middle);
                }
            }
        }
        Ok(done)
    }

    /// Processes a sub-batch while others of the same batch are under way, by the facts that told them
    /// apart. Nothing: it is not committed, and for that may have to wait for the others.
    pub(super) async fn process_beside_others(
        &mut self,
        taken: &[&Taken],
        preloaded: &Preloaded,
    ) -> Result<Option<Applied>, Fault> {
        let facts = Facts::Preloaded(preloaded);
        // An outage changes nothing of what was loaded before it.
        let tries = Tries { first: facts, retry: facts, conflicts_max: 0 };
        match self.try_shared(taken, tries).await? {
            Attempt::Applied(applied) => Ok(Some(applied)),
            Attempt::Failed(why) => {
                Counters::add(&self.counters.repeated_windows, 1);
                tracing::debug!(
                    lane = self.lane,
                    commands = taken.len(),
                    "a sub-batch of {} commands was not committed; lane `{}` processes them when the other sub-batches are done: {why}",
                    taken.len(),
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
        taken: &Taken,
        mut known: Attempts,
        why: Option<String>,
        facts: Facts<'_>,
    ) -> Result<Applied, Fault> {
        let id = dead_letter::attempt_id(taken);
        let limit = self.config.attempts_limit.unsigned_abs();
        if let Some(why) = why {
            tracing::warn!(lane = self.lane, delivery.id = %id, "a command failed beside others; lane `{}` tries it alone: {why}", self.lane);
            known.last_error = Some(why);
        }
        let permits = Arc::clone(&self.permits);
        let mut waiting = Patience::new();
        let mut pause = Backoff::new(PAUSE.0, PAUSE.1);
        let mut persists_since: Option<Instant> = None;
        while known.counted < limit {
            self.counters.health.turn();
            let permit = tokio::select! {
                permit = permits.alone() => permit,
                () = self.shutdown.cancelled() => return Err(self.stopping()),
            };
            let begun = self.begin_attempt(&[id], Company::Alone).await;
            if self.outlast(begun, &mut waiting).await?.is_none() {
                persists_since = None;
                continue;
            }
            let failure = match self.apply(&[taken], facts, &[id]).await {
                Ok(applied) => {
                    Counters::add(&self.counters.steps, 1);
                    return Ok(applied);
                }
                Err(Failure::Store(error @ Error::Fenced { .. })) => return Err(error.into()),
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
            if let Some(counted) = self.outlast(ended, &mut waiting).await? {
                known = Attempts { counted, last_error: Some(why.clone()), ..known };
            }
            if canary == attempt::Canary::Failed {
                Counters::add(&self.counters.repeated_windows, 1);
                self.hold(&mut waiting, Error::Outage(why)).await?;
                continue;
            }
            waiting = Patience::new();
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
        let given_up = self.give_up(taken, limit, &why).await?;
        Ok(Applied { settled: vec![given_up], holders: Vec::new() })
    }

    /// Where letters hold their customers, this one does before anything later is tried.
    async fn give_up(&mut self, taken: &Taken, tries: u32, why: &str) -> Result<Settled, Fault> {
        if self.holds.is_here() {
            self.hold_customers(taken).await?;
        }
        let detail = format!("given up after {tries} tries: {why}");
        let rejection = Rejection { reason: Reason::ProcessingFailed, detail };
        Ok(Settled::GivenUp { rejection, tries })
    }

    /// Tries commands beside other executors until they take effect or are to be tried in smaller
    /// parts: waits out outages, repeats conflicts.
    async fn try_shared(&mut self, taken: &[&Taken], by: Tries<'_>) -> Result<Attempt, Fault> {
        let mut facts = by.first;
        let redelivered = attempts::redelivered(taken);
        let permits = Arc::clone(&self.permits);
        let mut waiting = Patience::new();
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
                if self.outlast(begun, &mut waiting).await?.is_none() {
                    continue;
                }
            }
            let tried = self.apply(taken, facts, &redelivered).await;
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
                Failure::Store(error @ Error::Fenced { .. }) => return Err(error.into()),
                Failure::Store(Error::Conflict(why)) if conflicts < by.conflicts_max => {
                    Counters::add(&self.counters.repeated_windows, 1);
                    conflicts += 1;
                    tracing::debug!(
                        lane = self.lane,
                        "a conflict; the commands are tried again: {why}"
                    );
                }
                Failure::Store(Error::Conflict(why))
                    if taken.len() > 1 || by.conflicts_max == 0 =>
                {
                    return Ok(Attempt::Failed(why));
                }
                Failure::Store(
                    Error::Conflict(_) | Error::Outage(_) | Error::Statement(_) | Error::Refused(_),
                )
                | Failure::Panicked(_) => {
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
                            Counters::add(&self.counters.repeated_windows, 1);
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
        taken: &[&Taken],
        facts: Facts<'_>,
        attempts: &[Uuid],
    ) -> Result<Applied, Failure> {
        let publishers = &self.config.publishers;
        let extras = window::Extras { attempts, holds: self.holds, publishers };
        let timeout = self.session.timeout();
        let applying =
            window::apply(&mut self.session, &self.fence, &self.clock, taken, facts, extras);
        let applied =
            AssertUnwindSafe(tokio::time::timeout(timeout, applying)).catch_unwind().await;
        let applied = match applied {
            Ok(Ok(applied)) => applied,
            Ok(Err(_elapsed)) => Err(Error::timeout("the database", timeout).into()),
            Err(panic) => Err(Failure::Panicked(window::panic_message(panic.as_ref()))),
        };
        match &applied {
            Err(Failure::Store(Error::Outage(_) | Error::Statement(_)) | Failure::Panicked(_)) => {
                self.session.discard();
            }
            Ok(_)
            | Err(Failure::Store(Error::Conflict(_) | Error::Refused(_) | Error::Fenced { .. })) => {
            }
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
