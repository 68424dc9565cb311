//! Texts that are code to somebody, in every string that reaches the worker.

mod texts;

use chrono::{SubsecRound, Utc};
use partner_program_worker::clock::Clock;
use partner_program_worker::message::Message;
use serde_json::{Value, json};

use crate::harness::collector::{Collector, Received};
use crate::harness::database::TestDatabase;
use crate::harness::environment::TestEnv;
use crate::harness::history::{HistoryRow, by_customer};
use crate::harness::leftovers::assert_nothing_is_left;
use crate::harness::publisher::command;
use crate::harness::worker::InProcess;
use crate::harness::workload::ORG;
use crate::hostile::injection::texts::{PROGRAM, TEXTS, TIERED, Text, world};
use crate::hostile::{DEAD_LETTERS, DEADLINE, assert_one_generation};
use crate::model::{Answer, Model};

/// A message and why it has to be rejected; otherwise the model answers it.
struct Judged {
    message: Message,
    rejected: Option<&'static str>,
}

/// Everything that makes up the tables, but for the partitions, which come and go.
const SCHEMA: &str = "select abs(hashtext(string_agg(concat_ws(' ', relname, attname, atttypid, \
    attnotnull, (select string_agg(pg_get_constraintdef(oid), ' ' order by conname) \
    from pg_constraint where conrelid = c.oid)), ',' order by relname, attnum))::bigint) \
    from pg_class c join pg_attribute on attrelid = c.oid \
    where relnamespace = 'partner_program'::regnamespace and relkind in ('r', 'p') and not relispartition";
/// What no command may touch.
const CATALOGUE: &str = "select abs(hashtext(string_agg(line, ',' order by line))::bigint) from ( \
    select customer::text from customer union all select org::text from org union all \
    select tier::text from tier union all select p::text from program p) lines(line)";

/// Sends all of them, and holds outcomes and tables against the model's.
async fn hold(name: &str, judged: Vec<Judged>) -> Vec<Received> {
    let mut model = Model::new(Utc::now().trunc_subsecs(0), world());
    let TestEnv { place, settings, mut rows, mut results, publisher } =
        TestEnv::new(name, &model).await;
    let before = (rows.count(SCHEMA).await, rows.count(CATALOGUE).await);
    let messages: Vec<Message> = judged.iter().map(|judged| judged.message.clone()).collect();
    publisher.publish(&messages).await;
    let worker = InProcess::start(&settings, Clock::fixed(model.now));
    let events = results.read(judged.len(), DEADLINE).await.to_vec();
    assert_one_generation(&mut rows).await;
    worker.stop().await;
    assert_eq!(results.received.len(), judged.len(), "one outcome each");

    let mut rejected = Vec::new();
    for (Judged { message, rejected: reason }, event) in judged.iter().zip(&events) {
        let about = format!("{message:?}\n{}", String::from_utf8_lossy(&message.body));
        if let Some(reason) = reason {
            assert_eq!(event.json()["reason"], *reason, "{about}\n{}", event.body());
            rejected.push(message);
        } else {
            check_answer(&mut model, message, event, &about);
        }
    }
    check_rows(&mut rows, &model, judged.len() - rejected.len()).await;
    assert_eq!((rows.count(SCHEMA).await, rows.count(CATALOGUE).await), before);
    let mut letters = Collector::of_queue(&place.amqp_url, DEAD_LETTERS);
    letters.read(rejected.len(), DEADLINE).await;
    for (message, letter) in rejected.into_iter().zip(&letters.received) {
        assert_eq!(letter.body, message.body);
        assert_eq!(letter.message_id, message.properties.message_id);
        assert_eq!(letter.correlation_id, message.properties.correlation_id);
        assert_eq!(letter.app_id, message.properties.app_id);
        assert_eq!(letter.header("x-original-routing-key").as_ref(), Some(&message.routing_key));
    }
    assert_nothing_is_left(&place, &["main"]).await;
    events
}

