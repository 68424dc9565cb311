//! Applies a batch of commands in ONE transaction.
//!
//! Load, evaluate in queue order, store. A batch either commits whole or leaves nothing, so it
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
use crate::failpoint::{self, Point};
use crate::message::Message;
use crate::store;
use crate::store::command_log::{CommandKey, Record, Stored};
use crate::store::commit::Batch;
use crate::store::fence::Fence;
use crate::store::session::Session;
use crate::wire::parked_event;
use crate::worker::hold::admit::{self, AdmissionOutcome, AdmissionRequest, BatchHolds, Holds};
use crate::worker::lane::answer::{Answer, answer, stored};
use crate::worker::lane::evaluation_deadline::Deadline;
use crate::worker::lane::facts::Facts;
use crate::worker::lane::receive::{DecodedCommand, Delivery};
use crate::worker::lane::replay_check::{ReplayCheck, Verdict};

/// The outcome of one delivery.
pub(crate) enum DeliveryOutcome {
    Answered(Box<Answer>),
    Rejected(Rejection),
    /// Its attempts have reached the limit.
    GivenUp {
        rejection: Rejection,
        tries: u32,
    },
    /// It waits for a dead letter; the event tells its publisher, the first time.
    Parked(Option<Box<Message>>),
    /// It ends a move of the routing map, and is no command.
    Marker,
    /// A replay without effect; its dead letter says what becomes of the command.
    Dropped(DropReason),
}

/// Why a replay has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DropReason {
    /// The replay was taken back, or another one is the latest.
    TakenBack,
    /// Its command took effect before, and the inbox has forgotten it.
    AlreadyApplied,
}

/// Why a batch was not applied. Nothing of it is in the database then, unless the connection
/// broke during the commit.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BatchError {
    #[error(transparent)]
    Store(#[from] store::error::Error),
    #[error("processing panicked: {0}")]
    Panicked(String),
}

impl BatchError {
    /// The kind that decides whether the failure counts against a command.
    pub(crate) fn kind(&self) -> attempt::FailureKind {
        use store::error::Error;
        match self {
            Self::Store(Error::Refused(_)) => attempt::FailureKind::DataRefused,
            Self::Store(Error::Statement(_)) => attempt::FailureKind::StatementRefused,
            Self::Store(Error::Outage(_) | Error::Conflict(_) | Error::Fenced { .. }) => {
                attempt::FailureKind::Unavailable
            }
            Self::Panicked(_) => attempt::FailureKind::Panicked,
        }
    }
}

/// The outcome of a batch.
pub(crate) struct BatchOutcome {
    /// For each delivery, in order.
    pub(crate) outcomes: Vec<DeliveryOutcome>,
    /// The membership ids that got a holder, and the holders.
    pub(crate) members: Vec<(Membership, CustomerId)>,
}

impl BatchOutcome {
    /// Adds what came next.
    pub(crate) fn add(&mut self, next: Self) {
        self.outcomes.extend(next.outcomes);
        self.members.extend(next.members);
    }
}

/// What else there is to a batch.
#[derive(Clone, Copy)]
pub(crate) struct Extras<'a> {
    /// The counted deliveries of it, whose counts end with the commit.
    pub(crate) attempts: &'a [Uuid],
    /// Where dead letters hold their customers.
    pub(crate) holds: Holds,
    /// Who may publish for which orgs.
    pub(crate) publishers: &'a Publishers,
}

