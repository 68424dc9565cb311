//! A worker without logic: it consumes, runs the same statements, publishes and acks, but decides
//! nothing, keeps no promise, and knows beforehand what it will find. What the worker could reach
//! at most on this machine.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use futures_util::FutureExt;
use futures_util::future::{join_all, try_join_all};
use partner_program_worker::broker::connection::Connection;
use partner_program_worker::broker::consumer::{Consumer, Delivery};
use partner_program_worker::broker::publisher::{Confirming, Publisher};
use partner_program_worker::domain::command::Operation;
use partner_program_worker::domain::enrolment::{Effect, EffectKind, Enrolment, EnrolmentKey};
use partner_program_worker::domain::evaluate::{Counts, Verdict};
use partner_program_worker::domain::identity::CustomerId;
use partner_program_worker::domain::needs::Needs;
use partner_program_worker::domain::program::{Catalogue, OrgId, ProgramId, TierId};
use partner_program_worker::domain::snapshot::Change;
use partner_program_worker::message::Message;
use partner_program_worker::store;
use partner_program_worker::store::command_log::{CommandKey, Record, Stored};
use partner_program_worker::store::commit::Batch;
use partner_program_worker::store::fence::Fence;
use partner_program_worker::store::session::Session;
use partner_program_worker::wire::decode;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::rate::per_second;
use crate::stage::LANE;

const BATCH: usize = 512;
const PREFETCH: u16 = 1999;
const TIMEOUT: Duration = Duration::from_secs(30);
const UNACKED_MAX: Duration = Duration::from_mins(30);
/// Batches whose confirms are out.
const IN_FLIGHT: usize = 2;
/// As long as the result of one item.
const RESULT: &[u8] = &[b'x'; 330];

/// Takes `count` commands of [`crate::commands::singles`] for one org, over so many connections.
pub(crate) async fn run((database, amqp): (String, String), connections: usize, count: usize) {
    let consuming = Connection::open(&amqp, "bare consuming").await.expect("a connection");
    let publishing = Connection::open(&amqp, "bare publishing").await.expect("a connection");
    let mut publisher = Publisher::open(&Arc::new(publishing), TIMEOUT).await.expect("a channel");
    let mut consumer = Consumer::subscribe(&consuming, LANE, PREFETCH, "bare", UNACKED_MAX)
        .await
        .expect("the lane");
    let acknowledger = consumer.acknowledger();
    let (mut sessions, fence, catalogue) = sessions(database, connections).await;
    let (sender, mut sent) = mpsc::channel::<(Confirming, u64)>(IN_FLIGHT);
    let acking = AbortOnDropHandle::new(tokio::spawn(async move {
        while let Some((confirming, tag)) = sent.recv().await {
            confirming.await.expect("it is confirmed");
            acknowledger.ack_through(tag).await.expect("it is acked");
        }
    }));
    let mut done = 0;
    while done < count {
        let batch = gather(&mut consumer).await;
        done += batch.len();
        let tag = batch.last().expect("one at least").tag;
        let size = batch.len().div_ceil(connections);
        let mut batch = batch.into_iter();
        let storing = sessions.drain(..).map(|mut session| {
            let part: Vec<Delivery> = batch.by_ref().take(size).collect();
            let (fence, catalogue) = (fence.clone(), Arc::clone(&catalogue));
            tokio::spawn(async move {
                let results = match part.as_slice() {
                    [] => Vec::new(),
                    part => {
                        apply(&mut session, &fence, &catalogue, part).await.expect("it is stored")
                    }
                };
                (session, results)
            })
        });
        let stored = try_join_all(storing).await.expect("no part panics");
        let (back, results): (Vec<Session>, Vec<Vec<Message>>) = stored.into_iter().unzip();
        sessions = back;
        let confirming = publisher.send(&results.concat()).await.expect("it is sent");
        sender.send((confirming, tag)).await.expect("acks go on");
    }
    drop(sender);
    acking.await.expect("all are acked");
    consumer.close().await;
}

/// What Postgres alone takes of the same statements, over so many connections; a second.
pub(crate) async fn store(database: String, connections: usize, messages: Vec<Message>) -> f64 {
    let (mut sessions, fence, catalogue) = sessions(database, connections).await;
    let count = messages.len();
    let deliveries = messages.into_iter();
    let deliveries: Vec<Delivery> =
        deliveries.map(|message| Delivery { tag: 0, redelivered: false, message }).collect();
    let share = count.div_ceil(connections);
    let began = std::time::Instant::now();
    let storing = sessions.iter_mut().zip(deliveries.chunks(share));
    let storing = storing.map(async |(session, share)| {
        for batch in share.chunks(BATCH) {
            apply(session, &fence, &catalogue, batch).await.expect("it is stored");
        }
    });
    join_all(storing).await;
    per_second(count, began.elapsed())
}

