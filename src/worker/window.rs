//! Applies a window of commands in ONE transaction.
//!
//! Load, evaluate in queue order, store. A window either commits whole or leaves nothing, so it
//! can be done again at any time: commands that an earlier try committed are found in the inbox
//! and answered from there.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::broker::topology;
use crate::clock::Clock;
use crate::config::Publishers;
use crate::domain::attempt;
use crate::domain::enrolment::{EnrolmentKey, Membership};
use crate::domain::evaluate::{Warning, evaluate};
use crate::domain::identity::CustomerId;
use crate::domain::program::{Catalogue, Org};
use crate::domain::rejection::{Reason, Rejection};
use crate::domain::replay::Replay;
use crate::domain::resolve;
use crate::domain::snapshot::Snapshot;
use crate::domain::status::Status;
use crate::failpoint::{self, Point, Protection};
use crate::message::Message;
use crate::store;
use crate::store::command_log::{CommandKey, Record, Stored};
use crate::store::commit::Window;
use crate::store::fence::Fence;
use crate::store::session::Session;
use crate::wire::parked_event;
use crate::worker::answer::{Answer, answer, stored};
use crate::worker::evaluation_deadline::Deadline;
use crate::worker::facts::Facts;
use crate::worker::holding::{self, Asking, Holding, Holds, Leave};
use crate::worker::intake::{Read, Taken};
use crate::worker::replay_check::{ReplayCheck, Verdict};

/// What came of one delivery.
pub(super) enum Settled {
    Answered(Box<Answer>),
    Rejected(Rejection),
    /// It was tried again and again.
    GivenUp {
        rejection: Rejection,
        tries: u32,
    },
    /// It waits for a dead letter, with what its publisher is told of that at first.
    Parked(Option<Box<Message>>),
    /// It ends a move of the routing map, and is no command.
    Marker,
    /// A replay without effect; its letter says what becomes of the command.
    Dropped(DropReason),
}

/// Why a replay has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DropReason {
    /// Its letter was taken back, or replayed again.
    TakenBack,
    /// Its command took effect before, and the inbox has forgotten it.
    AlreadyApplied,
}

/// Why a window was not applied. Nothing of it is in the database then, unless the connection
/// broke during the commit.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Store(#[from] store::error::Error),
    #[error("processing panicked: {0}")]
    Panicked(String),
}

impl Failure {
    /// What decides whether it counts against a command.
    pub(super) fn kind(&self) -> attempt::Failure {
        use store::error::Error;
        match self {
            Self::Store(Error::Refused(_)) => attempt::Failure::DataRefused,
            Self::Store(Error::Statement(_)) => attempt::Failure::StatementRefused,
            Self::Store(Error::Outage(_) | Error::Conflict(_) | Error::Fenced { .. }) => {
                attempt::Failure::Unavailable
            }
            Self::Panicked(_) => attempt::Failure::Panicked,
        }
    }
}

/// What came of a window.
pub(super) struct Applied {
    /// For each delivery, in order.
    pub(super) settled: Vec<Settled>,
    /// Who came to hold which membership id.
    pub(super) holders: Vec<(Membership, CustomerId)>,
}

impl Applied {
    /// Adds what came next.
    pub(super) fn add(&mut self, next: Self) {
        self.settled.extend(next.settled);
        self.holders.extend(next.holders);
    }
}

/// What else there is to a window.
#[derive(Clone, Copy)]
pub(super) struct Extras<'a> {
    /// The counted deliveries of it, whose counts end with the commit.
    pub(super) attempts: &'a [Uuid],
    /// Where dead letters hold their customers.
    pub(super) holds: Holds,
    /// Who may publish for which orgs.
    pub(super) publishers: &'a Publishers,
}

