//! The judge of the fault suite: decides from what was sent, what was heard and what stands in
//! the database whether the promises were kept.
//!
//! It judges by an external record, never by what the worker says of itself, and it returns what
//! it finds instead of failing at the first: the suite takes protections out to see that each is
//! caught (`faults::mutants`). Deliberately absent: any tolerance.

mod witness;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use chrono::DateTime;
use partner_program_worker::message::Message;

use crate::harness::database::{Letter, LogEntry, TestDatabase};
use crate::harness::history::{HistoryRow, by_customer};
use crate::harness::subscriber::Heard;
use crate::harness::workload;
use crate::model::{Answer, Enrolment, Key, Model};

pub(crate) use witness::install;

/// How many violations of one check are told.
const TOLD_MAX: usize = 3;

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Check {
    /// Each confirmed command was either applied or dead-lettered.
    Settled,
    /// Only what the trial doomed is a dead letter, and its letter says of what it died.
    OnlyCulprits,
    /// Each command had its effects once, by the append-only history.
    OneEffect,
    /// First effects came, customer by customer, in the order of each lane's queue, committed by
    /// the lane's holder.
    Order,
    /// Each command was answered, always with the same bytes.
    Answered,
    /// Nothing happened that no command asked for.
    Caused,
    /// Every status and the final state are those of the reference model.
    Lawful,
    /// Each dead letter stands in the archive once, and none is left in its queue.
    Archived,
    /// The queues ran empty.
    Drained,
    /// No transaction, channel or connection was left, no deadlock met.
    Clean,
}

/// A promise that was not kept.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) check: Check,
    pub(crate) what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.check, self.what)
    }
}

/// What was sent, and what has to become of it.
pub(crate) struct Expected {
    /// Confirmed commands in the order in which they were queued, by lane.
    pub(crate) lanes: BTreeMap<&'static str, Vec<Message>>,
    /// The ids of those that have to end as dead letters, and what their letters have to say.
    pub(crate) doomed: BTreeMap<String, String>,
    /// The ids of those that have to be dead-lettered and then applied, at their place, by a
    /// replay: their customers were held.
    pub(crate) replayed: BTreeSet<String>,
    /// Whether commands change lanes: then each customer's take effect in the order of `lanes`,
    /// whichever lane they went through, and none through two.
    pub(crate) is_moving: bool,
    /// What judges the answers; without it (lanes that meddle with each other's customers) only
    /// their consistency is judged.
    pub(crate) law: Option<Model>,
}

impl Expected {
    pub(crate) fn ids(&self) -> BTreeSet<String> {
        self.lanes.values().flatten().map(id).collect()
    }
}

/// What was found.
pub(crate) struct Evidence<'a> {
    pub(crate) heard: &'a [Heard],
    pub(crate) letters: &'a [Letter],
    pub(crate) rows: &'a mut TestDatabase,
}

/// Judges. No violation: all promises were kept.
pub(crate) async fn judge(expected: &Expected, evidence: Evidence<'_>) -> Vec<Violation> {
    let Evidence { heard, letters, rows } = evidence;
    let mut findings = Findings::default();
    let history = rows.history().await;
    let log = rows.log().await;
    let inbox = rows.inbox().await;
    let inbox: BTreeMap<&str, &str> =
        inbox.iter().map(|((_, id), body)| (id.as_str(), body.as_str())).collect();
    let sent = expected.ids();

    let lettered: Vec<&str> = letters.iter().map(|letter| letter.command_id.as_str()).collect();
    settled(&mut findings, expected, &inbox, &lettered);
    only_culprits(&mut findings, expected, letters);
    caused(&mut findings, &sent, &history, &inbox, &lettered);
    archived(&mut findings, &lettered);
    ordered(&mut findings, expected, &log);
    answered(&mut findings, expected, heard, &inbox);
    chained(&mut findings, &history, &rows.enrolments().await);
    witness::judge(&mut findings, rows).await;
    if let Some(law) = &expected.law {
        lawful(&mut findings, expected, law.clone(), &history, &inbox, rows).await;
    }
    findings.0
}

/// What was found so far.
#[derive(Default)]
pub(crate) struct Findings(pub(crate) Vec<Violation>);

impl Findings {
    pub(crate) fn add(&mut self, check: Check, what: impl Into<String>) {
        let what = what.into();
        if self.0.iter().filter(|known| known.check == check).count() < TOLD_MAX {
            self.0.push(Violation { check, what });
        }
    }
}

