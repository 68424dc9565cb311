//! Random streams through the real worker, judged by the [model](crate::model): every byte of
//! every result, every row, the order of both, and nothing left behind.

pub(crate) mod pure;

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use partner_program_worker::clock::Clock;
use partner_program_worker::message::Message;

use crate::generate::world::{self, SECOND_LANE, SECOND_LANE_BINDINGS, shards};
use crate::generate::{Sent, stream};
use crate::harness::collector::{Collector, Received};
use crate::harness::database::TestDatabase;
use crate::harness::history::{HistoryRow, by_customer};
use crate::harness::leftovers::assert_nothing_is_left;
use crate::harness::publisher::{Publisher, command};
use crate::harness::random::{Random, seed};
use crate::harness::servers::Place;
use crate::harness::worker::{InProcess, Settings};
use crate::model::{Answer, Model, Org, Program};

const DEAD_LETTERS: &str = "partner-program.dead-letters";

/// How long a stream may take, on a slow machine.
const DEADLINE: Duration = Duration::from_mins(2);

#[tokio::test]
async fn batches_of_one_agree_with_the_model() {
    agrees(1, 400, Catalogue::Stays).await;
}

#[tokio::test]
async fn batches_of_seven_agree_with_the_model() {
    agrees(7, 1500, Catalogue::Stays).await;
}

#[tokio::test]
async fn full_batches_agree_with_the_model() {
    agrees(512, 4000, Catalogue::IsEdited).await;
}

/// A message with what the law says about it.
struct Judged {
    sent: Sent,
    answer: Answer,
}

/// What becomes of the catalogue while the stream goes by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Catalogue {
    Stays,
    /// An import after half of the stream reverses the order of all tiers, with a new one among them.
    IsEdited,
}

async fn agrees(batch: usize, count: usize, catalogue: Catalogue) {
    let mut random = Random::new(seed());
    let now = Utc::now().trunc_subsecs(0);
    let mut model = Model::new(now, world::orgs(now));
    model.enrolments = world::enrolments(&model.orgs, now);
    let stream = stream(&mut random, &model.orgs, now, count);

    let place = Place::new(&format!("model {batch}")).await;
    let settings = Settings::of(&place)
        .with("BATCH_SIZE", batch)
        .with("LANES", format!("{SECOND_LANE}={}", SECOND_LANE_BINDINGS.join(",")));
    settings.declare().await;
    let mut rows = TestDatabase::of(&place).await;
    rows.insert(&model).await;
    let mut results = Collector::of_results(&place.amqp_url).await;

    // Half of what comes first waits when the worker starts, half comes while it works.
    let publisher = Publisher::open(&place.amqp_url).await;
    let messages: Vec<Message> = stream.iter().map(message).collect();
    let before_edit = if catalogue == Catalogue::Stays { count } else { count / 2 };
    let (first, last) = messages.split_at(before_edit);
    let (waiting, coming) = first.split_at(before_edit / 2);
    publisher.publish(waiting).await;
    let worker = InProcess::start(&settings, Clock::fixed(now));
    publisher.publish(coming).await;
    let orgs = edited(&model.orgs);
    if catalogue == Catalogue::IsEdited {
        results.read(before_edit, DEADLINE).await;
        import(&settings, &orgs).await;
        publisher.publish(last).await;
    }
    results.read(count, DEADLINE).await;
    worker.stop().await;

    let mut judged: Vec<Judged> = Vec::with_capacity(count);
    for (place, sent) in stream.into_iter().enumerate() {
        if place == before_edit {
            model.orgs.clone_from(&orgs);
        }
        judged.push(judge(&mut model, sent));
    }
    let history = rows.history().await;
    let expected: Vec<HistoryRow> =
        model.history.iter().map(|event| HistoryRow::expected(event, now)).collect();
    for lane in ["main", SECOND_LANE] {
        let of_lane = |judged: &&Judged| judged.sent.lane == lane;
        check_lane(
            &judged.iter().filter(of_lane).collect::<Vec<_>>(),
            &results.received.iter().filter(|r| lane_of(r) == lane).collect::<Vec<_>>(),
        );
        check_history(
            &expected.iter().filter(|row| lane_of_row(row) == lane).collect::<Vec<_>>(),
            &history.iter().filter(|row| lane_of_row(row) == lane).collect::<Vec<_>>(),
        );
    }
    assert_eq!(rows.enrolments().await, model.enrolments);
    check_inbox(&mut rows, &judged).await;
    check_dead_letters(&place, &judged).await;
    assert_nothing_is_left(&place, &["main", SECOND_LANE]).await;
}

