//! Messages whose outside breaks the client that reads them, or the letter that keeps them.

use std::collections::BTreeMap;

use crate::harness::collector::{Collector, Received};
use crate::harness::environment::TestEnv;
use crate::harness::leftovers::assert_nothing_is_left;
use crate::harness::worker::Process;
use crate::harness::workload::{assert_done_in_order, assert_first_results_in_order, steps};
use crate::hostile::raw::{
    APP_ID, CORRELATION_ID, HEADERS, KIND, MESSAGE_ID, REPLY_TO, RawPublisher, Sent, TIMESTAMP,
    long, short,
};
use crate::hostile::{DEAD_LETTERS, DEADLINE, assert_one_generation, workload_env};

const NOT_UTF8: &[u8] = b"not \xff\xfe text";

/// Sends these between good commands; each must become a dead letter for its reason, and nothing
/// else may happen. The worker is a process of its own: some of them have killed it.
async fn become_dead_letters(name: &str, bad: &[(Sent, &str)]) -> Vec<Received> {
    let TestEnv { place, settings, mut rows, mut results, publisher } = workload_env(name).await;
    let good = steps(0..40);
    let (before, after) = good.split_at(20);
    publisher.publish(before).await;
    let mut raw = RawPublisher::open(&place.amqp_url).await;
    for (sent, _) in bad {
        raw.publish(sent).await;
    }
    publisher.publish(after).await;
    let mut worker = Process::start(&settings, "robust");

    assert_done_in_order(&good, &mut results, &mut rows, DEADLINE).await;
    assert_first_results_in_order(&results);
    results.read(good.len() + bad.len(), DEADLINE).await;
    let mut letters = Collector::of_queue(&place.amqp_url, DEAD_LETTERS);
    letters.read(bad.len(), DEADLINE).await;
    let count = |reasons: Vec<String>| {
        reasons.into_iter().fold(BTreeMap::new(), |mut counts, reason| {
            *counts.entry(reason).or_insert(0) += 1;
            counts
        })
    };
    let given = letters.received.iter().map(|letter| letter.header("x-reason").expect("a reason"));
    let expected = bad.iter().map(|(_, reason)| (*reason).to_owned());
    assert_eq!(count(given.collect()), count(expected.collect()));
    assert!(worker.is_running());
    assert_one_generation(&mut rows).await;
    worker.signal("TERM").await;
    assert!(worker.ended().await.success());
    assert_nothing_is_left(&place, &["main"]).await;
    letters.received
}

/// A command whose own content is `{}`, which alone makes a dead letter.
fn sent(routing_key: &[u8], properties: Vec<(u8, Vec<u8>)>) -> Sent {
    Sent { routing_key: routing_key.to_vec(), properties, body: b"{}".to_vec() }
}

fn header(name: &[u8], value: &[u8]) -> (u8, Vec<u8>) {
    (HEADERS, long(&[&short(name), value].concat()))
}

