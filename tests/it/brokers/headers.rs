//! Headers that cost the broker time, or that fit no frame once they are written again.

use partner_program_worker::message::Message;

use crate::brokers::{DEADLINE, env, scene_at};
use crate::dead_letters::dead_letters;
use crate::harness::collector::Collector;
use crate::harness::environment::TestEnv;
use crate::harness::eventually;
use crate::harness::leftovers::assert_nothing_is_left;
use crate::harness::publisher::command;
use crate::harness::servers::{Lent, Place};
use crate::harness::worker::Process;
use crate::harness::workload::{assert_done_in_order, steps};
use crate::hostile::raw::{HEADERS, RawPublisher, Sent, long, short};

const DEAD_LETTERS: &str = "partner-program.dead-letters";

/// A command that its body alone makes a dead letter.
fn with_header(value: &[u8]) -> Sent {
    let header = (HEADERS, long(&[&short(b"own"), value].concat()));
    Sent { routing_key: b"acme.link".to_vec(), properties: vec![header], body: b"{}".to_vec() }
}

/// Sets it for connections that are made from now on.
fn frame_max(bytes: u32) -> String {
    format!("application:set_env(rabbit, frame_max, {bytes}).")
}

/// A table in a table, and so on.
fn nested_tables(levels: usize) -> Vec<u8> {
    let table = |value: Vec<u8>| [b"F", &long(&[&short(b"t")[..], &value].concat())[..]].concat();
    (0..levels).fold(b"V".to_vec(), |value, _| table(value))
}

/// The time that a broker from 4.0 on takes over a delivery grows with the square of the levels: some two
/// seconds for as many as fit into 128 KB, of which dozens stall a lane, and here, with larger frames, more
/// than ten for each.
#[tokio::test]
async fn commands_with_deep_headers_do_not_stall_a_lane() {
    const DEEP: usize = 1;
    const LEVELS: usize = 50_000;
    let lent = Lent::take().await;
    lent.rabbitmq.control(&["eval", &frame_max(400_000)]).await;
    let place = Place::on(&lent.servers, "deep").await;
    let TestEnv { place, settings, mut rows, mut results, publisher } = scene_at(place).await;
    let good = steps(0..40);
    let (before, after) = good.split_at(20);
    publisher.publish(before).await;
    let mut raw = RawPublisher::open(&place.amqp_url).await;
    let deep = with_header(&nested_tables(LEVELS));
    for _ in 0..DEEP {
        raw.publish(&deep).await;
    }
    publisher.publish(after).await;
    let mut worker = Process::start(&settings, "patient");
    assert_done_in_order(&good, &mut results, &mut rows, DEADLINE).await;
    let mut letters = Collector::of_queue(&place.amqp_url, DEAD_LETTERS);
    letters.read(DEEP, DEADLINE).await;
    assert_eq!(rows.count("select epoch from lane where name = 'main'").await, 1, "generations");
    worker.signal("TERM").await;
    assert!(worker.ended().await.success());
    assert_nothing_is_left(&place, &["main"]).await;
    lent.rabbitmq.control(&["eval", &frame_max(131_072)]).await;
}

#[tokio::test]
async fn a_letter_fits_the_frames_of_its_broker() {
    let lent = Lent::take().await;
    lent.rabbitmq.control(&["eval", &frame_max(16_384)]).await;
    let place = Place::on(&lent.servers, "small_frames").await;
    let TestEnv { place, settings, mut rows, mut results, publisher } = scene_at(place).await;
    let good = steps(0..40);
    publisher.publish(&good[..20]).await;
    let mut raw = RawPublisher::open(&place.amqp_url).await;
    // It fits a frame, and with what a letter says of its death it does not.
    raw.publish(&with_header(&[b"S", &long(&[0xff; 15_500])[..]].concat())).await;
    publisher.publish(&good[20..]).await;
    let mut worker = Process::start(&settings, "frugal");
    assert_done_in_order(&good, &mut results, &mut rows, DEADLINE).await;
    let mut letters = Collector::of_queue(&place.amqp_url, DEAD_LETTERS);
    letters.read(1, DEADLINE).await;
    let letter = &letters.received[0];
    assert_eq!(letter.header("x-reason").as_deref(), Some("root-keys"));
    assert_eq!(letter.header("x-headers-dropped").as_deref(), Some("1"));
    assert_eq!(rows.count("select epoch from lane where name = 'main'").await, 1, "generations");
    worker.signal("TERM").await;
    assert!(worker.ended().await.success());
    assert_nothing_is_left(&place, &["main"]).await;
    lent.rabbitmq.control(&["eval", &frame_max(131_072)]).await;
}

/// An AMQP 1.0 or STOMP client may have such a header; one of AMQP 0-9-1 would lose its channel, as we
/// would if we published it again.
#[tokio::test]
async fn a_replay_goes_without_headers_that_the_broker_refuses() {
    let TestEnv { place, settings, mut rows, mut results, publisher } = env("no_list").await;
    let settings = settings.with("ARCHIVE_DEAD_LETTERS", true);
    let good = steps(0..1);
    let lost = Message { routing_key: "nobody.link".into(), ..command("", Some("x"), b"{}") };
    publisher.publish(&[lost]).await;
    let worker = Process::start(&settings, "lenient");
    eventually(DEADLINE, "the letter is archived", async || {
        (rows.count("select count(*) from dead_letter").await == 1).then_some(())
    })
    .await;
    let body = std::str::from_utf8(&good[0].body).expect("steps are text");
    let id = good[0].properties.message_id.as_deref().expect("steps have ids");
    rows.execute(&format!(
        "update dead_letter set headers = '{{\"CC\": \"text\", \"BCC\": [1], \"own\": \"kept\"}}', \
         routing_key = 'acme.link', org_code = 'acme', command_id = '{id}', body = convert_to('{body}', 'UTF8')"
    ))
    .await;
    dead_letters(&settings, &["replay", "--all", "--reason", "t", "--yes", "--wait", "60"])
        .await
        .expect(0);
    assert_done_in_order(&good, &mut results, &mut rows, DEADLINE).await;
    drop(worker);
    assert_nothing_is_left(&place, &["main"]).await;
}
