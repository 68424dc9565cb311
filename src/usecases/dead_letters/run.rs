//! Runs a bulk job from its beginning to its end.
//!
//! A runner records its progress after each batch. A runner that dies between two records leaves dead
//! letters claimed and not closed. The runner that takes the bulk job over publishes those first: it
//! can't know whether they were sent, and a command that is delivered twice takes effect once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use crate::broker::publisher::Receipt;
use crate::config::Config;
use crate::domain::bulk_job::{BulkJobKind, BulkJobState};
use crate::domain::dead_letter::State;
use crate::domain::replay::Replay;
use crate::message::Message;
use crate::store::connection::Connection;
use crate::store::dead_letters::audit::AuditAction;
use crate::store::dead_letters::bulk_jobs::{
    self, BulkJob, BulkJobProgress, Plan, RunnerInstruction,
};
use crate::store::dead_letters::claims::{self, By, Change, Key};
use crate::store::dead_letters::filter::Filter;
use crate::store::dead_letters::show;
use crate::store::error::Error as StoreError;
use crate::store::installation;
use crate::store::session::answered;
use crate::usecases::dead_letters::eligible::{self, Rules};
use crate::usecases::dead_letters::error::Error;
use crate::usecases::dead_letters::selection;
use crate::usecases::dead_letters::sender::Sender;
use crate::usecases::dead_letters::steps::{portions, unloadable};
use crate::wire::replay;

/// Dead letters in a batch.
const BATCH: i64 = 100;
/// Batches a second of a bulk job with a rate limit, so that a slow one does not publish in bursts.
const BATCHES_PER_SECOND: i64 = 10;

const DISCARD: Change =
    Change { from: &[State::Open], to: State::Discarded, action: AuditAction::Discard };
/// Replayed ones, too: a replay that is taken back has no effect if it is delivered later.
const RESTORE: Change = Change {
    from: &[State::Discarded, State::Replayed],
    to: State::Open,
    action: AuditAction::Restore,
};

/// The outcome of a bulk job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its id.
    pub bulk_job_id: Uuid,
    /// Done, or cancelled.
    pub end: BulkJobState,
    /// What it processed.
    pub progress: BulkJobProgress,
    /// How many dead letters this runner did not change, by reason.
    pub skipped: BTreeMap<String, u64>,
}

/// Creates a bulk job. With a `runner` the caller must [`run`] it at once; without one a worker runs it.
pub async fn begin(
    connection: &mut Connection,
    plan: Plan,
    runner: Option<&str>,
) -> Result<BulkJob, Error> {
    let plan = Plan { filter: selection::meant(plan.kind, plan.filter), ..plan };
    claims::release_of_ended(connection).await?;
    let matched = selection::count(connection, plan.kind, &plan.filter).await?.letters;
    let id = bulk_jobs::create(connection, &plan, matched, runner).await?;
    let created = bulk_jobs::find(connection, id).await?;
    created.ok_or_else(|| Error::Store(StoreError::Refused(format!("bulk job {id} is gone"))))
}

/// Fails if broker and database belong to different installations: then no replay may begin.
pub async fn check_broker(connection: &mut Connection, config: &Config) -> Result<(), Error> {
    let installation = answered(installation::id(connection)).await?;
    let mut sender = Sender::new(config, installation, None);
    let checked = sender.check().await;
    sender.close().await;
    checked
}

