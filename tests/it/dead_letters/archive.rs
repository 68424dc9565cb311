//! Into the archive: once, whatever dies, and whatever it is.

use lapin::options::BasicNackOptions;
use serde_json::json;
use std::collections::BTreeSet;

use futures_util::StreamExt;
use partner_program_worker::message::Message;

use crate::dead_letters::{
    DEADLINE, LANE_QUEUE, QUEUE, archived, broken, bury, dead_letters, env, rows,
};
use crate::harness::collector::try_subscribe;
use crate::harness::database::TestDatabase;
use crate::harness::eventually;
use crate::harness::worker::{Process, close_workers_connections};
use crate::harness::workload;
use crate::hostile::raw::{HEADERS, MESSAGE_ID, RawPublisher, Sent, long, short};

const MANY: usize = 3_000;

#[tokio::test]
async fn each_letter_is_archived_once_though_workers_die_and_connections_break() {
    let mut env = env("letters through faults").await;
    let broken: Vec<Message> = (0..MANY).map(broken).collect();
    env.publisher.publish(&broken).await;
    let mut worker = Process::start(&env.settings, "worker-0");
    for (death, progress) in (1..).zip([MANY / 8, MANY / 4, MANY / 2]) {
        let rows = &mut env.rows;
        eventually(DEADLINE, "letters are archived", async || {
            (rows.count("select count(*) from dead_letter").await >= progress).then_some(())
        })
        .await;
        if death == 2 {
            close_workers_connections(&env.place).await;
        } else {
            worker.kill().await;
            worker = Process::start(&env.settings, &format!("worker-{death}"));
        }
    }
    archived(&mut env, MANY).await;
    eventually(DEADLINE, "the lane is empty", async || {
        super::is_empty(&env.place, LANE_QUEUE).then_some(())
    })
    .await;
    archived(&mut env, MANY).await;
    let commands = env.rows.archived_commands().await;
    assert_eq!(commands.len(), MANY, "letters");
    assert_eq!(commands.iter().collect::<BTreeSet<_>>().len(), MANY, "commands");
    // The kept counts are those of the letters.
    let counted = "select sum(letters)::bigint from dead_letter_group where state = 'open'";
    assert_eq!(env.rows.count(counted).await, MANY, "counted");
    let hours = "select sum(letters)::bigint from dead_letter_group_hour";
    assert_eq!(env.rows.count(hours).await, MANY, "by hour");
}

#[tokio::test]
async fn a_letter_that_a_dying_worker_has_in_hand_is_not_lost() {
    let mut env = env("a letter in hand").await;
    let mut locking = TestDatabase::of(&env.place).await;
    locking.execute("begin; lock table dead_letter in exclusive mode").await;
    let mut worker = Process::start(&env.settings, "dying");
    env.publisher.publish(&(0..10).map(broken).collect::<Vec<_>>()).await;
    let rows = &mut env.rows;
    eventually(DEADLINE, "letters are about to be stored", async || {
        let waiting = "select count(*) from pg_stat_activity where datname = current_database() \
                       and application_name like '%archive%' and wait_event_type = 'Lock'";
        (rows.count(waiting).await > 0).then_some(())
    })
    .await;
    worker.kill().await;
    locking.execute("rollback").await;
    let worker = Process::start(&env.settings, "heir");
    archived(&mut env, 10).await;
    drop(worker);
    assert_eq!(env.rows.archived_commands().await.len(), 10, "letters");
}

/// A message on its way past the worker, right among the dead letters.
pub(crate) fn sent(properties: Vec<(u8, Vec<u8>)>, body: Vec<u8>) -> Sent {
    Sent { routing_key: b"acme.link".to_vec(), properties, body }
}

pub(crate) fn header(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&short(name), &b"S"[..], &long(value)].concat()
}

