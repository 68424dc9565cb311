//! What publishers hear of commands that wait.

use serde_json::json;
use uuid::Uuid;

use super::{Held, POISONED, Received, about};

/// Its publisher is told that a command waits, for which letter and where, before its result. The worker
/// dies between the commit and the event, so the command comes again.
#[tokio::test]
async fn a_publisher_is_told_that_its_command_waits() {
    let mut held = Held::new("told of parking", 10).await;
    let mut worker = held.start(POISONED);
    held.publish(&[about("poison", true, &[1])]).await;
    let letter = held.letter("poison").await.to_string();
    held.stop(&mut worker).await;

    let mut dying = held.start("after-commit=return(abort)");
    held.publish(&[about("first", true, &[1])]).await;
    dying.ended().await;
    assert_eq!(held.parked().await, 1, "it was committed");
    let mut worker = held.start("");
    held.publish(&[about("second", false, &[1]), about("free", true, &[2])]).await;
    held.hear("free").await;
    let parked = &held.env.results.parked;
    let told: Vec<_> =
        parked.iter().map(|(_, event)| (event.routing_key.as_str(), event.json())).collect();
    let notice = |key, id: &str, position: u64| {
        let body = json!({ "commandId": id, "deadLetterId": letter, "position": position });
        (key, body)
    };
    let expected =
        [notice("acme.link.parked", "first", 1), notice("acme.delink.parked", "second", 2)];
    assert_eq!(told, expected);
    let (_, event) = &parked[0];
    assert_eq!(event.message_id.as_deref(), Some("first.parked"));
    assert_eq!(event.kind.as_deref(), Some("partner-program.link.parked.v1"));
    assert_eq!(event.command_id(), "first");

    let id = Uuid::parse_str(&letter).expect("an id");
    held.release(id).await;
    held.hear("second").await;
    let results = &held.env.results;
    for (before, event) in &results.parked {
        let later = &results.received[*before..];
        let is_answer = |answer: &&Received| answer.command_id() == event.command_id();
        assert_eq!(later.iter().filter(is_answer).count(), 1, "its result follows");
    }
    assert_eq!(results.parked.len(), 2, "each is told once");
    held.stop(&mut worker).await;
}