fn check_answer(model: &mut Model, message: &Message, event: &Received, about: &str) {
    let operation = message.routing_key.split('.').nth(1).expect("an operation");
    let id = message.properties.message_id.as_deref();
    let Answer::Result { verdict, body, .. } = model.apply(ORG, operation, id, &message.body)
    else {
        panic!("not to be rejected: {about}");
    };
    assert_eq!(event.routing_key, format!("{ORG}.{operation}.{verdict}"), "{about}");
    assert_eq!(event.body(), body, "{about}");
    assert_eq!(Some(event.command_id().as_str()), id, "{about}");
    let correlation_id = message.properties.correlation_id.as_deref().or(id);
    assert_eq!(event.correlation_id.as_deref(), correlation_id, "{about}");
    assert_eq!(event.app_id, message.properties.app_id, "{about}");
    let names = ["command-id", "items-failed", "items-succeeded", "items-total"];
    let given: Vec<String> = event.headers.inner().keys().map(ToString::to_string).collect();
    assert_eq!(given, names, "{about}");
}

async fn check_rows(rows: &mut TestDatabase, model: &Model, answered: usize) {
    assert_eq!(rows.enrolments().await, model.enrolments);
    let law = model.history.iter().map(|event| HistoryRow::expected(event, model.now));
    assert_eq!(by_customer(rows.history().await), by_customer(law.collect()));
    assert_eq!(rows.inbox().await.len(), answered);
}

/// Commands that succeed, each about a customer of its own.
fn link(customer: usize) -> Value {
    json!({ "linkCustomers": [{ "customer": { "id": customer }, "linkToPartnerPrograms": [{
        "partnerProgramName": TIERED,
        "customerPartnerReference": {
            "partnerMembershipId": format!("m-{customer}"),
            "partnerTierName": "Bronze",
            "partnerTierExpiryDate": "2999-01-01T00:00:00Z",
        },
    }] }] })
}

fn update(customer: usize) -> Value {
    json!({ "customersPartnerUpdates": [{ "customer": { "id": customer },
        "partnerProgramUpdates": [{
            "partnerProgramName": TIERED,
            "updateType": "UPGRADE",
            "updateDetails": { "updatedTierName": "Silver", "updatedTierExpiryDate": null },
        }],
    }] })
}

fn delink(customer: usize) -> Value {
    json!({ "deLinkCustomers": [{ "customer": { "id": customer },
        "deLinkFromPartnerPrograms": [{ "partnerProgramName": TIERED, "reason": "leaves" }],
    }] })
}

/// Every string field of a body, by operation.
const FIELDS: [(&str, &str); 16] = [
    ("link", "/linkCustomers/0/customer/mobile"),
    ("link", "/linkCustomers/0/customer/email"),
    ("link", "/linkCustomers/0/customer/externalId"),
    ("link", "/linkCustomers/0/customer/nobody's"),
    ("link", "/linkCustomers/0/linkToPartnerPrograms/0/partnerProgramName"),
    (
        "link",
        "/linkCustomers/0/linkToPartnerPrograms/0/customerPartnerReference/partnerMembershipId",
    ),
    ("link", "/linkCustomers/0/linkToPartnerPrograms/0/customerPartnerReference/partnerTierName"),
    (
        "link",
        "/linkCustomers/0/linkToPartnerPrograms/0/customerPartnerReference/partnerTierExpiryDate",
    ),
    ("update", "/customersPartnerUpdates/0/customer/email"),
    ("update", "/customersPartnerUpdates/0/partnerProgramUpdates/0/partnerProgramName"),
    ("update", "/customersPartnerUpdates/0/partnerProgramUpdates/0/updateType"),
    ("update", "/customersPartnerUpdates/0/partnerProgramUpdates/0/updateDetails/updatedTierName"),
    (
        "update",
        "/customersPartnerUpdates/0/partnerProgramUpdates/0/updateDetails/updatedTierExpiryDate",
    ),
    ("delink", "/deLinkCustomers/0/customer/externalId"),
    ("delink", "/deLinkCustomers/0/deLinkFromPartnerPrograms/0/partnerProgramName"),
    ("delink", "/deLinkCustomers/0/deLinkFromPartnerPrograms/0/reason"),
];