#[tokio::test]
async fn whatever_lies_in_the_queue_is_archived_as_it_is() {
    let mut env = env("hostile letters").await;
    let headers = |fields: &[Vec<u8>]| vec![(HEADERS, long(&fields.concat()))];
    let deep = b"A\0\0\0\x05A\0\0\0\0".to_vec();
    let bodies: Vec<Sent> = vec![
        sent(vec![], b"no properties at all".to_vec()),
        sent(vec![], b"\xff\xfe\0 no text".to_vec()),
        sent(vec![], vec![b'x'; 3 << 20]),
        sent(vec![(MESSAGE_ID, short(b"nul \0 in \xff it"))], b"odd id".to_vec()),
        sent(headers(&[header(b"nul\0name", b"nul \0 value \xc3")]), b"odd header".to_vec()),
        sent(headers(&[header(b"long", &vec![b'h'; 100_000])]), b"long header".to_vec()),
        sent(
            headers(&[header(b"x-detail", &vec![b'd'; 50_000]), header(b"x-reason", b"not-json")]),
            b"long detail".to_vec(),
        ),
        sent(
            headers(&[
                header(b"x-dead-letter-id", b"0e5ad0a4-5a54-8d7b-9c62-6f0d7d7c3b0a"),
                header(b"x-reason", b"not-json"),
            ]),
            b"forged id".to_vec(),
        ),
        sent(
            headers(&[header(b"x-death", b"forged"), header(b"replay-of", b"nobody")]),
            b"forged death".to_vec(),
        ),
        sent(headers(&[[&short(b"x-death"), &deep[..]].concat()]), b"odd death".to_vec()),
        Sent { routing_key: vec![b'.'; 255], properties: vec![], body: b"odd key".to_vec() },
        Sent {
            routing_key: b"\0\xff.link".to_vec(),
            properties: vec![],
            body: b"odd org".to_vec(),
        },
    ];
    let mut raw = RawPublisher::open(&env.place.amqp_url).await;
    for sent in &bodies {
        raw.publish_to(QUEUE, sent).await;
    }
    env.publisher.publish(&[broken(1)]).await;
    let worker = Process::start(&env.settings, "archivist");
    archived(&mut env, bodies.len() + 1).await;
    drop(worker);
    let kept: BTreeSet<Vec<u8>> = env.rows.archived_bodies().await.into_iter().collect();
    // The broker gave up a larger one by itself: no worker has cut it before.
    let kept_of = |body: Vec<u8>| if body.len() > 1 << 20 { body[..4096].to_vec() } else { body };
    let mut given: BTreeSet<Vec<u8>> = bodies.into_iter().map(|sent| kept_of(sent.body)).collect();
    given.insert(broken(1).body);
    assert_eq!(kept, given);
    let unknown =
        rows(&dead_letters(&env.settings, &["list", "--cause", "unknown"]).await.expect(0));
    assert_eq!(unknown.len(), given.len() - 1, "nobody said why these died");
    for letter in unknown {
        let detail = letter["detail"].as_str().expect("a detail");
        assert!(!detail.contains("refused"), "all of it is kept: {detail}");
        let id = letter["id"].as_str().expect("an id");
        dead_letters(&env.settings, &["show", id]).await.expect(0);
    }
}

#[tokio::test]
async fn a_letter_of_the_broker_keeps_the_brokers_reason() {
    let mut env = env("letters of the broker").await;
    let mut expiring = workload::step(1);
    expiring.properties.message_id = Some("rejected".to_owned());
    env.publisher.publish(&[expiring.clone()]).await;
    let (connection, mut consumer) =
        try_subscribe(&env.place.amqp_url, LANE_QUEUE).await.expect("the broker answers");
    let delivery = consumer.next().await.expect("it comes").expect("it comes");
    delivery.nack(BasicNackOptions::default()).await.expect("it is rejected");
    drop(connection);
    let worker = Process::start(&env.settings, "archivist");
    archived(&mut env, 1).await;
    drop(worker);
    let letters = rows(&dead_letters(&env.settings, &["list"]).await.expect(0));
    let letter = &letters[0];
    assert_eq!(letter["reason"], "rejected");
    assert_eq!((&letter["lane"], &letter["org"]), (&json!("main"), &json!("acme")));
    assert_eq!(letter["command_id"], "rejected");
    let shown = dead_letters(&env.settings, &["show", letter["id"].as_str().expect("an id")]).await;
    assert_eq!(shown.expect(0).json()["routing_key"], json!(expiring.routing_key));
}

#[tokio::test]
async fn the_same_letter_that_dies_again_stays_one_and_is_open_again() {
    let mut env = env("the same letter").await;
    let same = broken(7);
    bury(&mut env, std::slice::from_ref(&same)).await;
    dead_letters(&env.settings, &["discard", "--all", "--yes", "--reason", "test"]).await.expect(0);
    let worker = Process::start(&env.settings, "again");
    env.publisher.publish(&[same]).await;
    let rows_of = &mut env.rows;
    eventually(DEADLINE, "it is open again", async || {
        (rows_of.count("select count(*) from dead_letter where state = 'open'").await == 1)
            .then_some(())
    })
    .await;
    drop(worker);
    assert_eq!(env.rows.count("select deaths::bigint from dead_letter").await, 2, "deaths");
}
