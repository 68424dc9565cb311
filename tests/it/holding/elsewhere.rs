//! Replays that come through another lane or go to another org: the letter that they replay holds
//! nobody once they have taken effect, wherever that is.

use chrono::Utc;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::dead_letters::dead_letters;
use crate::harness::collector::Received;
use crate::harness::eventually;
use crate::harness::worker::Process;
use crate::harness::workload::{PROGRAM, world_of};
use crate::holding::{
    DEADLINE, Held, IN_ORDER, POISONED, about, command_id, is_rejection, poison,
    poison_and_followers,
};
use crate::model::Model;

/// The other lane gets another bucket of the same org.
fn lanes(after_dead_letter: &str) -> Value {
    json!([
        { "name": "main", "after_dead_letter": "hold-customer", "parked_max": 100 },
        { "name": "other", "bindings": ["*.*.7"], "after_dead_letter": after_dead_letter },
    ])
}

/// An archived letter with its followers, a second org, and no worker.
async fn buried(name: &str, after_dead_letter: &str) -> (Held, Uuid) {
    let mut held = Held::new(name, 100).await;
    let settings = held.env.settings.clone().with("ARCHIVE_DEAD_LETTERS", true);
    held.env.settings = settings.with("LANES", lanes(after_dead_letter));
    held.env.settings.declare().await;
    held.env.rows.insert(&Model::new(Utc::now(), world_of(&["globex"], &[PROGRAM]))).await;
    let (mut worker, letter) = poison(&mut held).await;
    held.archived(1).await;
    held.stop(&mut worker).await;
    (held, letter)
}

/// Puts a copy of the poison in the letter's place, with another routing key; returns the copy and its
/// command.
async fn edited(held: &Held, letter: Uuid, routing_key: &str) -> (Uuid, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("body.json");
    std::fs::write(&file, about("", true, &[1]).body).expect("it is written");
    let path = file.to_str().expect("text");
    let edit = ["--file", path, "--routing-key", routing_key, "--keep"];
    let copy = act(held, "edit", letter, &edit).await;
    let copy = Uuid::parse_str(copy["copy"].as_str().expect("text")).expect("an id");
    let shown = act(held, "show", copy, &[]).await;
    (copy, shown["command_id"].as_str().expect("text").to_owned())
}

/// The letter that the replay of a letter has become.
async fn letter_after(held: &mut Held, letter: Uuid, command: &str) -> Uuid {
    let id = letter.to_string();
    let of_poison = |event: &&Received| command_id(event) == command && is_rejection(event);
    let is_other = |event: &Received| event.json()["deadLetterId"] != id.as_str();
    let heard = |all: &[Received]| all.iter().filter(of_poison).any(is_other);
    let all = held.env.results.read_until(DEADLINE, "another letter", heard).await;
    let again = all.iter().filter(of_poison).find(|event| is_other(event)).expect("it was heard");
    Uuid::parse_str(again.json()["deadLetterId"].as_str().expect("text")).expect("an id")
}

async fn act(held: &Held, what: &str, letter: Uuid, more: &[&str]) -> Value {
    let id = letter.to_string();
    let arguments = [&[what, &id, "--reason", "test"], more].concat();
    dead_letters(&held.env.settings, &arguments).await.expect(0).json()
}

/// A replay comes through another lane, and fails there as well: what it became, its command, and a
/// worker that is mended.
async fn replayed_through_another_lane(
    name: &str,
    after_dead_letter: &str,
) -> (Held, Uuid, String, Process) {
    let (mut held, letter) = buried(name, after_dead_letter).await;
    let (copy, command) = edited(&held, letter, "acme.link.7").await;
    let mut worker = held.start(&format!("evaluate=return(panic {command})"));
    act(&held, "replay", copy, &[]).await;
    let again = letter_after(&mut held, copy, &command).await;
    held.archived(3).await;
    held.publish(&[about("also free", true, &[4])]).await;
    held.hear("also free").await;
    assert_eq!(
        held.parked().await,
        3,
        "its customers' commands wait for the letter that it became"
    );
    held.stop(&mut worker).await;
    let mended = held.start("");
    (held, again, command, mended)
}

#[tokio::test]
async fn a_replay_through_a_lane_that_skips_releases_its_letter() {
    for (name, what) in [("hold-skip-replay", "replay"), ("hold-skip-discard", "discard")] {
        let (mut held, again, command, _worker) = replayed_through_another_lane(name, "skip").await;
        act(&held, what, again, &["--yes"]).await;
        held.hear("second").await;
        held.nothing_waits().await;
        let expected = ["free", "also free", &command, "leaves", "both", "second"];
        let mut applied = held.applied().await;
        if what == "discard" {
            applied.insert(2, command.clone());
        }
        assert_eq!(applied, expected, "{what}");
    }
}

