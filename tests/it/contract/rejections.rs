//! What can't be processed at all: the dead letter, the event, the reason.

use std::collections::BTreeMap;

use partner_program_worker::clock::Clock;
use partner_program_worker::message::Message;

use crate::contract::{SOON, workload_env};
use crate::harness::collector::Collector;
use crate::harness::environment::TestEnv;
use crate::harness::leftovers::assert_nothing_is_left;
use crate::harness::publisher::command;
use crate::harness::worker::InProcess;
use crate::harness::workload;

/// Messages, each with the routing key of its event and the reason.
fn rejected() -> Vec<(Message, &'static str, &'static str)> {
    let good = workload::step(0).body;
    let link = |body: &[u8]| command("acme.link", Some("id"), body);
    let item = r#"{"partnerProgramName":"Plain"}"#;
    let entry = |customer: &str, item: &str| {
        format!(
            r#"{{"linkCustomers":[{{"customer":{customer},"linkToPartnerPrograms":[{item}]}}]}}"#
        )
    };
    let mut gzip = link(&good);
    gzip.properties.content_encoding = Some("gzip".to_owned());
    let mut xml = link(&good);
    xml.properties.content_type = Some("text/xml".to_owned());
    let mut large = good.clone();
    large.resize(1024 * 1024 + 1, b' ');
    let acme = "acme.link.rejected";
    vec![
        (link(b"{\"linkCustomers\":[\xff]}"), acme, "not-utf8"),
        (link(b"{\"linkCustomers\":["), acme, "not-json"),
        (link(b""), acme, "not-json"),
        (link(b"{\"linkCustomers\":[]} []"), acme, "trailing-data"),
        (link(entry(r#"{"id":1,"id":2}"#, item).as_bytes()), acme, "duplicate-key"),
        (link(b"{}"), acme, "root-keys"),
        (link(b"[]"), acme, "root-keys"),
        (link(b"{\"linkCustomers\":[],\"deLinkCustomers\":[]}"), acme, "root-keys"),
        (link(b"{\"linkCustomers\":{}}"), acme, "not-an-array"),
        (link(entry(r#"{"email":5}"#, item).as_bytes()), acme, "wrong-type"),
        (
            link(entry(r#"{"id":1}"#, r#"{"partnerProgramName":"\u0000"}"#).as_bytes()),
            acme,
            "invalid-text",
        ),
        (link(&large), acme, "too-large"),
        (command("nobody.link", Some("id"), good.clone()), "nobody.link.rejected", "unknown-org"),
        (command("acme.merge", Some("id"), good.clone()), "acme.unknown.rejected", "routing-key"),
        (command("acme.link.7.8", Some("id"), good.clone()), acme, "routing-key"),
        (
            command("acme.delink", Some("id"), good.clone()),
            "acme.delink.rejected",
            "operation-mismatch",
        ),
        (gzip, acme, "unsupported-content"),
        (xml, acme, "unsupported-content"),
    ]
}

#[tokio::test]
async fn what_cannot_be_processed_is_kept_with_its_reason_and_whole_up_to_1_mib() {
    let TestEnv { place, settings, mut rows, mut results, publisher } =
        workload_env("rejected").await;
    let mut expected = rejected();
    for (number, (message, _, _)) in expected.iter_mut().enumerate() {
        message.properties.message_id = Some(format!("bad-{number:02}"));
        message.properties.headers.insert("of-the-publisher".to_owned(), "kept".into());
    }
    let messages: Vec<Message> = expected.iter().map(|(message, _, _)| message.clone()).collect();
    publisher.publish(&messages).await;
    let worker = InProcess::start(&settings, Clock::system());
    let events = results.read(expected.len(), SOON).await.to_vec();
    let mut letters = Collector::of_queue(&place.amqp_url, "partner-program.dead-letters");
    letters.read(expected.len(), SOON).await;
    worker.stop().await;

    let letters: BTreeMap<_, _> =
        letters.received.iter().map(|letter| (letter.message_id.clone(), letter)).collect();
    for ((message, routing_key, reason), event) in expected.iter().zip(&events) {
        let id = message.properties.message_id.clone();
        let about = format!("{id:?} {reason}: {}", event.body());
        let body = event.json();
        assert_eq!(body["reason"], *reason, "{about}");
        assert_eq!(body["commandId"].as_str(), id.as_deref(), "{about}");
        assert!(body["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{about}");
        assert_eq!(event.routing_key, *routing_key, "{about}");
        assert_eq!(event.kind.as_deref(), Some("partner-program.rejected.v1"), "{about}");

        let letter = letters.get(&id).unwrap_or_else(|| panic!("no dead letter for {about}"));
        let whole = message.body.len();
        let (kept, length) =
            if whole > 1024 * 1024 { (4096, Some(whole.to_string())) } else { (whole, None) };
        assert!(letter.body == message.body[..kept], "{about}");
        assert_eq!(letter.header("x-body-length"), length, "{about}");
        assert_eq!(letter.header("x-reason").as_deref(), Some(*reason), "{about}");
        assert_eq!(
            letter.header("x-dead-letter-id").as_deref(),
            body["deadLetterId"].as_str(),
            "{about}"
        );
        assert_eq!(
            letter.header("x-original-routing-key").as_deref(),
            Some(message.routing_key.as_str()),
            "{about}"
        );
        assert_eq!(letter.header("of-the-publisher").as_deref(), Some("kept"), "{about}");
        assert_eq!(letter.delivery_mode, Some(2), "{about}");
    }
    assert_eq!(rows.inbox().await.len(), 0, "what was rejected is not in the inbox");
    assert_eq!(rows.history_count().await, 0);
    assert_nothing_is_left(&place, &["main"]).await;
}

#[tokio::test]
async fn a_message_id_with_another_body_is_rejected_and_the_first_one_stands() {
    let TestEnv { place, settings, mut rows, mut results, publisher } =
        workload_env("reused").await;
    let first = workload::step(0);
    let mut other = workload::step(1);
    other.properties.message_id = first.properties.message_id.clone();
    publisher.publish(&[first.clone(), other, first]).await;
    let worker = InProcess::start(&settings, Clock::system());
    let received = results.read(3, SOON).await.to_vec();
    worker.stop().await;
    let (rejections, answers): (Vec<_>, Vec<_>) =
        received.iter().partition(|event| event.routing_key.ends_with(".rejected"));
    assert_eq!(rejections.len(), 1);
    assert_eq!(rejections[0].json()["reason"], "message-id-reused");
    assert_eq!(answers[0], answers[1]);
    assert_eq!(rows.history_count().await, 1);
    assert_nothing_is_left(&place, &["main"]).await;
}

#[tokio::test]
async fn a_publisher_may_act_for_its_own_orgs_only() {
    let TestEnv { place, settings, mut results, publisher, .. } = workload_env("publishers").await;
    let settings = settings.with("PUBLISHERS", "guest=globex;crm=acme");
    let mut stranger = workload::step(0);
    stranger.properties.user_id = Some("guest".to_owned());
    let unnamed = workload::step(1);
    publisher.publish(&[stranger, unnamed]).await;
    let worker = InProcess::start(&settings, Clock::system());
    for event in results.read(2, SOON).await {
        assert_eq!(event.json()["reason"], "publisher-not-allowed");
    }
    worker.stop().await;

    let settings = settings.with("PUBLISHERS", "guest=acme");
    let mut allowed = workload::step(0);
    allowed.properties.user_id = Some("guest".to_owned());
    publisher.publish(&[allowed]).await;
    let worker = InProcess::start(&settings, Clock::system());
    let event = results.read(3, SOON).await[2].clone();
    assert_eq!(event.routing_key, "acme.link.succeeded");
    worker.stop().await;
    assert_nothing_is_left(&place, &["main"]).await;
}