fn settled(
    findings: &mut Findings,
    expected: &Expected,
    inbox: &BTreeMap<&str, &str>,
    lettered: &[&str],
) {
    let lettered: BTreeSet<&str> = lettered.iter().copied().collect();
    for id in expected.ids() {
        let doomed = expected.doomed.contains_key(&id);
        let (applied, dead) = (inbox.contains_key(id.as_str()), lettered.contains(id.as_str()));
        let wanted = (!doomed, doomed || expected.replayed.contains(&id));
        // A letter that was not due is the matter of `only_culprits`.
        let is_due = wanted.1 || !dead;
        if (applied, dead) != wanted && is_due {
            let what = format!("{id} applied: {applied}, dead-lettered: {dead}");
            findings.add(Check::Settled, what);
        }
    }
}

fn only_culprits(findings: &mut Findings, expected: &Expected, letters: &[Letter]) {
    for Letter { command_id, detail } in letters {
        let says = expected.doomed.get(command_id);
        let is_expected = match says {
            Some(says) => detail.contains(says),
            None => expected.replayed.contains(command_id),
        };
        if !is_expected {
            let wanted = says.map_or_else(|| "none".to_owned(), |says| format!("one of {says:?}"));
            let what = format!("a dead letter of {command_id} where {wanted} was due: {detail}");
            findings.add(Check::OnlyCulprits, what);
        }
    }
}

fn caused(
    findings: &mut Findings,
    sent: &BTreeSet<String>,
    history: &[HistoryRow],
    inbox: &BTreeMap<&str, &str>,
    lettered: &[&str],
) {
    let effects = history.iter().map(|row| row.command_id.as_deref().unwrap_or_default());
    let known = inbox.keys().copied().chain(lettered.iter().copied());
    for id in effects.chain(known).filter(|id| !sent.contains(*id)) {
        findings.add(Check::Caused, format!("nobody sent {id:?}"));
    }
}

fn archived(findings: &mut Findings, lettered: &[&str]) {
    let mut seen = BTreeSet::new();
    for id in lettered.iter().filter(|id| !seen.insert(*id)) {
        findings.add(Check::Archived, format!("{id} is in the archive twice"));
    }
}

fn ordered(findings: &mut Findings, expected: &Expected, log: &[LogEntry]) {
    for (lane, messages) in &expected.lanes {
        let is_of_lane = |entry: &&LogEntry| expected.is_moving || entry.lane == *lane;
        let applied: Vec<&LogEntry> = log.iter().filter(is_of_lane).collect();
        let mut queued: BTreeMap<i64, VecDeque<String>> = BTreeMap::new();
        let mut customers: BTreeMap<String, i64> = BTreeMap::new();
        for message in messages.iter().filter(|message| !expected.doomed.contains_key(&id(message)))
        {
            let customer = workload::customer(message);
            customers.insert(id(message), customer);
            queued.entry(customer).or_default().push_back(id(message));
        }
        for entry in &applied {
            let customer = customers.get(&entry.command_id);
            let next = customer.and_then(|customer| queued.get_mut(customer)?.pop_front());
            if let Some(expected) = next.filter(|expected| *expected != entry.command_id) {
                let what =
                    format!("lane {lane}: {} took effect before {expected}", entry.command_id);
                findings.add(Check::Order, what);
                break;
            }
        }
    }
    let mut epochs: BTreeMap<&str, i64> = BTreeMap::new();
    for LogEntry { lane, lane_epoch, command_id } in log {
        let latest = epochs.entry(lane).or_default();
        if lane_epoch < latest {
            let what =
                format!("lane {lane}: {command_id} was committed by a worker of an earlier epoch");
            findings.add(Check::Order, what);
        }
        *latest = *lane_epoch.max(latest);
    }
}

fn answered(
    findings: &mut Findings,
    expected: &Expected,
    heard: &[Heard],
    inbox: &BTreeMap<&str, &str>,
) {
    let mut answers: BTreeMap<String, BTreeSet<&[u8]>> = BTreeMap::new();
    for Heard { event, .. } in heard {
        let is_rejection = event.routing_key.ends_with(".rejected");
        let id = if is_rejection {
            event.json()["commandId"].as_str().unwrap_or_default().to_owned()
        } else {
            event.command_id()
        };
        if is_rejection && expected.replayed.contains(&id) {
            continue;
        }
        answers.entry(id).or_default().insert(event.body.as_slice());
    }
    for id in expected.ids() {
        let bodies = answers.remove(&id).unwrap_or_default();
        if bodies.len() != 1 {
            findings.add(Check::Answered, format!("{id} has {} answers", bodies.len()));
        } else if let Some(stored) = inbox.get(id.as_str())
            && !bodies.contains(stored.as_bytes())
        {
            findings.add(Check::Answered, format!("{id} was answered otherwise than is stored"));
        }
    }
    for id in answers.keys() {
        findings.add(Check::Caused, format!("an answer to {id:?}, which nobody sent"));
    }
}