/// Applies `taken` by these facts.
pub(super) async fn apply(
    session: &mut Session,
    fence: &Fence,
    clock: &Clock,
    taken: &[&Taken],
    facts: Facts<'_>,
    extras: Extras<'_>,
) -> Result<Applied, Failure> {
    let Extras { attempts, holds, publishers } = extras;
    let catalogue = facts.catalogue(session).await?;
    let connection = session.connection().await?;

    let plans: Vec<Plan<'_>> = taken.iter().map(|taken| plan(&catalogue, taken)).collect();
    let keys: Vec<CommandKey> = plans.iter().filter_map(Plan::inbox_key).collect();
    let inbox = if failpoint::is_without(Protection::Inbox) {
        HashMap::new()
    } else {
        let hashes: Vec<&[u8]> = plans.iter().filter_map(Plan::body_hash).collect();
        store::command_log::find_answers(connection, &keys, &hashes).await?
    };
    let new = plans.iter().filter_map(|plan| match plan {
        Plan::Command { org, read, key } => (!inbox.contains_key(key)).then_some((*org, *read)),
        Plan::Reject(_) | Plan::Marker => None,
    });
    let new: Vec<(&Org, &Read)> = new.collect();
    let mut replay_check = ReplayCheck::load(connection, taken).await?;
    let snapshot = facts.load(connection, &new).await?;
    replay_check.load_history(connection, &snapshot, new.iter().copied()).await?;
    let question = holding::question(&catalogue, &snapshot, holds, taken.iter().copied());
    let holding = Holding::load(connection, fence, holds, &question).await?;
    failpoint::reach(Point::AfterLoad);

    let mut evaluation = Evaluation {
        inbox,
        snapshot,
        records: Vec::new(),
        fresh: HashMap::new(),
        now: clock.now(),
        holding,
        replay_check,
        publishers,
        replays: Vec::new(),
    };
    let settled = evaluation.run(plans, taken)?;

    let Evaluation { records, snapshot, holding, replays, .. } = &evaluation;
    let changes = snapshot.changes();
    let holds = holding.as_ref().map(|holding| &holding.changes).filter(|held| !held.is_empty());
    if !records.is_empty() || !attempts.is_empty() || holds.is_some() || !replays.is_empty() {
        let catalogue = catalogue.version;
        let window = Window { records, changes: &changes, attempts, catalogue, replays, holds };
        store::commit::commit(connection, fence, &window).await?;
    } else if !evaluation.inbox.is_empty() {
        // Announcing a stored result once more harms nobody, once it is sure to stay stored.
        store::commit::confirm(connection, fence).await?;
    }
    let holders = changes.iter().filter_map(|change| {
        let EnrolmentKey { org_id, customer_id, program_id } = change.key;
        let membership_id = change.after.membership_id.clone()?;
        change.after.linked.then_some(((org_id, program_id, membership_id), customer_id))
    });
    let holders = holders.collect();
    Ok(Applied { settled, holders })
}

/// What is to be done with a delivery, as far as the catalogue can tell.
enum Plan<'a> {
    Command { org: &'a Org, read: &'a Read, key: CommandKey },
    Reject(Rejection),
    Marker,
}

impl<'a> Plan<'a> {
    /// The key to look up in the inbox. A made-up id can be there, too: after a commit whose
    /// outcome was unknown.
    fn inbox_key(&self) -> Option<CommandKey> {
        match self {
            Self::Command { key, .. } => Some(key.clone()),
            Self::Reject(_) | Self::Marker => None,
        }
    }

    /// The hash that goes with that key.
    fn body_hash(&self) -> Option<&'a [u8]> {
        match self {
            Self::Command { read, .. } => Some(&read.body_hash),
            Self::Reject(_) | Self::Marker => None,
        }
    }
}

fn plan<'a>(catalogue: &'a Catalogue, taken: &'a Taken) -> Plan<'a> {
    let read = match &taken.read {
        _ if taken.marker.is_some() => return Plan::Marker,
        Ok(read) => read,
        Err(rejection) => return Plan::Reject(rejection.clone()),
    };
    match catalogue.orgs.get(&read.envelope.org_code) {
        Some(org) => {
            let key = CommandKey { org_id: org.id, command_id: read.command_id.clone() };
            Plan::Command { org, read, key }
        }
        None => Plan::Reject(Rejection {
            reason: Reason::UnknownOrg,
            // Without the code: letters of any number of made-up ones are one group.
            detail:
                "no org has the code in the routing key: import it into the catalogue, then replay"
                    .to_owned(),
        }),
    }
}

struct Evaluation<'a> {
    inbox: HashMap<CommandKey, Stored>,
    snapshot: Snapshot,
    records: Vec<Record>,
    /// Where in `records` the commands of this window are.
    fresh: HashMap<CommandKey, usize>,
    now: DateTime<Utc>,
    holding: Option<Holding>,
    replay_check: ReplayCheck,
    publishers: &'a Publishers,
    /// Replays that take effect with the window.
    replays: Vec<Replay>,
}

