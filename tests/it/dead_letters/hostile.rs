//! Into the archive: what a publisher may make of a letter's properties, and what the database may
//! make of a letter.

use crate::dead_letters::archive::{header, sent};
use crate::dead_letters::{LANE_QUEUE, QUEUE, archived, broken, env};
use crate::harness::random::{Random, seed};
use crate::harness::worker::Process;
use crate::hostile::raw::{
    APP_ID, CORRELATION_ID, HEADERS, KIND, MESSAGE_ID, REPLY_TO, RawPublisher, Sent, TIMESTAMP,
    long, short,
};

/// A field table's value: a whole number.
fn whole(number: i64) -> Vec<u8> {
    [&b"l"[..], &number.to_be_bytes()].concat()
}

fn text(text: &[u8]) -> Vec<u8> {
    [&b"S"[..], &long(text)].concat()
}

/// A field table's value: a table of these fields.
fn table(fields: &[(&[u8], Vec<u8>)]) -> Vec<u8> {
    let fields: Vec<Vec<u8>> =
        fields.iter().map(|(name, value)| [&short(name), &value[..]].concat()).collect();
    [&b"F"[..], &long(&fields.concat())].concat()
}

/// The headers of a message that says to have died at this time, in seconds, and so often.
fn forged_death(seconds: i64, count: i64) -> Vec<u8> {
    let death = table(&[
        (b"reason", text(b"expired")),
        (b"queue", text(LANE_QUEUE.as_bytes())),
        (b"exchange", text(b"e")),
        (b"count", whole(count)),
        (b"time", whole(seconds)),
    ]);
    long(&[&short(b"x-death"), &b"A"[..], &long(&death)].concat())
}

/// A time before Postgres's first one, in seconds.
const BEFORE_POSTGRES: i64 = -300_000_000_000;

#[tokio::test]
async fn times_that_can_not_be_hold_up_no_letter() {
    let mut env = env("impossible times").await;
    let mut raw = RawPublisher::open(&env.place.amqp_url).await;
    let times = [
        BEFORE_POSTGRES,
        // The first and the last year of the program's own calendar, and what no calendar has.
        -8_334_601_228_800,
        8_210_266_876_799,
        i64::MIN,
        i64::MAX,
        0,
        -1,
    ];
    for (number, seconds) in times.into_iter().enumerate() {
        let properties = vec![
            (HEADERS, forged_death(seconds, i64::MAX)),
            (TIMESTAMP, seconds.to_be_bytes().to_vec()),
        ];
        raw.publish_to(QUEUE, &sent(properties, format!("died then {number}").into_bytes())).await;
    }
    let worker = Process::start(&env.settings, "archivist");
    env.publisher.publish(&[broken(1)]).await;
    archived(&mut env, times.len() + 1).await;
    drop(worker);
    let letters = env.rows.archived_bodies().await;
    assert_eq!(letters.len(), times.len() + 1);
    let kept = format!(
        "select count(*) from dead_letter where reason = 'expired' and lane = 'main' \
         and (provenance #>> '{{x-death,0,time}}')::bigint in ({}) \
         and last_died_at between now() - interval '60 years' and now() + interval '1 hour'",
        times.map(|seconds| seconds.to_string()).join(", "),
    );
    assert_eq!(env.rows.count(&kept).await, times.len(), "what was said is kept");
}

/// Any value of a field table, and some that are odd.
fn any_value(random: &mut Random, depth: usize) -> Vec<u8> {
    let odd = [0, 1, -1, i64::MIN, i64::MAX, BEFORE_POSTGRES, 1 << 40, 253_402_300_800];
    match random.below(if depth > 3 { 9 } else { 11 }) {
        0 => b"V".to_vec(),
        1 => vec![b't', u8::from(random.chance(50))],
        2 => whole(random.pick(&odd)),
        3 => [&b"T"[..], &random.pick(&odd).to_be_bytes()].concat(),
        4 => {
            // The broker takes no infinite ones.
            let number: f64 = random.pick(&[0.0, -0.0, 1e308, -1e308, 5e-324]);
            [&b"d"[..], &number.to_be_bytes()].concat()
        }
        5 => [&[b'D', 255][..], &i32::MIN.to_be_bytes()].concat(),
        6 => [&b"x"[..], &long(&any_text(random, 300))].concat(),
        7 | 8 => text(&any_text(random, 3_000)),
        9 => {
            let values: Vec<Vec<u8>> =
                (0..random.below(4)).map(|_| any_value(random, depth + 1)).collect();
            [&b"A"[..], &long(&values.concat())].concat()
        }
        _ => {
            let names = ["a", "", "nul\0", "time", "\u{fffd}", "reason"];
            let fields: Vec<(&str, Vec<u8>)> = (0..random.below(4))
                .map(|_| (random.pick(&names), any_value(random, depth + 1)))
                .collect();
            let fields: Vec<_> =
                fields.iter().map(|(name, value)| (name.as_bytes(), value.clone())).collect();
            table(&fields)
        }
    }
}