/// Runs a bulk job that this runner has, and reports its progress to `observe`. After an error a worker
/// takes it over.
pub async fn run(
    connection: &mut Connection,
    config: &Config,
    job: BulkJob,
    runner: &str,
    mut observe: impl FnMut(&BulkJobProgress),
) -> Result<Outcome, Error> {
    let Some(filter) = job.filter.clone() else {
        let problem = "another version of the program created it";
        answered(bulk_jobs::end(connection, job.id, runner, BulkJobState::Failed, Some(problem)))
            .await?;
        return Err(Error::Conflict(format!("bulk job {}: {problem}", job.id)));
    };
    let rules = selection::rules(connection, config, job.overrides_publisher).await?;
    let installation = answered(installation::id(connection)).await?;
    let mut sender = Sender::new(config, installation, rules.user.clone());
    if job.kind == BulkJobKind::Replay {
        // Before the first claim.
        sender.check().await?;
    }
    let progress = job.progress;
    let mut run = JobRun {
        job,
        filter,
        rules,
        sender,
        progress,
        skipped: BTreeMap::new(),
        started_at: Instant::now(),
        done_before: progress.done,
    };
    let end = run.process(connection, runner, &mut observe).await;
    run.sender.close().await;
    let end = end?;
    answered(bulk_jobs::end(connection, run.job.id, runner, end, None)).await?;
    let JobRun { job, progress, skipped, .. } = run;
    Ok(Outcome { bulk_job_id: job.id, end, progress, skipped })
}

struct JobRun<'a> {
    job: BulkJob,
    filter: Filter,
    rules: Rules<'a>,
    sender: Sender<'a>,
    progress: BulkJobProgress,
    skipped: BTreeMap<String, u64>,
    started_at: Instant,
    /// What was done when this runner began.
    done_before: i64,
}