/// One command of each text in each field; before an update or a delink its customer is linked.
fn in_bodies() -> Vec<Judged> {
    let mut judged = Vec::new();
    let mut send = |operation: &str, body: &Value, rejected| {
        let id = format!("c-{}", judged.len());
        let message = command(&format!("{ORG}.{operation}"), Some(&id), body.to_string());
        judged.push(Judged { message, rejected });
    };
    let mut customer = 0;
    for (operation, field) in FIELDS {
        for text in TEXTS.iter().map(Text::full) {
            customer += 1;
            let mut body = match operation {
                "link" => link(customer),
                "update" => update(customer),
                _ => delink(customer),
            };
            if operation != "link" {
                send("link", &link(customer), None);
            }
            let (parent, name) = field.rsplit_once('/').expect("a pointer");
            body.pointer_mut(parent).expect("the field's object")[name] = json!(text);
            let is_read = name != "nobody's";
            let rejected = (is_read && text.contains('\0')).then_some("invalid-text");
            send(operation, &body, rejected);
        }
    }
    judged
}

#[tokio::test]
async fn texts_in_bodies_are_only_texts() {
    let judged = in_bodies();
    let events = hold("bodies", judged).await;
    // The program that is called so was linked by its name: it was not only refused.
    let own = events.iter().filter(|event| {
        let name = &event.json()["linkCustomers"][0]["linkToPartnerPrograms"][0];
        name["partnerProgramName"] == PROGRAM && event.routing_key == "acme.link.succeeded"
    });
    assert_eq!(own.count(), 1);
}

/// Each text in each part of a message's outside that takes so long a text.
fn outside_of_bodies() -> Vec<Judged> {
    let mut judged = Vec::new();
    let texts: Vec<String> = TEXTS.iter().map(Text::full).collect();
    for text in texts.iter().filter(|text| text.len() <= 200) {
        let clean = !text.contains(char::is_control);
        let unless_clean = (!clean).then_some("invalid-text");
        let dotted = text.contains('.');
        let number = judged.len();
        let mut send = |rejected, change: &dyn Fn(&mut Message)| {
            let customer = judged.len() + 1;
            let id = format!("c-{customer}");
            let mut message = command("acme.link", Some(&id), link(customer).to_string());
            change(&mut message);
            judged.push(Judged { message, rejected });
        };
        send(unless_clean, &|m| m.properties.message_id = Some(format!("{number}{text}")));
        send(unless_clean, &|m| m.properties.correlation_id = Some(text.clone()));
        send(unless_clean, &|m| m.properties.reply_to = Some(text.clone()));
        send(unless_clean, &|m| m.properties.app_id = Some(text.clone()));
        send(None, &|m| drop(m.properties.headers.insert(text.clone(), text.as_str().into())));
        send(None, &|m| {
            drop(m.properties.headers.insert("traceparent".to_owned(), text.as_str().into()));
        });
        let unsupported = Some("unsupported-content");
        send(unsupported, &|m| m.properties.content_type = Some(text.clone()));
        send(unsupported, &|m| m.properties.content_encoding = Some(text.clone()));
        let bucket = dotted.then_some("routing-key");
        send(bucket, &|m| m.routing_key = format!("acme.link.{text}"));
        let org = if dotted || !clean { "routing-key" } else { "unknown-org" };
        send(Some(org), &|m| m.routing_key = format!("{text}.link"));
        send(Some("routing-key"), &|m| m.routing_key = format!("acme.{text}"));
    }
    judged
}

#[tokio::test]
async fn texts_outside_of_bodies_are_only_texts() {
    hold("outside", outside_of_bodies()).await;
}
