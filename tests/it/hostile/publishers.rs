//! Who may command which org: the broker says who somebody is, the configuration what he may.

use partner_program_worker::clock::Clock;
use partner_program_worker::message::Message;

use crate::harness::collector::Collector;
use crate::harness::environment::TestEnv;
use crate::harness::leftovers::assert_nothing_is_left;
use crate::harness::publisher::Publisher;
use crate::harness::worker::InProcess;
use crate::harness::workload::step;
use crate::hostile::{DEAD_LETTERS, DEADLINE, workload_env};

const CRM: &str = "crm";
const PASSWORD: &str = "crm's";

fn from(user: Option<&str>, number: usize) -> Message {
    let mut message = step(number);
    message.properties.user_id = user.map(ToOwned::to_owned);
    message
}

#[tokio::test]
async fn only_an_orgs_own_publisher_is_obeyed() {
    let TestEnv { place, settings, mut rows, mut results, publisher } =
        workload_env("own publisher").await;
    let user = format!("{CRM}-{}", uuid::Uuid::new_v4().simple());
    place.broker.create_user(&user, PASSWORD);
    let (_, server) = place.amqp_url.rsplit_once('@').expect("a URL with a user");
    let crm = Publisher::open(&format!("amqp://{user}:crm%27s@{server}")).await;
    let settings = settings.with("PUBLISHERS", format!("{user}=acme;guest=globex"));

    crm.publish(&[from(Some(&user), 0)]).await;
    // Neither another org's publisher, nor somebody who does not say who he is, is obeyed.
    publisher.publish(&[from(Some("guest"), 1), from(None, 2)]).await;
    crm.publish(&[from(None, 3), from(Some(&user), 4)]).await;
    // Nor is a name in a header, which the broker does not look at.
    let mut forged = from(None, 5);
    forged.properties.headers.insert("user-id".to_owned(), user.clone().into());
    forged.properties.headers.insert("x-user-id".to_owned(), user.clone().into());
    publisher.publish(&[forged]).await;
    let worker = InProcess::start(&settings, Clock::system());

    let events = results.read(6, DEADLINE).await.to_vec();
    let (rejections, answers): (Vec<_>, Vec<_>) =
        events.iter().partition(|event| event.routing_key.ends_with(".rejected"));
    let ids = |messages: &[usize]| -> Vec<String> {
        messages.iter().filter_map(|number| step(*number).properties.message_id).collect()
    };
    let answered: Vec<String> = answers.iter().map(|event| event.command_id()).collect();
    assert_eq!(answered, ids(&[0, 4]));
    let mut rejected = Vec::new();
    for event in rejections {
        let body = event.json();
        assert_eq!(body["reason"], "publisher-not-allowed", "{body}");
        rejected.extend(body["commandId"].as_str().map(ToOwned::to_owned));
    }
    assert_eq!(rejected, ids(&[1, 2, 3, 5]));
    let mut letters = Collector::of_queue(&place.amqp_url, DEAD_LETTERS);
    for letter in letters.read(4, DEADLINE).await {
        let user = letter.header("x-user-id");
        let known = letter.message_id == ids(&[1]).pop();
        assert_eq!(user.as_deref(), known.then_some("guest"), "only what the broker verified");
    }
    worker.stop().await;
    assert_eq!(rows.inbox().await.len(), 2);
    assert_nothing_is_left(&place, &["main"]).await;
    place.broker.delete_user(&user);
}

#[tokio::test]
async fn no_publisher_uses_the_name_of_another() {
    let TestEnv { place, publisher, .. } = workload_env("impostor").await;
    let refused = publisher.try_publish(&from(Some(CRM), 0)).await;
    assert!(refused.is_err(), "the broker took another's name: {refused:?}");
    assert_nothing_is_left(&place, &["main"]).await;
}