impl JobRun<'_> {
    async fn process(
        &mut self,
        connection: &mut Connection,
        runner: &str,
        observe: &mut impl FnMut(&BulkJobProgress),
    ) -> Result<BulkJobState, Error> {
        self.finish_claims(connection).await?;
        loop {
            let id = self.job.id;
            match answered(bulk_jobs::record_progress(connection, id, runner, &self.progress))
                .await?
            {
                RunnerInstruction::Continue => {}
                RunnerInstruction::Cancel => return Ok(BulkJobState::Cancelled),
                RunnerInstruction::Leave => return Err(Error::TakenOver(id)),
            }
            observe(&self.progress);
            let left = self.job.dead_letters_max.map_or(i64::MAX, |max| max - self.progress.done);
            let limit = left.min(self.batch_size());
            if limit <= 0 {
                return Ok(BulkJobState::Done);
            }
            let before = self.job.started_at;
            let after = self.progress.cursor;
            let page =
                answered(claims::page(connection, &self.filter, before, after, limit)).await?;
            let Some(last) = page.last() else { return Ok(BulkJobState::Done) };
            let cursor = last.order;
            match self.job.kind {
                BulkJobKind::Replay => self.replay(connection, &page).await?,
                BulkJobKind::Discard => self.change(connection, &page, &DISCARD).await?,
                BulkJobKind::Restore => self.change(connection, &page, &RESTORE).await?,
                BulkJobKind::Export => {
                    return Err(Error::Conflict(
                        "only its own process can run an export".to_owned(),
                    ));
                }
            }
            self.progress.cursor = Some(cursor);
            self.limit_rate().await;
        }
    }

    /// Publishes what a runner that died has claimed.
    async fn finish_claims(&mut self, connection: &mut Connection) -> Result<(), Error> {
        let ids = answered(claims::unclosed(connection, self.job.id)).await?;
        for id in ids {
            let Some(mut letter) = answered(show::show(connection, id)).await? else { continue };
            letter.state = State::Open;
            match eligible::check(&letter, &self.rules) {
                Ok(mut message) => {
                    replay::mark(
                        &mut message,
                        Replay { dead_letter_id: id, number: letter.replay_number },
                    );
                    self.publish(connection, &[id], &[message]).await?;
                }
                Err(why) => {
                    self.skip(why, 1);
                    answered(claims::close(connection, self.job.id, &[], &[id])).await?;
                }
            }
        }
        Ok(())
    }

    async fn replay(&mut self, connection: &mut Connection, page: &[Key]) -> Result<(), Error> {
        let (large, page): (Vec<Key>, Vec<Key>) =
            page.iter().cloned().partition(|key| unloadable(key).is_some());
        large.iter().filter_map(unloadable).for_each(|why| self.skip(why, 1));
        for portion in portions(&page) {
            let mut messages = Vec::with_capacity(portion.len());
            for letter in answered(show::letters(connection, &portion)).await? {
                if letter.bulk_job_id == Some(self.job.id) {
                    // Closed already, after a runner that died.
                    continue;
                }
                match eligible::check(&letter, &self.rules) {
                    Ok(message) => messages.push((letter.id, message)),
                    Err(why) => self.skip(why, 1),
                }
            }
            let ids: Vec<Uuid> = messages.iter().map(|(id, _)| *id).collect();
            let claiming = claims::change(connection, &ids, &claims::CLAIM, self.by());
            let claimed = answered(claiming).await?.into_iter();
            let claimed: HashMap<Uuid, i32> =
                claimed.map(|letter| (letter.id, letter.replay_number)).collect();
            self.skip(CHANGED_MEANWHILE.to_owned(), ids.len() - claimed.len());
            messages.retain_mut(|(dead_letter_id, message)| {
                let Some(number) = claimed.get(dead_letter_id) else { return false };
                replay::mark(message, Replay { dead_letter_id: *dead_letter_id, number: *number });
                true
            });
            let (ids, messages): (Vec<Uuid>, Vec<Message>) = messages.into_iter().unzip();
            self.publish(connection, &ids, &messages).await?;
        }
        Ok(())
    }

    /// Publishes what is claimed, and closes the claims by the confirms.
    async fn publish(
        &mut self,
        connection: &mut Connection,
        ids: &[Uuid],
        messages: &[Message],
    ) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let receipts = self.sender.send(messages).await?;
        let (sent, unsent): (Vec<_>, Vec<_>) =
            ids.iter().zip(receipts).partition(|(_, receipt)| *receipt == Receipt::Routed);
        let of = |pairs: Vec<(&Uuid, Receipt)>| pairs.into_iter().map(|(id, _)| *id).collect();
        let (sent, unsent): (Vec<Uuid>, Vec<Uuid>) = (of(sent), of(unsent));
        answered(claims::close(connection, self.job.id, &sent, &unsent)).await?;
        self.progress.done += count(sent.len());
        self.progress.failed += count(unsent.len());
        Ok(())
    }

    async fn change(
        &mut self,
        connection: &mut Connection,
        page: &[Key],
        change: &Change,
    ) -> Result<(), Error> {
        let ids: Vec<Uuid> = page.iter().map(|key| key.id).collect();
        let changed = answered(claims::change(connection, &ids, change, self.by())).await?;
        self.progress.done += count(changed.len());
        let changed: HashSet<Uuid> = changed.iter().map(|letter| letter.id).collect();
        let left: Vec<Uuid> = ids.into_iter().filter(|id| !changed.contains(id)).collect();
        for (state, letters) in answered(claims::count_by_state(connection, &left)).await? {
            let why = eligible::why_unchanged(self.job.kind, state);
            self.skip(why.to_owned(), usize::try_from(letters).unwrap_or_default());
        }
        Ok(())
    }

    fn by(&self) -> By<'_> {
        let BulkJob { id, actor, overrides_publisher, .. } = &self.job;
        By { bulk_job_id: *id, actor, overrides_publisher: *overrides_publisher }
    }

    fn skip(&mut self, why: String, letters: usize) {
        if letters > 0 {
            self.progress.skipped += count(letters);
            *self.skipped.entry(why).or_default() += u64::try_from(letters).unwrap_or_default();
        }
    }

    fn batch_size(&self) -> i64 {
        self.job
            .dead_letters_per_second
            .map_or(BATCH, |rate| (i64::from(rate) / BATCHES_PER_SECOND).clamp(1, BATCH))
    }

    async fn limit_rate(&self) {
        let done = u64::try_from(self.progress.done - self.done_before).unwrap_or_default();
        let rate = self.job.dead_letters_per_second.and_then(|rate| u32::try_from(rate).ok());
        if let Some(rate) = rate.filter(|rate| *rate > 0) {
            tokio::time::sleep_until(self.started_at + Duration::from_secs(done) / rate).await;
        }
    }
}

/// Why a dead letter that was open a moment ago is no longer open.
const CHANGED_MEANWHILE: &str = "already changed by another action, or its command took effect";

fn count(letters: usize) -> i64 {
    i64::try_from(letters).unwrap_or(i64::MAX)
}
