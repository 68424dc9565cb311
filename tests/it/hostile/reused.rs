//! A message id that comes again with another body, beside the command that it belongs to.

use chrono::Utc;
use partner_program_worker::clock::Clock;
use partner_program_worker::message::Message;

use crate::harness::collector::Received;
use crate::harness::environment::TestEnv;
use crate::harness::leftovers::assert_nothing_is_left;
use crate::harness::worker::InProcess;
use crate::harness::workload::{self, step};
use crate::hostile::DEADLINE;
use crate::model::Model;

/// In whatever order they come: the inbox is asked once for all of a batch, and gives a result only
/// for the body that it answers.
#[tokio::test]
async fn the_stored_result_is_given_to_its_own_body_only() {
    let model = Model::new(Utc::now(), workload::world());
    let TestEnv { place, settings, mut results, publisher, .. } =
        TestEnv::new("reused", &model).await;
    let own = step(0);
    let mut other = step(1);
    other.properties.message_id.clone_from(&own.properties.message_id);

    publisher.publish(std::slice::from_ref(&own)).await;
    let worker = InProcess::start(&settings, Clock::system());
    let first = results.read(1, DEADLINE).await[0].clone();
    worker.stop().await;

    // All of these are one batch.
    let again: Vec<&Message> = vec![&other, &own, &other, &own];
    publisher.publish(&again.iter().map(|message| (*message).clone()).collect::<Vec<_>>()).await;
    let worker = InProcess::start(&settings, Clock::system());
    let events = results.read(1 + again.len(), DEADLINE).await[1..].to_vec();
    worker.stop().await;
    let is_rejected =
        |event: &Received| event.kind.as_deref() == Some("partner-program.rejected.v1");
    for (message, event) in again.iter().zip(&events) {
        if message.body == own.body {
            assert_eq!(event, &first, "byte for byte");
        } else {
            assert!(is_rejected(event), "{}", event.body());
            assert_eq!(event.json()["reason"], "message-id-reused");
        }
    }
    assert_nothing_is_left(&place, &["main"]).await;
}
