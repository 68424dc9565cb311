//! Gets a window applied whatever is in it: waits out outages, repeats conflicts, and closes in
//! on the one command that breaks it.
//!
//! Order holds throughout: a part of a window is not begun before the parts ahead of it are
//! done. A command that alone keeps failing gets `attempts_limit` tries, counted in the
//! database so that they survive a crash of the process, and is then dead-lettered.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock::Clock;
use crate::config::Config;
use crate::domain::rejection::{Reason, Rejection};
use crate::retry::Backoff;
use crate::store;
use crate::store::error::Error;
use crate::store::fence::Fence;
use crate::store::session::{self, Session};
use crate::worker::counters::Counters;
use crate::worker::dead_letter;
use crate::worker::fault::Fault;
use crate::worker::holding;
use crate::worker::intake::Taken;
use crate::worker::scout::Acquaintances;
use crate::worker::window::{self, Applied, Failure, Settled};

/// How often a part of a window is repeated at once after a conflict, before it is split.
const CONFLICTS_MAX: u32 = 5;
/// The first and the longest pause between tries while the database is away.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// Each counted attempt makes the windows around a command smaller by this power of two.
const SHRINK_BITS: u32 = 3;

/// A lane's hands on the database, for one channel generation.
pub(super) struct Isolation {
    pub(super) lane: String,
    pub(super) config: Arc<Config>,
    pub(super) clock: Clock,
    pub(super) counters: Arc<Counters>,
    pub(super) session: Session,
    pub(super) fence: Fence,
    pub(super) shutdown: CancellationToken,
    /// Where dead letters hold their customers: how many commands may be parked behind them.
    pub(super) parked_max: Option<usize>,
}

/// How a try at a part of a window ended, other than by a fault.
enum Tried {
    Applied(Applied),
    /// It will not go like this: split it, or count an attempt.
    Failed(String),
}

impl Isolation {
    /// Settles every delivery of a window or of a part of it, in order. `known` is what is known
    /// of its customers already; `attempts` is how often one of them was tried, at most.
    pub(super) async fn settle(
        &mut self,
        taken: &[&Taken],
        mut known: Option<&Acquaintances>,
        attempts: u32,
    ) -> Result<Applied, Fault> {
        let window = self.config.window;
        let limit = self.config.attempts_limit.unsigned_abs().max(attempts_until_alone(window));
        let mut done = Applied { settled: Vec::with_capacity(taken.len()), holders: Vec::new() };
        let mut pending = parts(taken.len(), part_size(window, attempts));
        while let Some(part) = pending.pop() {
            let counted = self.count_attempts(&taken[part.clone()]).await?;
            if part.len() == 1 && counted.values().any(|count| count.unsigned_abs() > limit) {
                let why = "it was under way each time the worker stopped";
                done.settled.push(self.give_up(taken[part.start], limit, why).await?);
                continue;
            }
            // What was known may be why it fails, and is of the whole only.
            let known = known.take().filter(|_| part.len() == taken.len());
            match self.try_part(&taken[part.clone()], known, &counted).await? {
                Tried::Applied(applied) => done.add(applied),
                Tried::Failed(why) if part.len() == 1 => {
                    done.add(self.try_alone(taken[part.start], counted, why).await?);
                }
                Tried::Failed(why) => {
                    tracing::warn!(
                        lane = self.lane,
                        commands = part.len(),
                        "splitting a window that failed: {why}"
                    );
                    let middle = part.start + part.len() / 2;
                    pending.push(middle..part.end);
                    pending.push(part.start..middle);
                }
            }
        }
        Ok(done)
    }

    /// A command that failed by itself: its tries are counted, then it is given up. `counted` has
    /// the one that failed, if it was counted before it was made.
    async fn try_alone(
        &mut self,
        taken: &Taken,
        mut counted: HashMap<Uuid, i32>,
        mut why: String,
    ) -> Result<Applied, Fault> {
        let id = dead_letter::id(taken);
        let limit = self.config.attempts_limit.unsigned_abs();
        let mut pause = Backoff::new(PAUSE.0, PAUSE.1);
        if counted.is_empty() {
            counted = self.counts(&[id], Counting::AddOne).await?;
        }
        loop {
            let tries = counted.get(&id).copied().unwrap_or_default().unsigned_abs();
            if tries >= limit {
                // Not how many they were: after a crash it is said again, in the same words.
                let given_up = self.give_up(taken, limit, &why).await?;
                return Ok(Applied { settled: vec![given_up], holders: Vec::new() });
            }
            tracing::warn!(lane = self.lane, delivery.id = %id, "a command failed alone and is tried again: {why}");
            self.pause(&mut pause).await?;
            match self.try_part(&[taken], None, &counted).await? {
                Tried::Applied(applied) => return Ok(applied),
                Tried::Failed(again) => why = again,
            }
            counted = self.counts(&[id], Counting::AddOne).await?;
        }
    }

