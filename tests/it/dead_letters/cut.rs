//! Letters whose bodies were too large to be kept whole.

use serde_json::{Value, json};

use crate::dead_letters::{DEADLINE, QUEUE, bury, dead_letters, env, is_empty, link, rows};
use crate::harness::eventually;
use crate::harness::publisher::command;

const MIB: usize = 1024 * 1024;
const KEPT: usize = 4096;

/// What is left of it is a command by itself, and a good one: only that it was cut keeps it from
/// being replayed. A second one differs from it where it was cut, and has the same id.
#[tokio::test]
async fn what_is_left_of_a_body_is_neither_replayed_nor_edited() {
    let mut env = env("cut").await;
    let mut large = link("large", 1, "m-1");
    large.body.resize(MIB + 1, b' ');
    large.properties.headers.insert("x-body-length".to_owned(), "7".into());
    let mut other = large.clone();
    *other.body.last_mut().expect("a byte") = b'\n';
    let mut small = command("acme.link", Some("small"), "no JSON");
    small.properties.headers.insert("x-body-length".to_owned(), "7".into());
    bury(&mut env, &[large.clone(), other, small]).await;

    let letters =
        rows(&dead_letters(&env.settings, &["list", "--cause", "too-large"]).await.expect(0));
    assert_eq!(letters.len(), 2, "they are told apart by their hashes");
    let mut hashes = Vec::new();
    for letter in &letters {
        let id = letter["id"].as_str().expect("an id");
        let show = ["show", id, "--unmask", "--reason", "test"];
        let shown = dead_letters(&env.settings, &show).await.expect(0).json();
        assert_eq!(shown["body"].as_str().map(str::len), Some(KEPT));
        assert_eq!(shown["provenance"]["x-body-length"], json!(MIB + 1));
        hashes.push(shown["provenance"]["x-body-sha256"].clone());
        assert_eq!(shown["detail"], json!("the body has 1048577 bytes, at most 1048576 are taken"));
        let preview = ["replay", id, "--dry-run"];
        let preview = dead_letters(&env.settings, &preview).await;
        assert!(preview.out.contains("only the first 4096 bytes"), "{}", preview.out);
        let replay = dead_letters(&env.settings, &["replay", id, "--reason", "why"]).await;
        assert_ne!(replay.code, 0, "{}", replay.out);
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), &link("large", 1, "m-1").body).expect("it is writable");
        let file = file.path().to_str().expect("a path");
        let edit = ["edit", id, "--file", file, "--reason", "why"];
        let edited = dead_letters(&env.settings, &edit).await.expect(5);
        assert!(edited.err.contains("only the first 4096 bytes"), "{}", edited.err);
    }
    assert!(hashes.iter().all(Value::is_string) && hashes[0] != hashes[1], "{hashes:?}");
    assert_eq!(env.rows.history_count().await, 0, "nothing was applied");
    eventually(DEADLINE, "nothing is queued", async || is_empty(&env.place, QUEUE).then_some(()))
        .await;

    // A publisher that sets such a header does not have a whole body taken for one that was cut.
    let small =
        rows(&dead_letters(&env.settings, &["list", "--cause", "not-json"]).await.expect(0));
    let id = small[0]["id"].as_str().expect("an id");
    let shown = dead_letters(&env.settings, &["show", id]).await.expect(0).json();
    assert_eq!(shown["provenance"].get("x-body-length"), None);
    assert_eq!(shown["headers"].get("x-body-length"), None);
}
