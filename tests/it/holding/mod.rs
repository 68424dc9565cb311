//! Lanes with `after_dead_letter = "hold-customer"`: who waits for a dead letter, who doesn't, and
//! what becomes of those who do.
//!
//! The poison is a command that panics when it is evaluated; a worker without the failpoint is one
//! that was mended.

mod elsewhere;
mod imports;
mod moved;
mod told;

use std::time::Duration;

use partner_program_worker::message::Message;
use partner_program_worker::store::connection::{self, Connection};
use partner_program_worker::store::holds;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::dead_letters::dead_letters;
use crate::harness::collector::Received;
use crate::harness::environment::TestEnv;
use crate::harness::eventually;
use crate::harness::publisher::command;
use crate::harness::worker::Process;
use crate::harness::workload::{self, ORG, PROGRAM};
use crate::model::Model;

const DEADLINE: Duration = Duration::from_mins(1);
const POISONED: &str = "evaluate=return(panic poison)";

struct Held {
    env: TestEnv,
    started: usize,
}

impl Held {
    async fn new(name: &str, parked_max: usize) -> Self {
        let world = Model::new(chrono::Utc::now(), workload::world());
        let mut env = TestEnv::new(name, &world).await;
        let main = json!([{
            "name": "main", "after_dead_letter": "hold-customer", "parked_max": parked_max,
        }]);
        env.settings = env.settings.with("LANES", main);
        Self { env, started: 0 }
    }

    fn start(&mut self, points: &str) -> Process {
        self.started += 1;
        Process::start(&self.env.settings.clone().failing(points), &format!("w{}", self.started))
    }

    /// Lets it ack what it has done: a poison that comes again dies again, and holds anew.
    async fn stop(&self, worker: &mut Process) {
        worker.signal("TERM").await;
        assert!(worker.ended().await.success(), "{}", worker.words());
    }

    async fn publish(&self, messages: &[Message]) {
        self.env.publisher.publish(messages).await;
    }

    /// Reads until something was said of the command.
    async fn hear(&mut self, id: &str) -> Received {
        let said = |event: &Received| command_id(event) == id;
        let heard = |all: &[Received]| all.iter().any(said);
        let all = self.env.results.read_until(DEADLINE, id, heard).await;
        all.iter().rfind(|event| said(event)).cloned().expect("it was heard")
    }

    /// The letter of a command whose rejection has been heard last.
    async fn letter(&mut self, id: &str) -> Uuid {
        let event = self.hear(id).await.json();
        let letter = event["deadLetterId"].as_str().expect("a rejection names its letter");
        Uuid::parse_str(letter).expect("a letter's id")
    }

    async fn parked(&mut self) -> usize {
        self.env.rows.count("select count(*) from parked_command").await
    }

    async fn archived(&mut self, letters: usize) {
        let rows = &mut self.env.rows;
        eventually(DEADLINE, "the letters are archived", async || {
            (rows.count("select count(*) from dead_letter").await == letters).then_some(())
        })
        .await;
    }

    async fn nothing_waits(&mut self) {
        let rows = &mut self.env.rows;
        eventually(DEADLINE, "nothing is held or parked", async || {
            let left = "select (select count(*) from hold) + (select count(*) from parked_command)";
            (rows.count(left).await == 0).then_some(())
        })
        .await;
    }

    async fn connection(&self) -> Connection {
        let url = &self.env.place.database_url;
        connection::connect(url, "tests").await.expect("the database answers")
    }

    /// As whoever discards a letter does.
    async fn release(&self, letter: Uuid) {
        let mut connection = self.connection().await;
        holds::release(&mut connection, &[letter]).await.expect("it is released");
    }

    /// As whoever edits a copy of a letter does; returns the copy.
    async fn supersede(&self, letter: Uuid, command_id: &str) -> Uuid {
        let (mut connection, copy) = (self.connection().await, Uuid::now_v7());
        let superseded = holds::supersede(&mut connection, letter, copy, command_id).await;
        superseded.expect("it is superseded");
        copy
    }

    async fn applied(&mut self) -> Vec<String> {
        self.env.rows.log().await.into_iter().map(|entry| entry.command_id).collect()
    }

    /// What was published of commands that were applied, as it came.
    fn published(&self) -> Vec<String> {
        let events = self.env.results.received.iter();
        events.filter(|event| !is_rejection(event)).map(command_id).collect()
    }

