//! An operation from its beginning to its end.
//!
//! A runner says after each batch how far it is. One that dies in between leaves letters claimed
//! and not closed; the runner that takes the bulk job over publishes those first: it can't know
//! whether they were sent, and a command that comes twice counts once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use crate::broker::publisher::Receipt;
use crate::config::Config;
use crate::domain::dead_letter::State;
use crate::domain::replay::Replay;
use crate::message::Message;
use crate::store::connection::Connection;
use crate::store::dead_letters::audit::AuditAction;
use crate::store::dead_letters::bulk_jobs::{self, End, Kind, Operation, Order, Plan, Tally};
use crate::store::dead_letters::claims::{self, By, Change, Key};
use crate::store::dead_letters::filter::Filter;
use crate::store::dead_letters::show;
use crate::store::error::Error as StoreError;
use crate::store::installation;
use crate::store::session::answered;
use crate::usecases::dead_letters::eligible::{self, Rules, judge};
use crate::usecases::dead_letters::error::Error;
use crate::usecases::dead_letters::selection;
use crate::usecases::dead_letters::sender::Sender;
use crate::usecases::dead_letters::steps::{portions, unloadable};
use crate::wire::replay;

/// Letters that are gone through together.
const BATCH: i64 = 100;
/// Batches a second of an operation with a rate, so that a slow one does not come in bursts.
const BATCHES_PER_SECOND: i64 = 10;

const DISCARD: Change =
    Change { from: &[State::Open], to: State::Discarded, action: AuditAction::Discard };
/// Replayed ones, too: that takes their replay back, which has no effect if it arrives yet.
const RESTORE: Change = Change {
    from: &[State::Discarded, State::Replayed],
    to: State::Open,
    action: AuditAction::Restore,
};

/// How an operation went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its id.
    pub operation_id: Uuid,
    /// Done, or cancelled.
    pub end: End,
    /// How far it came.
    pub tally: Tally,
    /// Letters that this runner left as they are, by the reason.
    pub skipped: BTreeMap<String, u64>,
}

/// Begins an operation. With a `runner` the caller is to [`run`] it at once; without one a worker
/// does.
pub async fn begin(
    connection: &mut Connection,
    plan: Plan,
    runner: Option<&str>,
) -> Result<Operation, Error> {
    let plan = Plan { filter: selection::meant(plan.kind, plan.filter), ..plan };
    claims::release_of_ended(connection).await?;
    let matched = selection::count(connection, plan.kind, &plan.filter).await?.letters;
    let id = bulk_jobs::create(connection, &plan, matched, runner).await?;
    let created = bulk_jobs::find(connection, id).await?;
    created.ok_or_else(|| Error::Store(StoreError::Refused(format!("operation {id} is gone"))))
}

/// Fails if the broker is not the database's, so that no replay is to begin.
pub async fn check_broker(connection: &mut Connection, config: &Config) -> Result<(), Error> {
    let installation = answered(installation::id(connection)).await?;
    let mut sender = Sender::new(config, installation, None);
    let checked = sender.check().await;
    sender.close().await;
    checked
}

/// Runs an operation that is this runner's, and tells `observe` how far it is. After an error it
/// is as good as abandoned: a worker takes it over.
pub async fn run(
    connection: &mut Connection,
    config: &Config,
    operation: Operation,
    runner: &str,
    mut observe: impl FnMut(&Tally),
) -> Result<Outcome, Error> {
    let (Some(kind), Some(filter)) = (operation.kind(), operation.filter.clone()) else {
        let problem = "another version of the program began it";
        answered(bulk_jobs::end(connection, operation.id, runner, End::Failed, Some(problem)))
            .await?;
        return Err(Error::Conflict(format!("operation {}: {problem}", operation.id)));
    };
    let rules = selection::rules(connection, config, operation.overrides_publisher).await?;
    let installation = answered(installation::id(connection)).await?;
    let mut sender = Sender::new(config, installation, rules.user.clone());
    if kind == Kind::Replay {
        // Before anything is claimed.
        sender.check().await?;
    }
    let tally = operation.tally;
    let mut running = Running {
        operation,
        kind,
        filter,
        rules,
        sender,
        tally,
        skipped: BTreeMap::new(),
        begun: Instant::now(),
        begun_at: tally.done,
    };
    let end = running.go(connection, runner, &mut observe).await;
    running.sender.close().await;
    let end = end?;
    answered(bulk_jobs::end(connection, running.operation.id, runner, end, None)).await?;
    let Running { operation, tally, skipped, .. } = running;
    Ok(Outcome { operation_id: operation.id, end, tally, skipped })
}

struct Running<'a> {
    operation: Operation,
    kind: Kind,
    filter: Filter,
    rules: Rules<'a>,
    sender: Sender<'a>,
    tally: Tally,
    skipped: BTreeMap<String, u64>,
    begun: Instant,
    /// What was done when this runner began.
    begun_at: i64,
}