/// The orgs with their tiers in the opposite order, and a new one in second place.
fn edited(orgs: &[Org]) -> Vec<Org> {
    let mut orgs = orgs.to_vec();
    let programs = orgs.iter_mut().flat_map(|org| &mut org.programs);
    for program in programs.filter(|program| !program.tiers.is_empty()) {
        let mut tiers: Vec<&'static str> = program.tiers.iter().copied().rev().collect();
        tiers.insert(1, "Ruby");
        program.tiers = Vec::leak(tiers);
    }
    orgs
}

/// Imports the orgs' programs and tiers, as an operator does.
async fn import(settings: &Settings, orgs: &[Org]) {
    let program = |Program { name, external, active, ends_at, tiers }: &Program| {
        let kind = if *external { "EXTERNAL" } else { "SUPPLEMENTARY" };
        let end = ends_at.map(|end| format!("ends_at = \"{}\"\n", end.to_rfc3339()));
        format!(
            "[[org.program]]\nname = \"{name}\"\nkind = \"{kind}\"\nactive = {active}\ntiers = {tiers:?}\n{}",
            end.unwrap_or_default()
        )
    };
    let org = |Org { code, country_code, programs, .. }: &Org| {
        let programs: String = programs.iter().map(program).collect();
        format!(
            "[[org]]\ncode = \"{code}\"\nname = \"{code}\"\ncountry_code = \"{country_code}\"\n{programs}"
        )
    };
    let text: String = orgs.iter().map(org).collect();
    let file = tempfile::NamedTempFile::with_suffix(".toml").expect("a file");
    std::fs::write(file.path(), text).expect("it is written");
    settings.run(&["import", "catalogue", file.path().to_str().expect("text")]).await;
}

fn judge(model: &mut Model, sent: Sent) -> Judged {
    let answer = match sent.spoiled {
        Some(reason) => Answer::Rejected(reason),
        None => model.apply(sent.org, sent.operation, sent.message_id.as_deref(), &sent.body),
    };
    Judged { sent, answer }
}

fn message(sent: &Sent) -> Message {
    let mut message = command(&sent.routing_key, sent.message_id.as_deref(), sent.body.clone());
    message.properties.correlation_id = sent.correlation_id.clone();
    message.properties.content_type = sent.content_type.map(ToOwned::to_owned);
    message
}

/// Results in the order of the commands, rejections likewise; each exactly once without faults.
fn check_lane(judged: &[&Judged], received: &[&Received]) {
    let (rejections, results): (Vec<&Received>, Vec<&Received>) =
        received.iter().partition(|r| r.routing_key.ends_with(".rejected"));
    let mut results = results.into_iter();
    let mut rejections = rejections.into_iter();
    for Judged { sent, answer } in judged.iter().copied() {
        let about = format!("{sent:?}\nbody {}", String::from_utf8_lossy(&sent.body));
        match answer {
            Answer::Rejected(reason) => {
                let event = rejections.next().expect("a rejection for each rejected command");
                let body = event.json();
                assert_eq!(body["reason"], *reason, "{about}");
                assert_eq!(body["commandId"].as_str(), sent.message_id.as_deref(), "{about}");
                assert_eq!(
                    event.routing_key,
                    format!("{}.{}.rejected", sent.org, sent.operation),
                    "{about}"
                );
            }
            Answer::Result { verdict, total, succeeded, body } => {
                let event = results.next().expect("a result for each command");
                assert_eq!(event.body(), body, "{about}");
                assert_eq!(
                    event.routing_key,
                    format!("{}.{}.{verdict}", sent.org, sent.operation),
                    "{about}"
                );
                let id = sent.message_id.clone().unwrap_or_else(|| event.command_id());
                let correlation_id = sent.correlation_id.as_ref().unwrap_or(&id);
                assert_eq!(event.command_id(), id, "{about}");
                assert_eq!(event.message_id, Some(format!("{id}.result")), "{about}");
                assert_eq!(event.correlation_id.as_ref(), Some(correlation_id), "{about}");
                let counts = [*total, *succeeded, total - succeeded].map(|n| Some(n.to_string()));
                let headers = ["items-total", "items-succeeded", "items-failed"];
                assert_eq!(headers.map(|name| event.header(name)), counts, "{about}");
            }
        }
    }
    assert_eq!(results.next(), None, "a result too many");
    assert_eq!(rejections.next(), None, "a rejection too many");
}

