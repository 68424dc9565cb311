//! An org that moves to another lane takes along what waits behind its dead letters.

use serde_json::{Value, json};

use crate::dead_letters::dead_letters;
use crate::harness::worker::Settings;
use crate::holding::{Held, IN_ORDER, POISONED, about, poison};

/// `acme` goes to this lane; both others are there without a pattern.
fn lanes(of_acme: &str) -> Value {
    let lane = |name: &str| {
        let mut lane =
            json!({ "name": name, "after_dead_letter": "hold-customer", "parked_max": 100 });
        if name == of_acme && name != "main" {
            lane["bindings"] = json!(["acme.#"]);
        }
        lane
    };
    json!(["main", "vip", "other"].map(lane))
}

async fn moves(settings: &Settings, to: &str) {
    settings.run(&["lanes", "move", "--org", "acme", "--to", to, "--reason", "test"]).await;
}

#[tokio::test]
async fn what_waits_behind_dead_letters_moves_with_its_org() {
    let mut held = Held::new("hold-moved", 100).await;
    let settings = held.env.settings.clone().with("ARCHIVE_DEAD_LETTERS", true);
    held.env.settings = settings.clone().with("LANES", lanes("main"));
    held.env.settings.declare().await;
    let (mut worker, letter) = poison(&mut held).await;
    held.archived(1).await;
    // One leg, then two: each by a worker with the configuration of after the move.
    for to in ["vip", "other"] {
        held.stop(&mut worker).await;
        held.env.settings = settings.clone().with("LANES", lanes(to));
        worker = held.start(POISONED);
        moves(&held.env.settings, to).await;
        let still = "select count(*) from parked_command where lane = ";
        assert_eq!(held.env.rows.count(&format!("{still}'{to}'")).await, 3, "{to}");
    }
    // A later command of a held customer waits behind what moved.
    held.publish(&[about("late", true, &[1])]).await;
    held.stop(&mut worker).await;
    let _mended = held.start("");
    let id = letter.to_string();
    dead_letters(&held.env.settings, &["replay", &id, "--reason", "test", "--yes"]).await.expect(0);
    held.hear("late").await;
    held.nothing_waits().await;
    assert_eq!(held.applied().await, [&IN_ORDER[..], &["late"]].concat());
    let lanes = held.env.rows.texts("select distinct lane from command_log order by lane").await;
    assert_eq!(lanes, ["main", "other"]);
}