impl Running<'_> {
    async fn go(
        &mut self,
        connection: &mut Connection,
        runner: &str,
        observe: &mut impl FnMut(&Tally),
    ) -> Result<End, Error> {
        self.settle_claims(connection).await?;
        loop {
            let id = self.operation.id;
            match answered(bulk_jobs::beat(connection, id, runner, &self.tally)).await? {
                Order::GoOn => {}
                Order::Stop => return Ok(End::Cancelled),
                Order::GivenAway => return Err(Error::TakenOver(id)),
            }
            observe(&self.tally);
            let left = self.operation.letters_max.map_or(i64::MAX, |max| max - self.tally.done);
            let limit = left.min(self.batch_size());
            if limit <= 0 {
                return Ok(End::Done);
            }
            let before = self.operation.started_at;
            let after = self.tally.cursor;
            let page =
                answered(claims::page(connection, &self.filter, before, after, limit)).await?;
            let Some(last) = page.last() else { return Ok(End::Done) };
            let cursor = last.order;
            match self.kind {
                Kind::Replay => self.replay(connection, &page).await?,
                Kind::Discard => self.change(connection, &page, &DISCARD).await?,
                Kind::Restore => self.change(connection, &page, &RESTORE).await?,
                Kind::Export => {
                    return Err(Error::Conflict("an export has no other runner".to_owned()));
                }
            }
            self.tally.cursor = Some(cursor);
            self.keep_rate().await;
        }
    }

    /// What a runner that died has claimed.
    async fn settle_claims(&mut self, connection: &mut Connection) -> Result<(), Error> {
        let ids = answered(claims::unsettled(connection, self.operation.id)).await?;
        for id in ids {
            let Some(mut letter) = answered(show::show(connection, id)).await? else { continue };
            letter.state = State::Open;
            match judge(&letter, &self.rules) {
                Ok(mut message) => {
                    replay::mark(
                        &mut message,
                        Replay { letter_id: id, number: letter.replay_number },
                    );
                    self.publish(connection, &[id], &[message]).await?;
                }
                Err(why) => {
                    self.skip(why, 1);
                    answered(claims::settle(connection, self.operation.id, &[], &[id])).await?;
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
                if letter.operation_id == Some(self.operation.id) {
                    // Settled already, for a runner that died.
                    continue;
                }
                match judge(&letter, &self.rules) {
                    Ok(message) => messages.push((letter.id, message)),
                    Err(why) => self.skip(why, 1),
                }
            }
            let ids: Vec<Uuid> = messages.iter().map(|(id, _)| *id).collect();
            let claiming = claims::change(connection, &ids, &claims::CLAIM, self.by());
            let claimed = answered(claiming).await?.into_iter();
            let claimed: HashMap<Uuid, i32> =
                claimed.map(|letter| (letter.id, letter.replay_number)).collect();
            self.skip(FASTER.to_owned(), ids.len() - claimed.len());
            messages.retain_mut(|(letter_id, message)| {
                let Some(number) = claimed.get(letter_id) else { return false };
                replay::mark(message, Replay { letter_id: *letter_id, number: *number });
                true
            });
            let (ids, messages): (Vec<Uuid>, Vec<Message>) = messages.into_iter().unzip();
            self.publish(connection, &ids, &messages).await?;
        }
        Ok(())
    }

    /// Publishes what is claimed, and settles the claims by what the broker says.
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
        answered(claims::settle(connection, self.operation.id, &sent, &unsent)).await?;
        self.tally.done += count(sent.len());
        self.tally.failed += count(unsent.len());
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
        self.tally.done += count(changed.len());
        let changed: HashSet<Uuid> = changed.iter().map(|letter| letter.id).collect();
        let left: Vec<Uuid> = ids.into_iter().filter(|id| !changed.contains(id)).collect();
        for (state, letters) in answered(claims::count_by_state(connection, &left)).await? {
            let why = eligible::why_unchanged(self.kind, state);
            self.skip(why.to_owned(), usize::try_from(letters).unwrap_or_default());
        }
        Ok(())
    }

    fn by(&self) -> By<'_> {
        let Operation { id, actor, overrides_publisher, .. } = &self.operation;
        By { operation_id: *id, actor, overrides_publisher: *overrides_publisher }
    }

    fn skip(&mut self, why: String, letters: usize) {
        if letters > 0 {
            self.tally.skipped += count(letters);
            *self.skipped.entry(why).or_default() += u64::try_from(letters).unwrap_or_default();
        }
    }

    fn batch_size(&self) -> i64 {
        self.operation
            .letters_per_second
            .map_or(BATCH, |rate| (i64::from(rate) / BATCHES_PER_SECOND).clamp(1, BATCH))
    }

    async fn keep_rate(&self) {
        let done = u64::try_from(self.tally.done - self.begun_at).unwrap_or_default();
        let rate = self.operation.letters_per_second.and_then(|rate| u32::try_from(rate).ok());
        if let Some(rate) = rate.filter(|rate| *rate > 0) {
            tokio::time::sleep_until(self.begun + Duration::from_secs(done) / rate).await;
        }
    }
}

/// Why a letter that was open a moment ago is not any more.
const FASTER: &str = "another operation was faster, or its command took effect already";

fn count(letters: usize) -> i64 {
    i64::try_from(letters).unwrap_or(i64::MAX)
}