#[tokio::test]
async fn a_letter_that_a_replay_became_in_another_lane_holds_in_both_until_it_is_discarded() {
    let (mut held, again, _, _worker) =
        replayed_through_another_lane("hold-both", "hold-customer").await;
    let mut late = about("late", false, &[1]);
    late.routing_key = "acme.delink.7".to_owned();
    let mut also = about("still free", false, &[4]);
    also.routing_key = "acme.delink.7".to_owned();
    held.publish(&[late, also]).await;
    held.hear("still free").await;
    assert_eq!(held.parked().await, 4, "it holds its customers in the lane where it died, too");
    act(&held, "discard", again, &["--yes"]).await;
    held.hear("second").await;
    held.nothing_waits().await;
    let mut applied = held.applied().await;
    applied.retain(|id| id != "late");
    assert_eq!(applied, ["free", "also free", "still free", "leaves", "both", "second"]);
}

#[tokio::test]
async fn a_command_that_comes_again_through_another_lane_releases_its_letter() {
    let (mut held, _) = buried("hold-resent", "skip").await;
    let _worker = held.start("");
    let [mut poison, ..] = poison_and_followers();
    poison.routing_key = "acme.link.7".to_owned();
    held.publish(&[poison]).await;
    held.hear("second").await;
    held.nothing_waits().await;
    assert_eq!(held.applied().await, IN_ORDER);
}

/// In the same lane, and in one that holds nobody.
#[tokio::test]
async fn an_edited_copy_that_goes_to_another_org_releases_its_letter() {
    for (name, key) in [("hold-org-same", "globex.link"), ("hold-org-other", "globex.link.7")] {
        let (mut held, letter) = buried(name, "skip").await;
        // No publisher of the other org releases a letter that is not its own.
        let mut foreign = about("foreign", true, &[2]);
        foreign.routing_key = key.to_owned();
        let _worker = held.start("");
        held.publish(&[super::replay(&foreign, letter)]).await;
        held.hear("foreign").await;
        let (copy, command) = edited(&held, letter, key).await;
        foreign.properties.message_id = Some("foreign too".to_owned());
        held.publish(&[super::replay(&foreign, copy)]).await;
        held.hear("foreign too").await;
        assert_eq!(held.parked().await, 3, "{name}");
        act(&held, "replay", copy, &[]).await;
        held.hear("second").await;
        held.nothing_waits().await;
        let expected = ["free", "foreign", "foreign too", &command, "leaves", "both", "second"];
        assert_eq!(held.applied().await, expected, "{name}");
    }
}

/// Headers just under the bound leave no room for more, and a replay has more.
#[tokio::test]
async fn a_replay_is_known_for_one_however_many_headers_its_publisher_has_set() {
    let mut held = Held::new("hold-headers", 100).await;
    held.env.settings = held.env.settings.clone().with("ARCHIVE_DEAD_LETTERS", true);
    let [mut poison, followers @ ..] = poison_and_followers();
    // Small values take far more in memory than in a frame; the names come before those of ours.
    for number in 0..2_000 {
        poison.properties.headers.insert(format!("a{number:04}"), "1".into());
    }
    held.publish(&[poison]).await;
    held.publish(&followers).await;
    let mut worker = held.start(POISONED);
    held.hear("free").await;
    let mut letter = held.letter("poison").await;
    for letters in 1..=2 {
        held.archived(letters).await;
        let shown = act(&held, "show", letter, &[]).await;
        assert_eq!(shown["reason"], "processing-failed", "{shown}");
        if letters == 2 {
            held.stop(&mut worker).await;
            worker = held.start("");
        }
        act(&held, "replay", letter, &[]).await;
        if letters == 1 {
            letter = letter_after(&mut held, letter, "poison").await;
        }
    }
    held.hear("second").await;
    held.nothing_waits().await;
    assert_eq!(held.applied().await, IN_ORDER);
    let replays = "select count(*) from dead_letter where state in ('applied', 'failed_again')";
    let rows = &mut held.env.rows;
    eventually(DEADLINE, "both letters are done with", async || {
        (rows.count(replays).await == 2).then_some(())
    })
    .await;
    worker.kill().await;
}
