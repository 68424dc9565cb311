//! The contract on the wire: bytes in, bytes and properties out, as an upstream and a subscriber
//! see them. What the law says about each state of the world is `model_based`'s.

mod rejections;
mod samples;

use std::time::Duration;

use chrono::{TimeZone, Utc};
use partner_program_worker::clock::Clock;
use serde_json::json;

use crate::harness::collector::Collector;
use crate::harness::environment::TestEnv;
use crate::harness::leftovers::assert_nothing_is_left;
use crate::harness::publisher::command;
use crate::harness::worker::InProcess;
use crate::harness::workload::{self, steps};
use crate::model::Model;

const SOON: Duration = Duration::from_secs(30);

async fn workload_env(name: &str) -> TestEnv {
    TestEnv::new(name, &Model::new(Utc::now(), workload::world())).await
}

#[tokio::test]
async fn a_result_carries_what_the_command_came_with() {
    let TestEnv { place, settings, mut results, publisher, .. } = workload_env("properties").await;
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut message = workload::step(0);
    let properties = &mut message.properties;
    properties.message_id = Some("order-66".to_owned());
    properties.correlation_id = Some("conversation".to_owned());
    properties.app_id = Some("crm".to_owned());
    properties.user_id = Some("guest".to_owned());
    properties.timestamp = Utc.timestamp_opt(1_700_000_000, 0).single();
    properties.content_type = Some("application/json; charset=utf-8".to_owned());
    properties.headers.insert("traceparent".to_owned(), traceparent.into());
    publisher.publish(&[message]).await;
    let worker = InProcess::start(&settings, Clock::system());

    let result = results.read(1, SOON).await[0].clone();
    assert_eq!(result.routing_key, "acme.link.succeeded");
    assert_eq!(result.message_id.as_deref(), Some("order-66.result"));
    assert_eq!(result.correlation_id.as_deref(), Some("conversation"));
    assert_eq!(result.kind.as_deref(), Some("partner-program.link.result.v1"));
    assert_eq!(result.content_type.as_deref(), Some("application/json"));
    assert_eq!(result.app_id.as_deref(), Some("crm"));
    assert_eq!(result.timestamp, Some(1_700_000_000));
    assert_eq!(result.delivery_mode, Some(2), "persistent");
    for (name, value) in [
        ("items-total", "1"),
        ("items-succeeded", "1"),
        ("items-failed", "0"),
        ("command-id", "order-66"),
        ("traceparent", traceparent),
    ] {
        assert_eq!(result.header(name).as_deref(), Some(value), "{name}");
    }
    worker.stop().await;
    assert_nothing_is_left(&place, &["main"]).await;
}

#[tokio::test]
async fn a_requester_gets_a_copy_and_one_that_is_gone_stalls_nothing() {
    let TestEnv { place, settings, mut results, publisher, .. } = workload_env("reply").await;
    let mut replies = Collector::bound(&place.amqp_url, "requester", None).await;
    let mut messages = steps(0..2);
    for (message, queue) in messages.iter_mut().zip(["gone", "requester"]) {
        message.properties.reply_to = Some(queue.to_owned());
        message.properties.correlation_id = Some(format!("request of {queue}"));
    }
    publisher.publish(&messages).await;
    let worker = InProcess::start(&settings, Clock::system());

    let result = results.read(2, SOON).await[1].clone();
    let reply = replies.read(1, SOON).await[0].clone();
    assert_eq!(reply.body(), result.body());
    assert_eq!(reply.correlation_id.as_deref(), Some("request of requester"));
    assert_eq!(reply.message_id, result.message_id);
    assert_eq!(reply.routing_key, "requester");
    worker.stop().await;
    assert_nothing_is_left(&place, &["main"]).await;
}

#[tokio::test]
async fn a_command_without_message_id_is_applied_and_its_result_says_so() {
    let TestEnv { place, settings, mut rows, mut results, publisher } = workload_env("no id").await;
    let mut message = workload::step(0);
    message.properties.message_id = None;
    publisher.publish(&[message.clone(), message]).await;
    let worker = InProcess::start(&settings, Clock::system());

    let received = results.read(2, SOON).await.to_vec();
    let warning = json!([{ "status": false, "code": 2203,
        "message": "No message id given: duplicates can't be detected", "path": "" }]);
    let codes = ["acme.link.succeeded", "acme.link.failed"];
    for (result, routing_key) in received.iter().zip(codes) {
        assert_eq!(result.routing_key, routing_key);
        assert_eq!(result.json()["warnings"], warning);
        let id = result.command_id();
        assert_eq!(result.message_id, Some(format!("{id}.result")));
        assert_eq!(result.correlation_id, Some(id));
    }
    assert_ne!(received[0].command_id(), received[1].command_id());
    assert_eq!(rows.history_count().await, 1, "the second one found the customer linked");
    worker.stop().await;
    assert_nothing_is_left(&place, &["main"]).await;
}

#[tokio::test]
async fn duplicates_have_one_effect_and_identical_results() {
    const COMMANDS: usize = 1000;
    let TestEnv { place, settings, mut rows, mut results, publisher } = workload_env("twice").await;
    // Each comes again a little later, among the first copies of others.
    let mut messages = Vec::new();
    for number in 0..COMMANDS + 30 {
        messages.extend((number < COMMANDS).then(|| workload::step(number)));
        messages.extend(number.checked_sub(30).map(workload::step));
    }
    publisher.publish(&messages).await;
    let settings = settings.with("BATCH_SIZE", 64);
    let worker = InProcess::start(&settings, Clock::system());
    results.read(messages.len(), SOON).await;
    worker.stop().await;

    for result in &results.received {
        assert!(result.routing_key.ends_with(".succeeded"), "{}", result.body());
    }
    for number in 0..COMMANDS {
        let id = workload::step(number).properties.message_id.expect("steps have ids");
        let same: Vec<_> =
            results.received.iter().filter(|result| result.command_id() == id).collect();
        assert_eq!(same.len(), 2, "{id}");
        assert_eq!(same[0], same[1], "{id}");
    }
    assert_eq!(rows.history_count().await, COMMANDS);
    assert_eq!(rows.inbox().await.len(), COMMANDS);
    assert_nothing_is_left(&place, &["main"]).await;
}

#[tokio::test]
async fn one_org_never_sees_another_ones_customers_or_message_ids() {
    let mut orgs = workload::world();
    let mut other = orgs[0].clone();
    other.code = "globex";
    orgs.push(other);
    let model = Model::new(Utc::now(), orgs);
    let TestEnv { place, settings, mut rows, mut results, publisher } =
        TestEnv::new("tenants", &model).await;
    let message = workload::step(0);
    let same_id =
        command("globex.link", message.properties.message_id.as_deref(), message.body.clone());
    publisher.publish(&[message, same_id]).await;
    let worker = InProcess::start(&settings, Clock::system());
    let keys: Vec<_> = results.read(2, SOON).await.iter().map(|r| r.routing_key.clone()).collect();
    assert_eq!(keys, ["acme.link.succeeded", "globex.link.succeeded"]);
    assert_eq!(rows.enrolments().await.len(), 2);
    worker.stop().await;
    assert_nothing_is_left(&place, &["main"]).await;
}