#[tokio::test]
async fn short_strings_that_are_not_utf8_make_dead_letters() {
    let with = |place| sent(b"acme.link", vec![(place, short(NOT_UTF8))]);
    let full = [0xff; 255];
    become_dead_letters(
        "not utf8",
        &[
            (with(MESSAGE_ID), "invalid-text"),
            (with(CORRELATION_ID), "invalid-text"),
            (with(REPLY_TO), "invalid-text"),
            (with(APP_ID), "invalid-text"),
            (sent(b"acme.link", vec![(MESSAGE_ID, short(&full))]), "invalid-text"),
            (sent(b"ac\xffme.link", vec![]), "routing-key"),
            (sent(b"acme.li\xffnk", vec![]), "routing-key"),
            // Nobody reads these, so the body is what they are rejected for.
            (with(KIND), "root-keys"),
            (sent(b"acme.link", vec![header(NOT_UTF8, b"V")]), "root-keys"),
            (
                sent(b"acme.link", vec![header(b"text", &[b"S", &long(&full)[..]].concat())]),
                "root-keys",
            ),
            (
                sent(b"acme.link", vec![header(&full, &[b"S", &long(&full)[..]].concat())]),
                "root-keys",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn tables_without_end_make_dead_letters() {
    /// As many as fit into a frame of 128 KiB, at five and seven bytes each.
    const ARRAYS: usize = 26_000;
    const TABLES: usize = 18_000;
    let array = |value: Vec<u8>| [b"A", &long(&value)[..]].concat();
    let table = |value: Vec<u8>| [b"F", &long(&[&short(b"t")[..], &value].concat())[..]].concat();
    let arrays = (0..ARRAYS).fold(b"V".to_vec(), |value, _| array(value));
    let tables = (0..TABLES).fold(b"V".to_vec(), |value, _| table(value));
    become_dead_letters(
        "deep",
        &[
            (sent(b"acme.link", vec![header(b"deep", &arrays)]), "root-keys"),
            (sent(b"acme.link", vec![header(b"deep", &tables)]), "root-keys"),
        ],
    )
    .await;
}

#[tokio::test]
async fn headers_that_grow_beyond_a_frame_do_not_keep_a_letter_from_its_queue() {
    // Two bytes each, and nine once they are read and written again.
    let numbers: Vec<u8> = (0..60_000).flat_map(|_| [b'b', 1]).collect();
    let array = [b"A", &long(&numbers)[..]].concat();
    // A frame that is full as it comes, with no room for what a letter says.
    let text = [b"S", &long(&vec![b'x'; 130_900])[..]].concat();
    // Three bytes for each that is not UTF-8.
    let bytes = [b"S", &long(&vec![0xff; 60_000])[..]].concat();
    let letters = become_dead_letters(
        "large headers",
        &[
            (sent(b"acme.link", vec![header(b"numbers", &array)]), "root-keys"),
            (sent(b"acme.link", vec![header(b"text", &text)]), "root-keys"),
            (sent(b"acme.link", vec![header(b"bytes", &bytes)]), "root-keys"),
        ],
    )
    .await;
    for letter in &letters {
        assert_eq!(letter.header("x-headers-dropped").as_deref(), Some("1"));
    }
}

#[tokio::test]
async fn headers_that_the_broker_routes_by_double_nothing() {
    let key = |text: &[u8]| [b"S", &long(text)[..]].concat();
    let keys = [key(b"acme.update"), key(b"partner-program.commands.main"), key(b"#")].concat();
    let array = [b"A", &long(&keys)[..]].concat();
    become_dead_letters(
        "copies",
        &[
            (sent(b"acme.link", vec![header(b"CC", &array)]), "root-keys"),
            (sent(b"acme.link", vec![header(b"BCC", &array)]), "root-keys"),
        ],
    )
    .await;
}

#[tokio::test]
async fn no_timestamp_is_too_early_or_too_late() {
    let TestEnv { place, settings, mut rows, mut results, .. } = workload_env("timestamps").await;
    let mut raw = RawPublisher::open(&place.amqp_url).await;
    // The first and the last second, of years with four digits, of what the worker can reckon
    // with, and of what the property can hold.
    let seconds: [u64; 8] = [
        0,
        253_402_300_799,
        253_402_300_800,
        8_210_266_876_799,
        8_210_266_876_800,
        1 << 62,
        1 << 63,
        u64::MAX,
    ];
    let messages = steps(0..seconds.len());
    for (message, seconds) in messages.iter().zip(seconds) {
        let id = message.properties.message_id.as_deref().expect("steps have ids");
        let properties =
            vec![(MESSAGE_ID, short(id.as_bytes())), (TIMESTAMP, seconds.to_be_bytes().to_vec())];
        let routing_key = message.routing_key.as_bytes().to_vec();
        raw.publish(&Sent { routing_key, properties, body: message.body.clone() }).await;
    }
    let mut worker = Process::start(&settings, "timeless");
    assert_done_in_order(&messages, &mut results, &mut rows, DEADLINE).await;
    for (result, seconds) in results.received.iter().zip(seconds) {
        assert!(result.timestamp.is_none_or(|given| given == seconds), "{:?}", result.timestamp);
    }
    worker.signal("TERM").await;
    assert!(worker.ended().await.success());
    assert_nothing_is_left(&place, &["main"]).await;
}
