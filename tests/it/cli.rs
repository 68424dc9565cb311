//! The command line as people meet it: help, exit codes, complaints.

use std::process::{Command, Output};

use partner_program_worker::console::token;

fn partner_program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_partner-program"));
    command.args(arguments).env_clear();
    command
}

fn run(arguments: &[&str]) -> Output {
    partner_program(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn help_is_kind_to_people_on_call() {
    for command in COMMANDS {
        let mut arguments: Vec<&str> = command.split_whitespace().collect();
        arguments.push("--help");
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(0), "{command}");
        let name = format!("help_{}", command.replace(' ', "_"));
        insta::assert_snapshot!(name, text(&output.stdout));
    }
}

#[test]
fn a_usage_error_exits_with_2() {
    for arguments in [&["rnu"][..], &["man", "--colour"], &[]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_bad_setting_exits_with_2_and_says_what_to_write() {
    let cases = [
        ("PARTNER_PROGRAM_BATCH_SIZE", "none"),
        ("PARTNER_PROGRAM_BATCHES", "5"),
        ("PARTNER_PROGRAM_CONFIG", "/nowhere/worker.toml"),
        ("PARTNER_PROGRAM_LOG", "worker=loud"),
        ("PARTNER_PROGRAM_LINGER_MS", ""),
    ];
    let complaints: Vec<String> = cases
        .iter()
        .map(|(variable, value)| {
            let output = partner_program(&["run"]).env(variable, value).output().unwrap();
            assert_eq!(output.status.code(), Some(2), "{variable}");
            text(&output.stderr)
        })
        .collect();
    insta::assert_snapshot!("bad_settings", complaints.concat());
}

#[test]
fn completions_and_manual_pages_are_printed() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = run(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        assert!(text(&output.stdout).contains("partner-program"), "{shell}");
    }
    let folder = tempfile::tempdir().unwrap();
    let output = run(&["man", "--dir", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    assert!(folder.path().join("partner-program-run.1").exists());
    assert!(text(&run(&["man"]).stdout).contains(".TH partner-program"));
}

#[test]
fn a_token_is_made_where_the_settings_still_lack_one() {
    let arguments = ["console", "token", "--name", "ana", "--role", "operator", "-o", "json"];
    let output = partner_program(&arguments)
        .env("PARTNER_PROGRAM_OPS_LISTEN", "0.0.0.0:8080")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let made: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let hash = hex::encode(token::hash(made["token"].as_str().unwrap()));
    assert_eq!(made["sha256"], hash);
    assert_eq!(
        run(&["console", "token", "--name", "ana", "--role", "boss"]).status.code(),
        Some(2)
    );
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let mut child = partner_program(&["completions", "bash"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(output.stderr.is_empty());
}

/// Every command with a help page of its own; the first is the program itself.
const COMMANDS: &[&str] = &[
    "",
    "run",
    "migrate",
    "topology",
    "publish",
    "results",
    "results follow",
    "results republish",
    "import",
    "import catalogue",
    "import customers",
    "demo",
    "show",
    "show command",
    "show customer",
    "show history",
    "dead-letters",
    "dead-letters list",
    "dead-letters groups",
    "dead-letters show",
    "dead-letters replay",
    "dead-letters edit",
    "dead-letters discard",
    "dead-letters restore",
    "dead-letters export",
    "dead-letters bulk-jobs",
    "lanes",
    "lanes list",
    "lanes pause",
    "lanes resume",
    "lanes move",
    "doctor",
    "console",
    "console token",
    "completions",
    "man",
];