/// Applies the deliveries by these facts.
pub(crate) async fn apply(
    session: &mut Session,
    fence: &Fence,
    clock: &Clock,
    deliveries: &[&Delivery],
    facts: Facts<'_>,
    extras: Extras<'_>,
) -> Result<BatchOutcome, BatchError> {
    let Extras { attempts, holds, publishers } = extras;
    let catalogue = facts.catalogue(session).await?;
    let connection = session.connection().await?;

    let plans: Vec<Plan<'_>> =
        deliveries.iter().map(|delivery| plan(&catalogue, delivery)).collect();
    let keys: Vec<CommandKey> = plans.iter().filter_map(Plan::inbox_key).collect();
    let hashes: Vec<&[u8]> = plans.iter().filter_map(Plan::body_hash).collect();
    let inbox = store::command_log::find_answers(connection, &keys, &hashes).await?;
    let new = plans.iter().filter_map(|plan| match plan {
        Plan::Command { org, decoded, key } => {
            (!inbox.contains_key(key)).then_some((*org, *decoded))
        }
        Plan::Reject(_) | Plan::Marker => None,
    });
    let new: Vec<(&Org, &DecodedCommand)> = new.collect();
    let mut replay_check = ReplayCheck::load(connection, deliveries).await?;
    let snapshot = facts.load(connection, &new).await?;
    replay_check.load_history(connection, &snapshot, new.iter().copied()).await?;
    let question = admit::question(&catalogue, &snapshot, holds, deliveries.iter().copied());
    let holding = BatchHolds::load(connection, fence, holds, &question).await?;
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
    let outcomes = evaluation.run(plans, deliveries)?;

    let Evaluation { records, snapshot, holding, replays, .. } = &evaluation;
    let changes = snapshot.changes();
    let holds = holding.as_ref().map(|holding| &holding.changes).filter(|held| !held.is_empty());
    if !records.is_empty() || !attempts.is_empty() || holds.is_some() || !replays.is_empty() {
        let catalogue = catalogue.version;
        let batch = Batch { records, changes: &changes, attempts, catalogue, replays, holds };
        store::commit::commit(connection, fence, &batch).await?;
    } else if !evaluation.inbox.is_empty() {
        // A stored result may be published again once it is sure to stay stored.
        store::commit::confirm(connection, fence).await?;
    }
    let members = changes.iter().filter_map(|change| {
        let EnrolmentKey { org_id, customer_id, program_id } = change.key;
        let membership_id = change.after.membership_id.clone()?;
        change.after.linked.then_some(((org_id, program_id, membership_id), customer_id))
    });
    let members = members.collect();
    Ok(BatchOutcome { outcomes, members })
}

/// What is to be done with a delivery, as far as the catalogue can tell.
enum Plan<'a> {
    Command { org: &'a Org, decoded: &'a DecodedCommand, key: CommandKey },
    Reject(Rejection),
    Marker,
}

impl<'a> Plan<'a> {
    /// The key to look up in the inbox. A made-up id can be there, too: after a commit whose
    /// outcome was unknown.
    fn inbox_key(&self) -> Option<CommandKey> {
        failpoint::without!(Inbox, return None);
        match self {
            Self::Command { key, .. } => Some(key.clone()),
            Self::Reject(_) | Self::Marker => None,
        }
    }

    /// The hash that goes with that key.
    fn body_hash(&self) -> Option<&'a [u8]> {
        match self {
            Self::Command { decoded, .. } => Some(&decoded.body_hash),
            Self::Reject(_) | Self::Marker => None,
        }
    }
}

