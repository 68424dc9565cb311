use serde_json::json;

use super::*;
use crate::domain::rejection::Rejection;
use crate::message::BODY_LENGTH;
use crate::wire::rejected::{Origin, dead_letter};

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000, 0).unwrap()
}

fn reading() -> Reading<'static> {
    let (delivery, worker_user) = (Uuid::nil(), Some("worker"));
    Reading { lane_prefix: "commands.", now: now(), delivery, worker_user }
}

fn place() -> PlaceOfDeath<'static> {
    PlaceOfDeath { lane: "main", position: QueuePosition::new(3, 41) }
}

fn original() -> Message {
    let mut message = Message {
        exchange: "commands".to_owned(),
        routing_key: "acme.link".to_owned(),
        body: br#"{"linkCustomers":[{"customer":{"id":7}}]}"#.to_vec(),
        ..Message::default()
    };
    message.properties.message_id = Some("c-1".to_owned());
    message.properties.headers.insert("own".to_owned(), "kept".into());
    message
}

fn letter(original: &Message, detail: &str) -> Message {
    let rejection = Rejection::new(Reason::WrongType, detail);
    let position = QueuePosition::new(3, 41);
    let worker_user = Some("worker");
    let origin =
        Origin { lane: "main", worker: "w-1", position, attempts: 2, at: now(), worker_user };
    let id = dead_letter_id(original, rejection.reason, place());
    dead_letter("dead", original, &rejection, id, &origin)
}

#[test]
fn a_workers_letter_gives_its_message_back() {
    let mut original = original();
    original.properties.user_id = Some("upstream".to_owned());
    original.properties.priority = Some(9);
    original.properties.expiration = Some("60000".to_owned());
    let dead = letter(&original, "/linkCustomers/12/customer/id: expected a number");
    assert_eq!(dead.properties.priority, None, "the dead letters keep their order");
    let read = read(dead, reading());
    assert_eq!(read.message, original);
    assert_eq!(read.id, dead_letter_id(&original, Reason::WrongType, place()));
    assert_eq!(read.pointer.as_deref(), Some("/linkCustomers/12/customer/id"));
    assert_eq!((read.lane.as_deref(), read.attempts, read.died_at), (Some("main"), 2, now()));
    assert_eq!(read.position, QueuePosition::new(3, 41));
    assert_eq!((read.org.as_deref(), read.operation), (Some("acme"), Some(Operation::Link)));
}

#[test]
fn a_cut_letter_is_the_same_letter() {
    let original = Message { body: vec![b'{'; 10_000], ..original() };
    let whole = letter(&original, "/x: y");
    let read = read(cut_body::shortened(&whole).unwrap(), reading());
    assert_eq!(read.id, dead_letter_id(&original, Reason::WrongType, place()));
    assert_eq!(read.reason, Reason::WrongType.as_str());
    assert_eq!(read.provenance[BODY_LENGTH], 10_000);
    assert_eq!(read.message.body.len(), 4_096);
    assert_eq!(read.message.properties, original.properties);
    assert!(!super::read(whole, reading()).provenance.contains_key(BODY_LENGTH));
}

#[test]
fn only_a_worker_says_who_published_a_command() {
    let mut original = original();
    original.properties.user_id = Some("upstream".to_owned());
    let mut letter = letter(&original, "/x: y");
    let user = |letter: &Message| read(letter.clone(), reading()).message.properties.user_id;
    assert_eq!(user(&letter).as_deref(), Some("upstream"));
    letter.properties.user_id = Some("mallory".to_owned());
    assert_eq!(user(&letter), None, "a letter that was written by hand");
    letter.properties.headers.remove("x-dead-letter-id");
    assert_eq!(user(&letter).as_deref(), Some("mallory"), "as the broker authenticated it");
    letter.properties.user_id = None;
    assert_eq!(user(&letter), None, "a header is no proof");
}

#[test]
fn equal_commands_without_an_id_are_letters_of_their_own() {
    let mut nameless = original();
    nameless.properties.message_id = None;
    let id = |tag| {
        let place = PlaceOfDeath { lane: "main", position: QueuePosition::new(3, tag) };
        dead_letter_id(&nameless, Reason::WrongType, place)
    };
    assert_ne!(id(1), id(2));
    assert_eq!(id(1), id(1));
    let unwritten = |delivery| read(nameless.clone(), Reading { delivery, ..reading() }).id;
    assert_ne!(unwritten(Uuid::from_u128(1)), unwritten(Uuid::from_u128(2)));
}

#[test]
fn only_numbers_do_not_tell_groups_apart() {
    let of = |detail| read(letter(&original(), detail), reading()).fingerprint;
    assert_eq!(of("/a/12/b: line 3"), of("/a/7/b: line 10045"));
    assert_ne!(of("/a/12/b: line 3"), of("/a/12/c: line 3"));
}

#[test]
fn the_brokers_reason_is_kept() {
    let mut dead = original();
    dead.exchange = "dead".to_owned();
    let death = json!([{
        "reason": "delivery_limit", "queue": "commands.main", "exchange": "commands",
        "routing-keys": ["acme.update"], "count": 1, "time": { "amqp:timestamp": "1600000000" },
    }]);
    dead.properties.headers.insert("x-death".to_owned(), death);
    let read = read(dead.clone(), reading());
    assert_eq!((read.reason.as_str(), read.lane.as_deref()), ("delivery-limit", Some("main")));
    assert_eq!(read.message.routing_key, "acme.update");
    assert_eq!(read.message.exchange, "commands");
    assert_eq!(read.died_at.timestamp(), 1_600_000_000);
    assert_eq!(super::read(dead, reading()), read, "always the same letter");
}

#[test]
fn a_time_that_can_not_be_is_kept_as_it_was_said_and_not_believed() {
    for seconds in [i64::MIN, -300_000_000_000, -1, 1_700_003_601, i64::MAX] {
        let mut dead = original();
        let death = json!([{ "reason": "expired", "queue": "commands.main", "time": seconds }]);
        dead.properties.headers.insert("x-death".to_owned(), death.clone());
        let read = read(dead, reading());
        assert_eq!((read.died_at, read.reason.as_str()), (now(), "expired"), "{seconds}");
        assert_eq!(read.provenance["x-death"], death);
    }
}

#[test]
fn a_forged_letter_is_not_taken_for_another() {
    let genuine = letter(&original(), "/x: y");
    let mut forged = genuine.clone();
    forged.body = b"other".to_vec();
    let (genuine, forged) = (read(genuine, reading()), read(forged, reading()));
    assert_ne!(genuine.id, forged.id);
    assert_eq!(forged.reason, "unknown");
    for headers in [json!([]), json!({}), json!([{}]), json!([{"reason": 1}]), json!(null)] {
        let mut odd = original();
        odd.properties.headers.insert("x-death".to_owned(), headers);
        assert_eq!(read(odd, reading()).reason, "unknown");
    }
}