    async fn show(&self, arguments: &[&str]) -> String {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_partner-program"))
            .args(arguments)
            .env("PARTNER_PROGRAM_DATABASE_URL", &self.env.place.database_url)
            .output()
            .await
            .expect("the program starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        text(output.stdout) + text(output.stderr).as_str()
    }
}

fn is_rejection(event: &Received) -> bool {
    event.routing_key.ends_with(".rejected")
}

fn command_id(event: &Received) -> String {
    if is_rejection(event) {
        event.json()["commandId"].as_str().unwrap_or_default().to_owned()
    } else {
        event.command_id()
    }
}

/// Links these customers, or delinks them.
fn about(id: &str, joins: bool, customers: &[i64]) -> Message {
    let entry = |customer: &i64| -> Value {
        let who = json!({ "id": customer });
        if joins {
            let reference = json!({ "partnerMembershipId": format!("{id}-{customer}") });
            let item =
                json!({ "partnerProgramName": PROGRAM, "customerPartnerReference": reference });
            json!({ "customer": who, "linkToPartnerPrograms": [item] })
        } else {
            let item = json!({ "partnerProgramName": PROGRAM });
            json!({ "customer": who, "deLinkFromPartnerPrograms": [item] })
        }
    };
    let entries: Vec<Value> = customers.iter().map(entry).collect();
    let (operation, root) =
        if joins { ("link", "linkCustomers") } else { ("delink", "deLinkCustomers") };
    command(&format!("{ORG}.{operation}"), Some(id), json!({ root: entries }).to_string())
}

fn replay(message: &Message, letter: Uuid) -> Message {
    let mut replay = message.clone();
    replay.properties.headers.insert("replay-of".to_owned(), letter.to_string().into());
    replay
}

/// The poison is about customer 1; `both` holds customer 2 as well; customer 3 is free.
fn poison_and_followers() -> [Message; 5] {
    [
        about("poison", true, &[1]),
        about("leaves", false, &[1]),
        about("both", true, &[1, 2]),
        about("second", false, &[2]),
        about("free", true, &[3]),
    ]
}

const IN_ORDER: [&str; 5] = ["free", "poison", "leaves", "both", "second"];

/// A letter and three parked followers; the worker still runs.
async fn held(name: &str) -> (Held, Process, Uuid) {
    let mut held = Held::new(name, 100).await;
    let (worker, letter) = poison(&mut held).await;
    assert_eq!(held.applied().await, ["free"]);
    (held, worker, letter)
}

/// Lets a worker give the poison up and park its followers; the worker still runs.
async fn poison(held: &mut Held) -> (Process, Uuid) {
    held.publish(&poison_and_followers()).await;
    let worker = held.start(POISONED);
    held.hear("free").await;
    let letter = held.letter("poison").await;
    assert_eq!(held.parked().await, 3);
    (worker, letter)
}

#[tokio::test]
async fn followers_wait_for_the_replay_and_are_applied_in_their_order() {
    let (mut held, mut worker, letter) = held("hold-replay").await;
    let words = held.show(&["show", "customer", "--org", ORG, "--id", "2"]).await;
    assert!(words.contains("2 commands are parked"), "{words}");
    let words = held.show(&["show", "customer", "--org", ORG, "--id", "1"]).await;
    assert!(words.contains(&letter.to_string()), "{words}");
    let words = held.show(&["show", "command", "--org", ORG, "both"]).await;
    assert!(words.contains("parked since"), "{words}");

    // What comes again while it is parked stays parked once, whoever has the lane.
    worker.kill().await;
    let [poison, leaves, both, ..] = poison_and_followers();
    held.publish(&[both, leaves, about("also free", false, &[3])]).await;
    let mut worker = held.start("");
    held.hear("also free").await;
    assert_eq!(held.parked().await, 3);

    held.publish(&[replay(&poison, letter), about("late", true, &[2])]).await;
    held.hear("late").await;
    held.nothing_waits().await;
    let expected = ["free", "also free", "poison", "leaves", "both", "second", "late"];
    assert_eq!(held.applied().await, expected);
    assert_eq!(held.published(), expected);
    worker.signal("TERM").await;
    assert!(worker.ended().await.success());
}

#[tokio::test]
async fn a_replay_that_fails_again_holds_on_and_a_discard_releases() {
    let (mut held, mut worker, letter) = held("hold-again").await;
    let [poison, ..] = poison_and_followers();
    held.publish(&[replay(&poison, letter), about("also free", true, &[4])]).await;
    held.hear("also free").await;
    let again = held.letter("poison").await;
    assert_ne!(letter, again);
    assert_eq!(held.parked().await, 3);
    // The first letter is over: nothing comes of discarding it.
    held.release(letter).await;
    held.publish(&[about("still free", false, &[4])]).await;
    held.hear("still free").await;
    assert_eq!(held.parked().await, 3);

    // Nobody runs when the second one is discarded, and nothing is delivered to whoever starts.
    worker.signal("TERM").await;
    assert!(worker.ended().await.success());
    held.release(again).await;
    let _worker = held.start("");
    held.hear("second").await;
    held.nothing_waits().await;
    let expected = ["free", "also free", "still free", "leaves", "both", "second"];
    assert_eq!(held.applied().await, expected);
    assert_eq!(held.published(), expected);
}

#[tokio::test]
async fn followers_are_applied_once_whenever_the_worker_dies() {
    let (mut held, mut worker, letter) = held("hold-deaths").await;
    worker.kill().await;
    let [poison, ..] = poison_and_followers();
    held.publish(&[replay(&poison, letter)]).await;
    // The replay's own batch goes first; after that it is the followers' turn.
    for points in [
        "before-commit=1*off->return(abort)",
        "after-commit=return(abort)",
        "before-confirm=return(abort late)",
        "before-ack=return(abort)",
    ] {
        let mut worker = held.start(points);
        eventually(DEADLINE, points, async || (!worker.is_running()).then_some(())).await;
    }
    let _worker = held.start("");
    held.nothing_waits().await;
    held.hear("second").await;
    assert_eq!(held.applied().await, IN_ORDER);
    let mut published = held.published();
    let mut seen = std::collections::HashSet::new();
    published.retain(|id| seen.insert(id.clone()));
    assert_eq!(published, IN_ORDER);
}

#[tokio::test]
async fn beyond_the_bound_followers_are_dead_letters_that_keep_their_places() {
    let mut held = Held::new("hold-bound", 1).await;
    let (one, two) = (about("one", false, &[1]), about("two", true, &[1]));
    held.publish(&[about("poison", true, &[1]), one, two.clone(), about("free", true, &[3])]).await;
    let _worker = held.start(POISONED);
    held.hear("free").await;
    let letter = held.letter("poison").await;
    let over = held.hear("two").await.json();
    assert_eq!(over["reason"], "held");
    assert_eq!(held.parked().await, 1);

    held.release(letter).await;
    held.hear("one").await;
    // There is room again, but none of these may go before the second letter.
    held.publish(&[about("three", false, &[1]), about("also free", false, &[3])]).await;
    held.hear("also free").await;
    assert_eq!(held.parked().await, 1);
    let letter = held.letter("two").await;
    held.publish(&[replay(&two, letter)]).await;
    held.hear("three").await;
    held.nothing_waits().await;
    assert_eq!(held.applied().await, ["free", "one", "also free", "two", "three"]);
}

#[tokio::test]
async fn a_follower_that_fails_holds_those_behind_it() {
    let (mut held, mut worker, letter) = held("hold-second").await;
    held.stop(&mut worker).await;
    held.release(letter).await;
    let mut worker = held.start("evaluate=return(panic leaves)");
    let letter = held.letter("leaves").await;
    held.publish(&[about("also free", true, &[4])]).await;
    held.hear("also free").await;
    assert_eq!(held.parked().await, 2);

    // An edited copy has an id of its own, and is a replay all the same.
    let copy = held.supersede(letter, "edited").await;
    held.publish(&[replay(&about("edited", true, &[1]), copy)]).await;
    held.hear("second").await;
    held.nothing_waits().await;
    let expected = ["free", "also free", "edited", "both", "second"];
    assert_eq!(held.applied().await, expected);
    assert_eq!(held.published(), expected);
    worker.signal("TERM").await;
    assert!(worker.ended().await.success());
}

#[tokio::test]
async fn those_who_discard_and_edit_letters_release_whom_they_hold() {
    let mut held = Held::new("hold-commands", 100).await;
    held.env.settings = held.env.settings.clone().with("ARCHIVE_DEAD_LETTERS", true);
    held.publish(&poison_and_followers()).await;
    let mut worker = held.start(POISONED);
    let letter = held.letter("poison").await;
    held.archived(1).await;
    held.stop(&mut worker).await;
    let _worker = held.start("evaluate=return(panic leaves)");
    let settings = held.env.settings.clone();
    let discard = ["discard", &letter.to_string(), "--yes", "--reason", "never mind"];
    dead_letters(&settings, &discard).await.expect(0);

    // The first of the followers fails in its turn, and is put right.
    let letter = held.letter("leaves").await;
    held.archived(2).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("body.json");
    std::fs::write(&file, about("", false, &[1]).body).expect("it is written");
    let path = file.to_str().expect("text");
    let edit = ["edit", &letter.to_string(), "--file", path, "--reason", "sound after all"];
    let edited = dead_letters(&settings, &edit).await.expect(0).json();
    held.hear("second").await;
    held.nothing_waits().await;
    let applied = held.applied().await;
    assert_eq!(
        (applied.len(), &applied[0][..], &applied[2..]),
        (4, "free", &["both".to_owned(), "second".to_owned()][..])
    );
    let copy = dead_letters(&settings, &["show", edited["copy"].as_str().expect("an id")]).await;
    assert_eq!(copy.expect(0).json()["command_id"], applied[1]);
}