/// Any bytes, or a text that something may stumble over.
fn any_text(random: &mut Random, bytes_max: usize) -> Vec<u8> {
    const TEXTS: [&str; 9] = [
        "",
        "\0",
        "\\u0000",
        "{\"a\":1}",
        "/linkCustomers/0: x",
        "infinity",
        "\u{10ffff}\u{1f600}\u{85}\u{1}",
        "İΣß",
        "99999999999999999999999999999999999999",
    ];
    if random.chance(50) {
        return random.pick(&TEXTS).repeat(random.below(6)).into_bytes();
    }
    (0..random.below(bytes_max)).map(|_| u8::try_from(random.below(256)).unwrap_or(0)).collect()
}

fn any_header(random: &mut Random) -> Vec<u8> {
    const NAMES: [&str; 14] = [
        "own",
        "nul\0",
        "x-death",
        "x-reason",
        "x-detail",
        "x-lane",
        "x-worker",
        "x-attempts",
        "x-dead-letter-id",
        "x-dead-lettered-at",
        "x-original-exchange",
        "x-original-routing-key",
        "x-user-id",
        "replay-of",
    ];
    let name = random.pick(&NAMES);
    let value = match name {
        "x-death" if random.chance(70) => {
            let mut fields = vec![(&b"reason"[..], text(b"expired"))];
            for name in [&b"queue"[..], b"exchange", b"count", b"time", b"routing-keys"] {
                let value = match name {
                    b"queue" => text(&any_text(random, 250)),
                    b"routing-keys" => [&b"A"[..], &long(&text(&any_text(random, 250)))].concat(),
                    _ => any_value(random, 3),
                };
                fields.push((name, value));
            }
            [&b"A"[..], &long(&table(&fields))].concat()
        }
        "replay-of" if random.chance(50) => text(b"0e5ad0a4-5a54-8d7b-9c62-6f0d7d7c3b0a"),
        _ => any_value(random, 0),
    };
    [&short(name.as_bytes()), &value[..]].concat()
}

#[tokio::test]
async fn any_message_is_archived_with_all_that_it_says() {
    const LETTERS: usize = 800;
    let mut random = Random::new(seed());
    let mut env = env("any letters").await;
    let mut raw = RawPublisher::open(&env.place.amqp_url).await;
    for number in 0..LETTERS {
        let mut properties = Vec::new();
        let headers: Vec<Vec<u8>> = (0..random.below(4)).map(|_| any_header(&mut random)).collect();
        properties.push((HEADERS, long(&headers.concat())));
        for place in [CORRELATION_ID, REPLY_TO, MESSAGE_ID, KIND, APP_ID] {
            if random.chance(30) {
                properties.push((place, short(&any_text(&mut random, 42))));
            }
        }
        if random.chance(30) {
            let seconds = random.pick(&[0, u64::MAX, 8_210_266_876_799, 253_402_300_800]);
            properties.push((TIMESTAMP, seconds.to_be_bytes().to_vec()));
        }
        raw.publish_to(QUEUE, &sent(properties, format!("letter {number}").into_bytes())).await;
    }
    let mut worker = Process::start(&env.settings, "archivist");
    archived(&mut env, LETTERS).await;
    worker.signal("TERM").await;
    assert!(worker.ended().await.success());
    assert_eq!(env.rows.archived_bodies().await.len(), LETTERS);
    let less = "select count(*) from dead_letter where detail like '%refused%'";
    assert_eq!(env.rows.count(less).await, 0, "{}", worker.words());
}

/// As a later schema might, or a defect in this one.
#[tokio::test]
async fn a_letter_that_the_database_refuses_holds_up_no_other() {
    let mut env = env("refused letters").await;
    env
        .rows
        .execute(
            "alter table dead_letter add constraint tested_headers check (not headers ? 'refused'), \
             add constraint tested_key check (routing_key <> 'refused.link'), \
             add constraint tested_body check (position('refused'::bytea in body) = 0)",
        )
        .await;
    let mut raw = RawPublisher::open(&env.place.amqp_url).await;
    let headers = vec![(HEADERS, long(&header(b"refused", b"yes")))];
    raw.publish_to(QUEUE, &sent(headers, b"headers".to_vec())).await;
    raw.publish_to(QUEUE, &sent(vec![], b"a refused body".to_vec())).await;
    raw.publish_to(
        QUEUE,
        &Sent {
            routing_key: b"acme.link".to_vec(),
            properties: vec![(HEADERS, forged_death(0, 1))],
            body: b"good".to_vec(),
        },
    )
    .await;
    let worker = Process::start(&env.settings, "archivist");
    env.publisher.publish(&[broken(1)]).await;
    archived(&mut env, 4).await;
    drop(worker);
    let bodies = env.rows.archived_bodies().await;
    assert_eq!(bodies[..3], [b"headers".to_vec(), Vec::new(), b"good".to_vec()]);
    let details = "select detail from dead_letter order by sequence limit 2";
    let details = env.rows.texts(details).await;
    assert!(details[0].contains("left out"), "{details:?}");
    assert!(details[1].contains("SHA-256") && details[1].contains("14 bytes"), "{details:?}");
}