fn plan<'a>(catalogue: &'a Catalogue, delivery: &'a Delivery) -> Plan<'a> {
    let decoded = match &delivery.decoded {
        _ if delivery.marker.is_some() => return Plan::Marker,
        Ok(decoded) => decoded,
        Err(rejection) => return Plan::Reject(rejection.clone()),
    };
    match catalogue.orgs.get(&decoded.envelope.org_code) {
        Some(org) => {
            let key = CommandKey { org_id: org.id, command_id: decoded.command_id.clone() };
            Plan::Command { org, decoded, key }
        }
        None => Plan::Reject(Rejection {
            reason: Reason::UnknownOrg,
            // Without the code: dead letters of any number of made-up ones are one group.
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
    /// Where in `records` the commands of this batch are.
    fresh: HashMap<CommandKey, usize>,
    now: DateTime<Utc>,
    holding: Option<BatchHolds>,
    replay_check: ReplayCheck,
    publishers: &'a Publishers,
    /// Replays that take effect with the batch.
    replays: Vec<Replay>,
}

impl Evaluation<'_> {
    /// Processes each delivery, in order. A panic leaves no trace but the evaluation, which is dropped.
    fn run(
        &mut self,
        plans: Vec<Plan<'_>>,
        deliveries: &[&Delivery],
    ) -> Result<Vec<DeliveryOutcome>, BatchError> {
        let _deadline = Deadline::start();
        let plans = plans.into_iter().zip(deliveries).enumerate();
        let process = |(index, (plan, deliveries)): (usize, (Plan<'_>, &&Delivery))| {
            self.process(plan, deliveries, index)
        };
        catch_unwind(AssertUnwindSafe(|| plans.map(process).collect()))
            .map_err(|panic| BatchError::Panicked(panic_message(panic.as_ref())))
    }

    fn process(&mut self, plan: Plan<'_>, delivery: &Delivery, index: usize) -> DeliveryOutcome {
        let (org, decoded, key) = match plan {
            Plan::Command { org, decoded, key } => (org, decoded, key),
            Plan::Reject(rejection) => {
                let verdict = self.replay_check.check(delivery, None, self.publishers);
                if matches!(verdict, Some(Verdict::TakenBack)) {
                    return self.drop_taken_back(delivery);
                }
                return DeliveryOutcome::Rejected(rejection);
            }
            Plan::Marker => return DeliveryOutcome::Marker,
        };
        let known = self
            .inbox
            .get(&key)
            .or_else(|| self.fresh.get(&key).map(|index| &self.records[*index].stored));
        match known {
            Some(stored) if stored.body_hash == decoded.body_hash => {
                if let Some(holding) = &mut self.holding {
                    holding.is_answered(delivery, &key);
                }
                DeliveryOutcome::Answered(Box::new(answer(&key, stored, decoded, true)))
            }
            Some(_) => DeliveryOutcome::Rejected(Rejection {
                reason: Reason::MessageIdReused,
                detail: "this message_id came before with another body: give each command an id of its own".into(),
            }),
            None => {
                let replay = match self.replay_check.check(delivery, Some(&key), self.publishers) {
                    Some(Verdict::TakenBack) => {
                        return self.drop_taken_back(delivery);
                    }
                    Some(Verdict::AlreadyApplied(replay)) => {
                        self.replays.push(replay);
                        if let Some(holding) = &mut self.holding {
                            holding.is_answered(delivery, &key);
                        }
                        return DeliveryOutcome::Dropped(DropReason::AlreadyApplied);
                    }
                    Some(Verdict::Refused(rejection)) => return DeliveryOutcome::Rejected(rejection),
                    Some(Verdict::Counts(replay)) => Some(replay),
                    None => None,
                };
                if let Some(rejection) = &delivery.moved {
                    return DeliveryOutcome::Rejected(rejection.clone());
                }
                if let Some(holding) = &mut self.holding {
                    let customers = if holding.has_wait_queue() {
                        resolve::meant(org, &self.snapshot, &decoded.command)
                    } else {
                        Vec::new()
                    };
                    let body_hash = &decoded.body_hash;
                    match holding.admit(&AdmissionRequest { delivery, key: &key, body_hash, index, customers }) {
                        AdmissionOutcome::Granted => {}
                        AdmissionOutcome::Parked(waiting) => {
                            let id = &decoded.command_id;
                            let event = waiting.map(|waiting| {
                                let envelope = &decoded.envelope;
                                parked_event::event(topology::RESULTS, envelope, id, waiting)
                            });
                            return DeliveryOutcome::Parked(event.map(Box::new));
                        }
                        AdmissionOutcome::Refused(rejection) => return DeliveryOutcome::Rejected(rejection),
                    }
                }
                self.replays.extend(replay);
                let record = self.decide(org, decoded, key);
                let answer = answer(&record.key, &record.stored, decoded, false);
                self.fresh.insert(record.key.clone(), self.records.len());
                self.records.push(record);
                DeliveryOutcome::Answered(Box::new(answer))
            }
        }
    }

    fn drop_taken_back(&mut self, delivery: &Delivery) -> DeliveryOutcome {
        if let Some(holding) = &mut self.holding {
            holding.is_taken_back(delivery);
        }
        DeliveryOutcome::Dropped(DropReason::TakenBack)
    }

    fn decide(&mut self, org: &Org, decoded: &DecodedCommand, key: CommandKey) -> Record {
        failpoint::evaluate(&decoded.command_id);
        let mut outcome = evaluate(org, &mut self.snapshot, &decoded.command, self.now);
        if decoded.envelope.message_id.is_none() {
            let warning = Warning { status: Status::NoMessageId, path: String::new() };
            outcome.warnings.insert(0, warning);
        }
        let stored = stored(org, decoded, &outcome);
        Record { key, stored, effects: outcome.effects, now: self.now }
    }
}

/// What a panic said, if it said anything.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
        .to_owned()
}