/// So many sessions, the right to commit, and what they all know.
async fn sessions(database: String, connections: usize) -> (Vec<Session>, Fence, Arc<Catalogue>) {
    let first = Session::new(database, "bare".to_owned(), TIMEOUT);
    let mut sessions: Vec<Session> = (1..connections).map(|_| first.another()).collect();
    sessions.push(first);
    let connection = sessions[0].connection().await.expect("a connection");
    let fence = store::fence::acquire(connection, "main", "bare").await.expect("the lane");
    let catalogue = sessions[0].catalogue().await.expect("the catalogue");
    (sessions, fence, catalogue)
}

async fn gather(consumer: &mut Consumer) -> Vec<Delivery> {
    let mut batch = vec![consumer.next().await.expect("a delivery")];
    while batch.len() < BATCH {
        let Some(next) = consumer.next().now_or_never() else { break };
        batch.push(next.expect("a delivery"));
    }
    batch
}

async fn apply(
    session: &mut Session,
    fence: &Fence,
    catalogue: &Catalogue,
    part: &[Delivery],
) -> Result<Vec<Message>, store::error::Error> {
    let org = &catalogue.orgs["org-1"];
    let mut needs = Needs::default();
    let mut records = Vec::with_capacity(part.len());
    let mut states = Vec::with_capacity(part.len());
    let mut messages = Vec::with_capacity(part.len());
    for Delivery { message, .. } in part {
        let operation = operation(&message.routing_key);
        let command = decode::decode(&message.body, operation).expect("it is well-formed");
        needs.add_command(org, &command);
        let key = EnrolmentKey {
            org_id: org.id,
            customer_id: customer(message),
            program_id: program(catalogue, operation),
        };
        states.push((key, after(operation, key.customer_id)));
        records.push(record(message, operation, org.id, &states[states.len() - 1]));
        messages.push(answer(message));
    }
    let keys: Vec<CommandKey> = records.iter().map(|record| record.key.clone()).collect();
    let connection = session.connection().await?;
    store::command_log::find(connection, &keys).await?;
    store::load::load(connection, &needs).await?;
    states.sort_unstable_by_key(|(key, _)| *key);
    let changes: Vec<Change<'_>> = states
        .iter()
        .map(|(key, after)| Change {
            key: *key,
            loaded_version: after.version - 1,
            after,
            membership_id_passes_on: false,
        })
        .collect();
    let batch = Batch {
        records: &records,
        changes: &changes,
        attempts: &[],
        catalogue: catalogue.version,
        replays: &[],
        holds: None,
    };
    store::commit::commit(connection, fence, &batch).await?;
    Ok(messages)
}

fn operation(routing_key: &str) -> Operation {
    let word = routing_key.rsplit('.').next().and_then(Operation::parse);
    word.expect("a routing key of ours")
}

/// Each command names its customer in the header that [`crate::commands`] adds for this.
fn customer(message: &Message) -> CustomerId {
    let id = message.properties.app_id.as_deref().and_then(|id| id.parse().ok());
    CustomerId(id.expect("the command names its customer"))
}

fn program(catalogue: &Catalogue, operation: Operation) -> ProgramId {
    let name = match operation {
        Operation::Link => "plain",
        Operation::Update => "tiered",
        Operation::Delink => "other",
    };
    catalogue.orgs["org-1"].program(name).expect("it is seeded").id
}

fn after(operation: Operation, customer: CustomerId) -> Enrolment {
    let fresh = operation == Operation::Link;
    Enrolment {
        linked: operation != Operation::Delink,
        membership_id: Some(format!("{}-{}", if fresh { "new" } else { "old" }, customer.0)),
        tier: (operation == Operation::Update).then_some(TierId(3)),
        tier_expires_at: None,
        linked_since: Utc::now(),
        version: if fresh { 1 } else { 2 },
    }
}

fn record(
    message: &Message,
    operation: Operation,
    org_id: OrgId,
    (key, after): &(EnrolmentKey, Enrolment),
) -> Record {
    let command_id = message.properties.message_id.clone().expect("it has one");
    let stored = Stored {
        org_code: "org-1".to_owned(),
        body_hash: [0; 32],
        operation,
        verdict: Verdict::Succeeded,
        counts: Counts { total: 1, succeeded: 1, failed: 0 },
        result: RESULT.to_vec(),
        correlation_id: None,
        app_id: message.properties.app_id.clone(),
        user_id: None,
        traceparent: None,
        sent_at: None,
    };
    let effect = Effect {
        kind: EffectKind::Enrolment,
        key: *key,
        before: None,
        after: after.clone(),
        reason: None,
    };
    let key = CommandKey { org_id, command_id };
    Record { key, stored, effects: vec![effect], now: Utc::now() }
}

fn answer(message: &Message) -> Message {
    Message {
        exchange: "partner-program.results".to_owned(),
        routing_key: "org-1.link.succeeded".to_owned(),
        properties: message.properties.clone(),
        body: RESULT.to_vec(),
    }
}