    /// Where letters hold their customers, this one does before anything later is tried.
    async fn give_up(&mut self, taken: &Taken, tries: u32, why: &str) -> Result<Settled, Fault> {
        if self.parked_max.is_some() {
            self.hold_customers(taken).await?;
        }
        let detail = format!("given up after {tries} tries: {why}");
        let rejection = Rejection { reason: Reason::ProcessingFailed, detail };
        Ok(Settled::GivenUp { rejection, tries })
    }

    async fn hold_customers(&mut self, taken: &Taken) -> Result<(), Fault> {
        let mut patience = Patience::new();
        loop {
            let timeout = self.session.timeout();
            let holding = holding::hold(&mut self.session, &self.fence, taken);
            let held = session::bounded(timeout, holding).await;
            if self.outlast(held, &mut patience).await?.is_some() {
                return Ok(());
            }
        }
    }

    /// Tries until the database has given a word on it: outages are waited out, conflicts
    /// repeated.
    async fn try_part(
        &mut self,
        taken: &[&Taken],
        mut known: Option<&Acquaintances>,
        counted: &HashMap<Uuid, i32>,
    ) -> Result<Tried, Fault> {
        let attempts: Vec<Uuid> = counted.keys().copied().collect();
        let held_since = Instant::now();
        let mut pause = Backoff::new(PAUSE.0, PAUSE.1);
        let mut conflicts = 0;
        loop {
            match self.apply(taken, known.take(), &attempts).await {
                Ok(applied) => {
                    Counters::add(&self.counters.steps, 1);
                    return Ok(Tried::Applied(applied));
                }
                Err(Failure::Store(error @ Error::Fenced { .. })) => return Err(error.into()),
                Err(Failure::Store(Error::Conflict(why))) => {
                    Counters::add(&self.counters.repeated_windows, 1);
                    conflicts += 1;
                    if conflicts > CONFLICTS_MAX && taken.len() > 1 {
                        return Ok(Tried::Failed(why));
                    }
                    if conflicts > CONFLICTS_MAX {
                        self.hold(held_since, Error::Conflict(why), &mut pause).await?;
                    }
                }
                Err(Failure::Store(error @ Error::Outage(_))) => {
                    Counters::add(&self.counters.repeated_windows, 1);
                    self.hold(held_since, error, &mut pause).await?;
                }
                Err(Failure::Store(Error::Refused(why)) | Failure::Panicked(why)) => {
                    return Ok(Tried::Failed(why));
                }
            }
        }
    }

    async fn apply(
        &mut self,
        taken: &[&Taken],
        known: Option<&Acquaintances>,
        attempts: &[Uuid],
    ) -> Result<Applied, Failure> {
        let window = window::Extras { attempts, parked_max: self.parked_max };
        let applied = session::bounded(self.session.timeout(), async {
            let applying =
                window::apply(&mut self.session, &self.fence, &self.clock, taken, known, window);
            match applying.await {
                Err(Failure::Store(error)) => Err(error),
                Err(Failure::Panicked(why)) => Ok(Err(Failure::Panicked(why))),
                Ok(applied) => Ok(Ok(applied)),
            }
        })
        .await;
        match applied {
            Ok(applied) => applied,
            Err(error) => {
                if matches!(error, Error::Outage(_)) {
                    self.session.discard();
                }
                Err(error.into())
            }
        }
    }

    /// Pauses before the next try, unless the window was held so long that the broker's ack
    /// timeout could strike: then the channel is closed and the database waited for without it.
    async fn hold(
        &mut self,
        since: Instant,
        error: Error,
        pause: &mut Backoff,
    ) -> Result<(), Fault> {
        if since.elapsed() > Duration::from_millis(self.config.hold_ms) {
            return Err(error.into());
        }
        tracing::warn!(lane = self.lane, "the window waits and is tried again: {error}");
        self.pause(pause).await
    }

