//! The command line: exit codes, what is put aside, what is hidden, what is noted.

use serde_json::{Value, json};

use crate::dead_letters::{broken, bury, dead_letters, env, rows};
use crate::harness::publisher::command;

const UNKNOWN_ID: &str = "00000000-0000-0000-0000-000000000000";

#[tokio::test]
async fn exit_codes_tell_scripts_what_happened() {
    let mut env = env("exit codes").await;
    bury(&mut env, &[broken(1), broken(2)]).await;
    let letters = rows(&dead_letters(&env.settings, &["list"]).await.expect(0));
    let ids: Vec<&str> = letters.iter().filter_map(|letter| letter["id"].as_str()).collect();
    for (arguments, code) in [
        (&["show", UNKNOWN_ID][..], 3),
        (&["bulk-jobs", "show", UNKNOWN_ID], 3),
        (&["edit", UNKNOWN_ID, "--file", "/dev/null", "--reason", "r"], 3),
        (&["replay", "--org", "nobody", "--reason", "r", "--yes"], 3),
        (&["export", "--org", "nobody", "--reason", "r"], 3),
        (&["replay", "--all", "--dry-run", "--org", "nobody"], 3),
        (&["replay", "--reason", "r", "--yes"], 2),
        (&["discard", ids[0]], 2),
        (&["discard", "--all", "--reason", "r"], 2),
        (&["list", "--since", "yesterday"], 2),
        (&["list", "--after", "there"], 2),
        (&["replay", ids[0], "--reason", "would die again"], 5),
        (&["discard", ids[0], "--reason", "r"], 0),
        (&["discard", ids[0], "--reason", "r"], 5),
        (&["discard", ids[0], ids[1], "--reason", "r", "--yes"], 6),
        (&["restore", ids[0], ids[1], "--reason", "r", "--yes"], 0),
    ] {
        let answer = dead_letters(&env.settings, arguments).await;
        assert_eq!(answer.code, code, "{arguments:?}: {}{}", answer.out, answer.err);
        assert_eq!(
            answer.err.is_empty(),
            answer.code == 0 && !arguments.contains(&"list") || answer.code > 4,
            "{arguments:?}: {}",
            answer.err
        );
    }
}

#[tokio::test]
async fn what_is_done_is_noted_with_who_why_and_from_where() {
    let mut env = env("audit").await;
    bury(&mut env, &[broken(1)]).await;
    let letters = rows(&dead_letters(&env.settings, &["list"]).await.expect(0));
    let id = letters[0]["id"].as_str().expect("an id");
    dead_letters(&env.settings, &["discard", "--all", "--yes", "--reason", "why 1"])
        .await
        .expect(0);
    dead_letters(&env.settings, &["restore", id, "--reason", "why 2", "--actor", "oscar"])
        .await
        .expect(0);
    let exported =
        dead_letters(&env.settings, &["export", id, "--reason", "why 3"]).await.expect(0);
    assert_eq!(exported.json()["body"], json!("no JSON 1"));
    let shown = dead_letters(&env.settings, &["show", id, "--unmask", "--reason", "why 4"]).await;
    let shown = shown.expect(0).json();
    let noted: Vec<[&str; 3]> = shown["timeline"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|deed| {
            ["action", "actor", "reason"].map(|name| deed[name].as_str().unwrap_or_default())
        })
        .collect();
    assert_eq!(
        noted,
        [
            ["discard", "olivia", "why 1"],
            ["restore", "oscar", "why 2"],
            ["export", "olivia", "why 3"],
            ["unmask", "olivia", "why 4"],
        ]
    );
    let from_here =
        |deed: &Value| deed["source"].as_str().is_some_and(|text| text.starts_with("cli"));
    assert!(shown["timeline"].as_array().expect("a list").iter().all(from_here), "{shown}");
}

#[tokio::test]
async fn personal_data_is_hidden_unless_it_is_asked_for() {
    let mut env = env("masks").await;
    let body = r#"{"linkCustomers":[{"customer":{"mobile":"919876543210","email":"jane@example.com"},"linkToPartnerPrograms":7}]}"#;
    let mut message = command("acme.link", Some("c-1"), body);
    message.properties.headers.insert("caller".to_owned(), "jane@example.com".into());
    bury(&mut env, &[message, command("acme.link", Some("c-2"), "+919876543210")]).await;
    let listed = dead_letters(&env.settings, &["list"]).await.expect(0);
    let grouped = dead_letters(&env.settings, &["groups"]).await.expect(0);
    let mut told = vec![listed.out.clone(), listed.err.clone(), grouped.out];
    for letter in rows(&listed) {
        let id = letter["id"].as_str().expect("an id");
        let masked = dead_letters(&env.settings, &["show", id]).await.expect(0);
        told.extend([masked.out, masked.err]);
        let table =
            env.settings.command(&["dead-letters", "show", id]).output().await.expect("it runs");
        told.push(String::from_utf8_lossy(&table.stdout).into_owned());
        let unmasked = dead_letters(&env.settings, &["show", id, "--unmask"]).await.expect(0);
        assert!(unmasked.out.contains("919876543210"), "{}", unmasked.out);
    }
    for text in told {
        assert!(!text.contains("919876543210") && !text.contains("jane"), "{text}");
    }
    let found =
        dead_letters(&env.settings, &["list", "--customer", "+91 98765 43210"]).await.expect(0);
    assert_eq!(rows(&found)[0]["command_id"], json!("c-1"));
}
