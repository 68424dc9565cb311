//! An edited copy: checked, with an id of its own, in the original's place.

use std::fs;

use serde_json::json;

use crate::dead_letters::{broken, bury, dead_letters, env, link, rows};
use crate::harness::worker::Process;

#[tokio::test]
async fn an_edited_copy_supersedes_its_original_and_is_applied() {
    let mut env = env("edit").await;
    bury(&mut env, &[broken(1)]).await;
    let letters = rows(&dead_letters(&env.settings, &["list"]).await.expect(0));
    let id = letters[0]["id"].as_str().expect("an id");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("body.json");
    let path = file.to_str().expect("text");
    let edit = ["edit", id, "--file", path, "--reason", "typing error"];

    fs::write(&file, r#"{"linkCustomers": 7}"#).expect("it is written");
    let before = env.rows.archive_digest().await;
    let refused = dead_letters(&env.settings, &edit).await.expect(5);
    assert!(refused.err.contains("not-an-array"), "{}", refused.err);
    assert_eq!(env.rows.archive_digest().await, before, "a broken copy changes nothing");

    fs::write(&file, link("", 3, "m-3").body).expect("it is written");
    let worker = Process::start(&env.settings, "worker");
    let (one, other) =
        tokio::join!(dead_letters(&env.settings, &edit), dead_letters(&env.settings, &edit));
    let mut codes = [one.code, other.code];
    codes.sort_unstable();
    assert_eq!(codes, [0, 5], "one of two editors wins: {}{}", one.err, other.err);
    let edited = if one.code == 0 { one } else { other }.json();
    assert_eq!(edited["replayed"], json!(true));
    let copy = edited["copy"].as_str().expect("an id");
    crate::harness::eventually(super::DEADLINE, "the copy is applied", async || {
        let shown = dead_letters(&env.settings, &["show", copy]).await.expect(0).json();
        (shown["state"] == "applied").then_some(())
    })
    .await;
    drop(worker);

    let original = dead_letters(&env.settings, &["show", id]).await.expect(0).json();
    assert_eq!(
        (&original["state"], &original["superseded_by"]),
        (&json!("superseded"), &json!(copy))
    );
    let shown = dead_letters(&env.settings, &["show", copy]).await.expect(0).json();
    assert_eq!(shown["edited_from"], json!(id));
    assert_ne!(shown["command_id"], original["command_id"]);
    assert_eq!(env.rows.history_count().await, 1, "effects");
    assert_eq!(env.rows.archived_commands().await.len(), 2, "letters");
}