    /// A shutdown does not wait for a database that is away: the window will be redelivered.
    async fn pause(&self, pause: &mut Backoff) -> Result<(), Fault> {
        tokio::select! {
            () = pause.wait() => Ok(()),
            () = self.shutdown.cancelled() => {
                Err(Error::Outage("the worker is stopping and can't wait for the database".into()).into())
            }
        }
    }

    /// How often one of `taken` was under way when the process died, at most.
    pub(super) async fn known_attempts(&mut self, taken: &[&Taken]) -> Result<u32, Fault> {
        let ids: Vec<Uuid> = redelivered(taken).collect();
        let attempts = self.counts(&ids, Counting::Read).await?;
        let most = attempts.values().copied().max().unwrap_or(0).unsigned_abs();
        if most > 1 {
            tracing::warn!(
                lane = self.lane,
                "{} commands came again, some after {most} tries: the window is split",
                attempts.len()
            );
        }
        Ok(most)
    }

    /// Counts an attempt for the redelivered among `taken`, just before they are tried: so only
    /// those count that are really under way when the process dies.
    async fn count_attempts(&mut self, taken: &[&Taken]) -> Result<HashMap<Uuid, i32>, Fault> {
        let ids: Vec<Uuid> = redelivered(taken).collect();
        self.counts(&ids, Counting::AddOne).await
    }

    async fn counts(
        &mut self,
        ids: &[Uuid],
        counting: Counting,
    ) -> Result<HashMap<Uuid, i32>, Fault> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let mut patience = Patience::new();
        loop {
            let timeout = self.session.timeout();
            let work = async {
                let connection = self.session.connection().await?;
                match counting {
                    Counting::Read => store::attempts::read(connection, &self.lane, ids).await,
                    Counting::AddOne => store::attempts::count(connection, &self.fence, ids).await,
                }
            };
            let counted = session::bounded(timeout, work).await;
            if let Some(counted) = self.outlast(counted, &mut patience).await? {
                return Ok(counted);
            }
        }
    }

    /// Gives what came of small work beside the windows; nothing, after a pause, if an outage or a
    /// conflict kept it from being done.
    pub(super) async fn outlast<T>(
        &mut self,
        tried: Result<T, Error>,
        patience: &mut Patience,
    ) -> Result<Option<T>, Fault> {
        match tried {
            Ok(done) => Ok(Some(done)),
            Err(error @ (Error::Outage(_) | Error::Conflict(_))) => {
                self.session.discard();
                self.hold(patience.since, error, &mut patience.pause).await?;
                Ok(None)
            }
            Err(error @ (Error::Refused(_) | Error::Fenced { .. })) => Err(error.into()),
        }
    }
}

/// How long something was tried already.
pub(super) struct Patience {
    since: Instant,
    pause: Backoff,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), pause: Backoff::new(PAUSE.0, PAUSE.1) }
    }
}

#[derive(Clone, Copy)]
enum Counting {
    Read,
    AddOne,
}

fn redelivered(taken: &[&Taken]) -> impl Iterator<Item = Uuid> {
    taken.iter().filter(|taken| taken.redelivered).map(|taken| dead_letter::id(taken))
}

/// The size of the parts of a window whose commands were tried `attempts` times: a command that
/// kills the process is alone long before its tries are used up, and those around it are applied.
fn part_size(window: usize, attempts: u32) -> usize {
    (window >> attempts.saturating_mul(SHRINK_BITS).min(usize::BITS - 1)).max(1)
}

/// The attempts of a command that is tried alone for the first time: those before count against
/// nobody, as it was not alone under way.
fn attempts_until_alone(window: usize) -> u32 {
    let shared = (0..usize::BITS).take_while(|attempts| part_size(window, *attempts) > 1);
    u32::try_from(shared.count()).unwrap_or(u32::MAX) + 1
}

/// The parts of a window; the first is last: a stack.
fn parts(window: usize, size: usize) -> Vec<Range<usize>> {
    let starts = (0..window).step_by(size).rev();
    starts.map(|start| start..(start + size).min(window)).collect()
}

#[cfg(test)]
mod tests {
    use super::{attempts_until_alone, part_size};

    #[test]
    fn whoever_is_tried_alone_is_not_yet_given_up() {
        for window in [1, 2, 8, 9, 64, 65, 512, 1999] {
            let first = attempts_until_alone(window);
            assert_eq!(part_size(window, first - 1), 1, "window {window}");
            assert!(first == 1 || part_size(window, first - 2) > 1, "window {window}");
        }
    }
}