impl Evaluation<'_> {
    /// Settles each delivery, in order. A panic leaves no trace but the evaluation, which is dropped.
    fn run(&mut self, plans: Vec<Plan<'_>>, taken: &[&Taken]) -> Result<Vec<Settled>, Failure> {
        let _deadline = Deadline::start();
        let plans = plans.into_iter().zip(taken).enumerate();
        let settle =
            |(index, (plan, taken)): (usize, (Plan<'_>, &&Taken))| self.settle(plan, taken, index);
        catch_unwind(AssertUnwindSafe(|| plans.map(settle).collect()))
            .map_err(|panic| Failure::Panicked(panic_message(panic.as_ref())))
    }

    fn settle(&mut self, plan: Plan<'_>, taken: &Taken, index: usize) -> Settled {
        let (org, read, key) = match plan {
            Plan::Command { org, read, key } => (org, read, key),
            Plan::Reject(rejection) => {
                let verdict = self.replay_check.judge(taken, None, self.publishers);
                if matches!(verdict, Some(Verdict::TakenBack)) {
                    return self.drop_taken_back(taken);
                }
                return Settled::Rejected(rejection);
            }
            Plan::Marker => return Settled::Marker,
        };
        let known = self
            .inbox
            .get(&key)
            .or_else(|| self.fresh.get(&key).map(|index| &self.records[*index].stored));
        match known {
            Some(stored) if stored.body_hash == read.body_hash => {
                if let Some(holding) = &mut self.holding {
                    holding.is_answered(taken, &key);
                }
                Settled::Answered(Box::new(answer(&key, stored, read, true)))
            }
            Some(_) => Settled::Rejected(Rejection {
                reason: Reason::MessageIdReused,
                detail: "this message_id came before with another body: give each command an id of its own".into(),
            }),
            None => {
                let replay = match self.replay_check.judge(taken, Some(&key), self.publishers) {
                    Some(Verdict::TakenBack) => {
                        return self.drop_taken_back(taken);
                    }
                    Some(Verdict::AlreadyApplied(replay)) => {
                        self.replays.push(replay);
                        if let Some(holding) = &mut self.holding {
                            holding.is_answered(taken, &key);
                        }
                        return Settled::Dropped(DropReason::AlreadyApplied);
                    }
                    Some(Verdict::Refused(rejection)) => return Settled::Rejected(rejection),
                    Some(Verdict::Counts(replay)) => Some(replay),
                    None => None,
                };
                if let Some(rejection) = &taken.moved {
                    return Settled::Rejected(rejection.clone());
                }
                if let Some(holding) = &mut self.holding {
                    let customers = if holding.has_line() {
                        resolve::meant(org, &self.snapshot, &read.command)
                    } else {
                        Vec::new()
                    };
                    let body_hash = &read.body_hash;
                    match holding.ask(&Asking { taken, key: &key, body_hash, index, customers }) {
                        Leave::Granted => {}
                        Leave::Parked(waiting) => {
                            let id = &read.command_id;
                            let event = waiting.map(|waiting| {
                                let envelope = &read.envelope;
                                parked_event::event(topology::RESULTS, envelope, id, waiting)
                            });
                            return Settled::Parked(event.map(Box::new));
                        }
                        Leave::Refused(rejection) => return Settled::Rejected(rejection),
                    }
                }
                self.replays.extend(replay);
                let record = self.decide(org, read, key);
                let answer = answer(&record.key, &record.stored, read, false);
                self.fresh.insert(record.key.clone(), self.records.len());
                self.records.push(record);
                Settled::Answered(Box::new(answer))
            }
        }
    }

    fn drop_taken_back(&mut self, taken: &Taken) -> Settled {
        if let Some(holding) = &mut self.holding {
            holding.is_taken_back(taken);
        }
        Settled::Dropped(DropReason::TakenBack)
    }

    fn decide(&mut self, org: &Org, read: &Read, key: CommandKey) -> Record {
        failpoint::evaluate(&read.command_id);
        let mut outcome = evaluate(org, &mut self.snapshot, &read.command, self.now);
        if read.envelope.message_id.is_none() {
            let warning = Warning { status: Status::NoMessageId, path: String::new() };
            outcome.warnings.insert(0, warning);
        }
        let stored = stored(org, read, &outcome);
        Record { key, stored, effects: outcome.effects, now: self.now }
    }
}

/// What a panic said, if it said anything.
pub(super) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
        .to_owned()
}