/// The rows of an enrolment's history follow from each other, and the last one is its state.
fn chained(findings: &mut Findings, history: &[HistoryRow], enrolments: &BTreeMap<Key, Enrolment>) {
    let mut last: BTreeMap<&Key, &HistoryRow> = BTreeMap::new();
    for row in history {
        let before = last.insert(&row.key, row);
        let (version, values) =
            before.map_or((0, None), |before| (before.version, Some(&before.new)));
        if row.version != version + 1 || row.old.as_ref() != values {
            let id = row.command_id.as_deref().unwrap_or_default();
            let what = format!("{id} did not start from what stood there: {:?}", row.key);
            findings.add(Check::Lawful, what);
        }
    }
    for (key, enrolment) in enrolments {
        if last.get(key).is_none_or(|row| row.version != enrolment.version) {
            findings.add(Check::Lawful, format!("{key:?} is not as its history says"));
        }
    }
}

/// Every effect and every answer is the reference model's.
async fn lawful(
    findings: &mut Findings,
    expected: &Expected,
    mut law: Model,
    history: &[HistoryRow],
    inbox: &BTreeMap<&str, &str>,
    rows: &mut TestDatabase,
) {
    for message in expected.lanes.values().flatten() {
        let id = id(message);
        if expected.doomed.contains_key(&id) {
            continue;
        }
        let mut words = message.routing_key.split('.');
        let (org, operation) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        match law.apply(org, operation, Some(&id), &message.body) {
            Answer::Result { body, .. } if inbox.get(id.as_str()) == Some(&body.as_str()) => {}
            Answer::Result { .. } => {
                findings.add(Check::Lawful, format!("{id} was not answered as the law has it"));
            }
            Answer::Rejected(reason) => {
                findings.add(Check::Lawful, format!("{id} was to be rejected: {reason}"));
            }
        }
    }
    let timeless =
        |row: &HistoryRow| HistoryRow { occurred_at: DateTime::UNIX_EPOCH, ..row.clone() };
    let wanted = law.history.iter().map(|event| HistoryRow::expected(event, DateTime::UNIX_EPOCH));
    let wanted = by_customer(wanted.collect());
    let found = by_customer(history.iter().map(timeless).collect());
    if let Some(at) =
        (0..found.len().max(wanted.len())).find(|at| found.get(*at) != wanted.get(*at))
    {
        let told = |row: Option<&HistoryRow>| {
            row.map_or_else(
                || "nothing".to_owned(),
                |row| format!("{:?} {:?}", row.command_id, row.kind),
            )
        };
        let what = format!("effect {at} is {}, not {}", told(found.get(at)), told(wanted.get(at)));
        findings.add(Check::Lawful, what);
    }
    let mut effects: BTreeMap<&str, usize> = BTreeMap::new();
    for row in history {
        *effects.entry(row.command_id.as_deref().unwrap_or_default()).or_default() += 1;
    }
    let mut lawful: BTreeMap<&str, usize> = BTreeMap::new();
    for row in &wanted {
        *lawful.entry(row.command_id.as_deref().unwrap_or_default()).or_default() += 1;
    }
    for (id, count) in effects {
        let lawful = lawful.get(id).copied().unwrap_or_default();
        if count > lawful {
            findings.add(Check::OneEffect, format!("{id} had {count} effects, not {lawful}"));
        }
    }
    let states = |enrolments: BTreeMap<Key, Enrolment>| -> BTreeMap<Key, Enrolment> {
        let timeless = |row| Enrolment { linked_since: DateTime::UNIX_EPOCH, ..row };
        enrolments.into_iter().map(|(key, row)| (key, timeless(row))).collect()
    };
    if states(rows.enrolments().await) != states(law.enrolments) {
        findings.add(Check::Lawful, "the enrolments are not as the law has them");
    }
}

fn id(message: &Message) -> String {
    message.properties.message_id.clone().expect("the suite's commands have ids")
}
