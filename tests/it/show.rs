//! The views of operators: what was applied, who somebody is, what happened to them.

use std::process::{Command, Output};

use lapin::options::{BasicGetOptions, QueueBindOptions, QueueDeclareOptions, QueuePurgeOptions};
use lapin::types::FieldTable;
use serde_json::{Value, json};
use sqlx::Connection;

use crate::harness::database::{TestDatabase, connect};
use crate::harness::servers::Place;

fn run(place: &Place, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_partner-program"))
        .args(arguments)
        .env_clear()
        .env("DATABASE_URL", &place.database_url)
        .env("AMQP_URL", &place.amqp_url)
        .output()
        .unwrap()
}

/// Standard output of a run that exits with `code`.
fn stdout(place: &Place, arguments: &[&str], code: i32) -> String {
    let output = run(place, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn document(place: &Place, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["-o", "json"]].concat();
    serde_json::from_str(&stdout(place, &arguments, 0)).unwrap()
}

async fn place_with_a_customer(name: &str) -> Place {
    let place = Place::new(name).await;
    let mut connection = connect(&place.database_url).await.unwrap();
    sqlx::raw_sql(CUSTOMER).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    place
}

#[tokio::test]
async fn a_command_is_shown_with_its_result() {
    let place = place_with_a_customer("show_command").await;
    let command = ["show", "command", "--org", "acme", "c-1"];
    let table = stdout(&place, &command, 0);
    for part in ["c-1", "link", "succeeded", "main, epoch 3", "2 total", "\"ok\": true"] {
        assert!(table.contains(part), "{part}: {table}");
    }
    let shown = document(&place, &command);
    assert_eq!(shown["result"], json!({ "ok": true }));
    assert_eq!(shown["items_total"], 2);
    assert_eq!(shown["user_id"], "pos");
}

#[tokio::test]
async fn a_customer_is_found_by_each_identifier() {
    let place = place_with_a_customer("show_customer").await;
    let identifiers = [
        ["--id", "7"],
        ["--mobile", "9876543210"],
        ["--mobile", "+91 98765 43210"],
        ["--email", "JANE@example.com"],
        ["--external-id", "CRM-7"],
    ];
    for identifier in identifiers {
        let arguments = [&["show", "customer", "--org", "acme"][..], &identifier].concat();
        let shown = document(&place, &arguments);
        assert_eq!(shown["id"], 7, "{identifier:?}");
        let enrolment = &shown["enrolments"][0];
        assert_eq!(enrolment["program"], "Miles");
        assert_eq!(enrolment["tier"], "Gold");
        assert_eq!(enrolment["linked"], true);
    }
    let table = stdout(&place, &["show", "customer", "--org", "acme", "--id", "7"], 0);
    insta::assert_snapshot!("customer", table);
}

#[tokio::test]
async fn history_is_told_newest_first() {
    let place = place_with_a_customer("show_history").await;
    let history = ["show", "history", "--org", "acme", "--id", "7"];
    insta::assert_snapshot!("history", stdout(&place, &history, 0));
    let shown = document(&place, &[&history[..], &["--limit", "1"]].concat());
    assert_eq!(shown.as_array().unwrap().len(), 1);
    assert_eq!(shown[0]["kind"], "UPGRADE");
    assert_eq!(shown[0]["old"]["tier"], "Silver");
    assert_eq!(shown[0]["new"]["tier"], "Gold");
}

#[tokio::test]
async fn what_is_not_there_exits_with_3_and_tells_no_personal_data() {
    let place = place_with_a_customer("show_nothing").await;
    let cases = [
        &["show", "command", "--org", "acme", "c-2"][..],
        &["show", "command", "--org", "globex", "c-1"],
        &["show", "customer", "--org", "globex", "--id", "7"],
        &["show", "customer", "--org", "acme", "--email", "nobody@example.com"],
        &["show", "history", "--org", "acme", "--mobile", "5550000000"],
    ];
    for arguments in cases {
        let output = run(&place, arguments);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(errors.lines().count(), 1, "{errors}");
        assert!(!errors.contains("nobody") && !errors.contains("555"), "{errors}");
    }
    stdout(&place, &["show", "customer", "--org", "acme", "--mobile", "12"], 2);
    stdout(&place, &["show", "customer", "--org", "acme"], 2);
}

#[tokio::test]
async fn migrate_says_what_is_pending_and_applies_it_once() {
    let place = Place::without_migrations("show_migrate").await;
    let pending = stdout(&place, &["migrate", "--check"], 5);
    assert!(pending.contains("enrolments"), "{pending}");
    assert_eq!(stdout(&place, &["migrate"], 0), pending);
    assert_eq!(stdout(&place, &["migrate", "--check"], 0), "");
    assert_eq!(document(&place, &["migrate"]), json!([]));
}

#[tokio::test]
async fn doctor_finds_nothing_wrong_with_a_place_that_is_ready() {
    let place = Place::new("show_doctor").await;
    stdout(&place, &["topology", "apply"], 0);
    let checks = document(&place, &["doctor"]);
    let state = |name: &str| {
        let named = |check: &&Value| check["check"] == name;
        let mut states = checks.as_array().unwrap().iter().filter(named);
        states.next().unwrap_or_else(|| panic!("{name}: {checks:#}"))["state"].clone()
    };
    let names = [
        "database",
        "version",
        "fsync",
        "full_page_writes",
        "synchronous_commit",
        "standbys",
        "writable",
        "migrations",
        "partitions",
        "broker",
        "topology",
    ];
    for name in names {
        assert_eq!(state(name), "ok", "{name}: {checks:#}");
    }
    // The tests are superusers.
    assert_eq!(state("rights"), "warn");
}

#[tokio::test]
async fn doctor_fails_on_pending_migrations_and_names_the_remedy() {
    let place = Place::without_migrations("show_doctor_bare").await;
    let table = stdout(&place, &["doctor"], 1);
    assert!(table.contains("partner-program migrate"), "{table}");
    let applied = run(&place, &["topology", "apply"]);
    let words = String::from_utf8_lossy(&applied.stderr);
    assert_eq!(applied.status.code(), Some(5), "{words}");
    assert!(words.contains("partner-program migrate"), "{words}");
}

#[tokio::test]
async fn stored_results_are_published_again_in_their_order() {
    let place = place_with_a_customer("show_republish").await;
    stdout(&place, &["topology", "apply"], 0);
    let connection = lapin::Connection::connect(&place.amqp_url, <_>::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let queue = "subscriber";
    let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), exclusive, FieldTable::default()).await.unwrap();
    channel
        .queue_bind(
            queue.into(),
            "partner-program.results".into(),
            "acme.link.*".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();

    let since = ["results", "republish", "--org", "acme", "--since", "2026-01-01T00:00:00Z"];
    let planned = stdout(&place, &[&since[..], &["--dry-run", "-o", "ndjson"]].concat(), 0);
    assert_eq!(planned.lines().count(), 2, "{planned}");
    stdout(&place, &since, 0);
    for id in ["c-0", "c-1"] {
        let got = channel.basic_get(queue.into(), BasicGetOptions::default()).await.unwrap();
        let delivery = got.expect("a result").delivery;
        assert_eq!(delivery.routing_key.as_str(), "acme.link.succeeded");
        assert_eq!(delivery.data, br#"{"ok":true}"#);
        let headers = format!("{:?}", delivery.properties);
        assert!(headers.contains(id), "{headers}");
    }
    let got = channel.basic_get(queue.into(), BasicGetOptions::default()).await.unwrap();
    assert!(got.is_none(), "the dry run published nothing");

    let republish = ["results", "republish", "--org", "acme"];
    let by_id = |ids: &[&'static str]| [&republish[..], ids].concat();
    stdout(&place, &by_id(&["--command-id", "c-1"]), 0);
    stdout(&place, &by_id(&["--command-id", "c-1", "--command-id", "c-9"]), 6);
    stdout(&place, &by_id(&["--command-id", "c-9"]), 3);
    stdout(
        &place,
        &by_id(&["--since", "2026-01-01T00:00:00Z", "--until", "2026-01-02T00:00:00Z"]),
        3,
    );
    stdout(&place, &republish, 2);

    // Of a replayed command first the rejection, then the result. What the broker gave up by
    // itself nobody was told of.
    TestDatabase::of(&place).await.execute(DEAD).await;
    for (id, code) in [("c-1", 0), ("c-2", 0), ("c-3", 3)] {
        channel.queue_purge(queue.into(), QueuePurgeOptions::default()).await.unwrap();
        stdout(&place, &by_id(&["--command-id", id]), code);
        let mut heard = Vec::new();
        let options = BasicGetOptions { no_ack: true };
        while let Some(got) = channel.basic_get(queue.into(), options).await.unwrap() {
            heard.push(String::from_utf8(got.delivery.data).unwrap());
        }
        let rejected = format!(
            r#"{{"commandId":"{id}","reason":"not-json","detail":"line 1","deadLetterId":"{LETTER}{}"}}"#,
            &id[2..]
        );
        let applied = r#"{"ok":true}"#.to_owned();
        let answers = [rejected, applied];
        let answered = match id {
            "c-1" => &answers[..],
            "c-2" => &answers[..1],
            _ => &[],
        };
        assert_eq!(heard, answered, "{id}");
    }
}

/// Letters' ids, but for the last digit.
const LETTER: &str = "00000000-0000-0000-0000-00000000000";

/// A command that died before it was applied, one that was not applied, and the broker's letter.
const DEAD: &str = "
    insert into dead_letter (id, org_code, lane, reason, operation, detail, fingerprint, state,
        command_id, exchange, routing_key, properties, headers, body, first_died_at, last_died_at)
    select format('00000000-0000-0000-0000-00000000000%s', number)::uuid, 'acme', 'main',
        case when number < 3 then 'not-json' else 'delivery-limit' end, 'link', 'line 1', 'f',
        'open', 'c-' || number, 'partner-program.commands', 'acme.link', '{}', '{}', 'x',
        '2026-03-01Z', '2026-03-01Z'
    from generate_series(1, 3) number;";

/// A customer, a command, and two effects.
const CUSTOMER: &str = r#"
    insert into org (id, code, name, country_code) values (1, 'acme', 'Acme', '91');
    insert into customer (org_id, id, mobile, email, external_id, state)
    values (1, 7, '919876543210', 'Jane@example.com', 'CRM-7', 'active');
    insert into program (org_id, id, name, normalised_name, kind)
    values (1, 1, 'Miles', 'miles', 'EXTERNAL');
    insert into tier (org_id, program_id, number, rank, name, normalised_name)
    values (1, 1, 1, 1, 'Silver', 'silver'), (1, 1, 2, 2, 'Gold', 'gold');
    insert into enrolment (org_id, customer_id, program_id, linked, membership_id, tier_number,
        tier_expires_at, linked_since, version)
    values (1, 7, 1, true, 'M-1', 2, '2031-01-01Z', '2026-01-01Z', 2);
    insert into enrolment_history (org_id, customer_id, program_id, command_id, position, kind,
        old_linked, new_linked, old_membership_id, new_membership_id, old_tier_number,
        new_tier_number, old_tier_expires_at, new_tier_expires_at, reason, occurred_at, version)
    values
        (1, 7, 1, 'c-0', 0, 'ENROLMENT', null, true, null, 'M-1', null, 1, null, '2030-01-01Z',
         null, '2026-01-01Z', 1),
        (1, 7, 1, 'c-1', 0, 'UPGRADE', true, true, 'M-1', 'M-1', 1, 2, '2030-01-01Z',
         '2031-01-01Z', 'promised', '2026-02-01Z', 2);
    insert into command_log (org_id, command_id, body_hash, lane, lane_epoch, operation, verdict,
        items_total, items_succeeded, items_failed, result, user_id, occurred_at)
    select 1, 'c-' || number, decode(repeat('00', 32), 'hex'), 'main', 3, 'link', 'succeeded',
        2, 2, 0, convert_to('{"ok":true}', 'utf8'), 'pos', '2026-02-01Z'
    from generate_series(0, 1) number;
"#;