/// Customer by customer: what belongs to none in common need not be in order.
fn check_history(expected: &[&HistoryRow], history: &[&HistoryRow]) {
    let sorted = |rows: &[&HistoryRow]| by_customer(rows.iter().copied().cloned().collect());
    let (expected, history) = (sorted(expected), sorted(history));
    for (place, (expected, written)) in expected.iter().zip(&history).enumerate() {
        let mut written = written.clone();
        if expected.command_id.is_none() {
            // The worker made one up.
            written.command_id = None;
        }
        assert_eq!(written, *expected, "history row {place}");
    }
    assert_eq!(history.len(), expected.len(), "history rows");
}

/// One row for each command that was answered, with the body that was published.
async fn check_inbox(rows: &mut TestDatabase, judged: &[Judged]) {
    let mut expected: BTreeMap<(String, String), String> = BTreeMap::new();
    let mut without_id = 0;
    for Judged { sent, answer } in judged {
        if let Answer::Result { body, .. } = answer {
            match &sent.message_id {
                Some(id) => {
                    expected.insert((sent.org.to_owned(), id.clone()), body.clone());
                }
                None => without_id += 1,
            }
        }
    }
    let inbox = rows.inbox().await;
    assert_eq!(inbox.len(), expected.len() + without_id, "inbox rows");
    for (key, body) in expected {
        assert_eq!(inbox.get(&key), Some(&body), "{key:?}");
    }
}

async fn check_dead_letters(place: &Place, judged: &[Judged]) {
    let letter = |id: &Option<String>, body: &[u8]| (id.clone(), body.to_vec());
    let mut expected: Vec<_> = judged
        .iter()
        .filter(|judged| matches!(judged.answer, Answer::Rejected(_)))
        .map(|judged| letter(&judged.sent.message_id, &judged.sent.body))
        .collect();
    let mut queue = Collector::of_queue(&place.amqp_url, DEAD_LETTERS);
    let letters = queue.read(expected.len(), DEADLINE).await;
    let mut letters: Vec<_> = letters.iter().map(|l| letter(&l.message_id, &l.body)).collect();
    expected.sort();
    letters.sort();
    assert_eq!(letters, expected);
}

/// Ids begin with the shard's name.
fn lane_of(received: &Received) -> &'static str {
    let id = received.correlation_id.as_deref().expect("results have a correlation id");
    let id = id.strip_prefix("c-").unwrap_or(id);
    let shard = id.split('-').next().expect("a shard");
    shards().iter().find(|known| known.name == shard).expect("a known shard").lane
}

fn lane_of_row(row: &HistoryRow) -> &'static str {
    let (org, customer_id, _) = &row.key;
    let place = usize::try_from(customer_id - 1).expect("from 1");
    shards()
        .iter()
        .find(|shard| shard.org == org && shard.customers.contains(&place))
        .expect("a known customer")
        .lane
}

#[test]
fn a_seed_always_gives_the_same_stream() {
    let now = DateTime::UNIX_EPOCH;
    let bodies = |seed| {
        let stream = stream(&mut Random::new(seed), &world::orgs(now), now, 50);
        stream.into_iter().map(|sent| sent.body).collect::<Vec<_>>()
    };
    assert_eq!(bodies(7), bodies(7));
    assert_ne!(bodies(7), bodies(8));
}
