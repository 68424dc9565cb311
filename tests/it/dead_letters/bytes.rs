//! What came is what is kept, shown and replayed, to the byte and to the type.

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, ByteArray, DecimalValue, FieldTable, LongString};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use serde_json::json;

use crate::dead_letters::{
    DEADLINE, LANE_QUEUE, archived, bury, dead_letters, env, found_the_org, rows,
    scene_without_the_org,
};
use crate::harness::collector::Collector;
use crate::harness::publisher::command;
use crate::harness::worker::Process;

/// Any JSON library would change some of this.
const BODY: &str = "{ \"linkCustomers\":[ {\"x\":1.10,\"x\":123456789012345678901234, \"n\":1E2,\r\n\
    \"customer\":{\"id\":1},\"linkToPartnerPrograms\":[]\t}]}\n";

fn every_type() -> FieldTable {
    let mut inner = FieldTable::default();
    inner.insert("amqp:int32".into(), AMQPValue::LongInt(1));
    let values = [
        ("boolean", AMQPValue::Boolean(true)),
        ("int8", AMQPValue::ShortShortInt(-8)),
        ("uint8", AMQPValue::ShortShortUInt(200)),
        ("int16", AMQPValue::ShortInt(-300)),
        ("uint16", AMQPValue::ShortUInt(60_000)),
        ("int32", AMQPValue::LongInt(-70_000)),
        ("uint32", AMQPValue::LongUInt(4_000_000_000)),
        ("int64", AMQPValue::LongLongInt(i64::MIN)),
        ("float", AMQPValue::Float(0.1)),
        ("double", AMQPValue::Double(1.5)),
        ("whole double", AMQPValue::Double(3.0)),
        ("decimal", AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 110 })),
        ("text", AMQPValue::LongString(LongString::from("naïve"))),
        ("latin", AMQPValue::LongString(LongString::from(b"caf\xe9".to_vec()))),
        ("timestamp", AMQPValue::Timestamp(1_700_000_000)),
        ("bytes", AMQPValue::ByteArray(ByteArray::from(vec![0, 255, 10]))),
        ("array", AMQPValue::FieldArray(vec![AMQPValue::Void, AMQPValue::ShortInt(1)].into())),
        ("table", AMQPValue::FieldTable(inner)),
        ("void", AMQPValue::Void),
    ];
    let mut table = FieldTable::default();
    for (name, value) in values {
        table.insert(name.into(), value);
    }
    table
}

#[tokio::test]
async fn a_replay_is_what_came_to_the_byte_and_to_the_type() {
    let mut env = scene_without_the_org("bytes").await;
    let connection = Connection::connect(&env.place.amqp_url, ConnectionProperties::default());
    let connection = connection.await.expect("the broker answers");
    let channel = connection.create_channel().await.expect("a channel");
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    let properties = BasicProperties::default()
        .with_message_id("c-1".into())
        .with_delivery_mode(2)
        .with_priority(0)
        .with_expiration("600000".into())
        .with_headers(every_type());
    let published = channel.basic_publish(
        "partner-program.commands".into(),
        "acme.link".into(),
        BasicPublishOptions::default(),
        BODY.as_bytes(),
        properties,
    );
    published.await.expect("it is sent").await.expect("it is confirmed");
    let mut worker = Process::start(&env.settings, "undertaker");
    archived(&mut env, 1).await;
    worker.signal("TERM").await;
    assert!(worker.ended().await.success());

    let letters = rows(&dead_letters(&env.settings, &["list"]).await.expect(0));
    let id = letters[0]["id"].as_str().expect("an id").to_owned();
    let unmask = ["show", &id, "--unmask", "--reason", "test"];
    let shown = dead_letters(&env.settings, &unmask).await.expect(0).json();
    assert_eq!(shown["body"], json!(BODY));
    assert_eq!(shown["properties"]["expiration"], json!("600000"));
    assert_eq!(shown["properties"]["priority"], json!(0));
    assert_eq!(shown["headers"]["int32"], json!({ "amqp:int32": -70_000 }));
    let people = env
        .settings
        .command(&["dead-letters", "show", &id, "--unmask", "--reason", "test"])
        .output()
        .await
        .expect("it starts");
    let people = String::from_utf8_lossy(&people.stdout).into_owned();
    for token in ["\"x\": 1.10", "\"x\": 123456789012345678901234", "\"n\": 1E2"] {
        assert!(people.contains(token), "{people}");
    }
    let download = env
        .settings
        .command(&["dead-letters", "download", &id, "--reason", "test"])
        .output()
        .await
        .expect("it starts");
    assert_eq!(download.stdout, BODY.as_bytes());

    found_the_org(&mut env).await;
    dead_letters(&env.settings, &["replay", &id, "--reason", "test"]).await.expect(0);
    let mut lane = Collector::of_queue(&env.place.amqp_url, LANE_QUEUE);
    let replayed = lane.read(1, DEADLINE).await[0].clone();
    assert_eq!(replayed.body, BODY.as_bytes());
    let mut headers = FieldTable::default();
    for (name, value) in replayed.headers.inner() {
        if !name.as_str().starts_with("replay-") && !name.as_str().starts_with("x-") {
            headers.insert(name.clone(), value.clone());
        }
    }
    assert_eq!(headers, every_type());
}

#[tokio::test]
async fn an_editor_changes_what_was_edited_and_nothing_else() {
    let mut env = env("bytes, edited").await;
    let sent = BODY.replace("acme", "");
    let broken = sent.replace("\"linkToPartnerPrograms\":[]", "\"linkToPartnerPrograms\":7");
    let latin = [&b"{\"name\":\"caf"[..], b"\xe9\"}"].concat();
    let mut no_text = command("acme.link", Some("latin"), String::new());
    no_text.body.clone_from(&latin);
    bury(&mut env, &[command("acme.link", Some("c-1"), broken.clone()), no_text]).await;
    let letter = |id: &'static str| {
        let settings = env.settings.clone();
        async move {
            let listed = dead_letters(&settings, &["list", "--command-id", id]).await.expect(0);
            rows(&listed)[0]["id"].as_str().expect("an id").to_owned()
        }
    };
    let (id, latin_id) = (letter("c-1").await, letter("latin").await);

    // The editor is `sed`, in a terminal of its own: only the wrong value is corrected.
    let editor = "sed -i -e s/7$/[]/";
    let edit = |id: &str| {
        let program = env!("CARGO_BIN_EXE_partner-program");
        let run = format!("{program} dead-letters edit {id} --keep --reason test -o json");
        let command = env.settings.command(&[]);
        let mut script = tokio::process::Command::new("script");
        for (name, value) in command.as_std().get_envs() {
            if let Some(value) = value {
                script.env(name, value);
            }
        }
        script.env("EDITOR", editor).args(["--quiet", "--return", "--command", &run, "/dev/null"]);
        script.stdin(std::process::Stdio::null());
        script
    };
    let edited = edit(&id).output().await.expect("script runs");
    assert!(edited.status.success(), "{edited:?}");
    let bodies = env.rows.archived_bodies().await;
    let expected = broken.replace("\"linkToPartnerPrograms\":7", "\"linkToPartnerPrograms\":[]");
    assert!(bodies.contains(&expected.clone().into_bytes()), "{bodies:?}");
    let refused = edit(&latin_id).output().await.expect("script runs");
    let text = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(text.contains("byte 12") && text.contains("download"), "{text}");
}
