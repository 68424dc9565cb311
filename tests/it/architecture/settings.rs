//! Holds the reference of the settings in README.md and `deploy/config.example.toml` to the code.
//!
//! A setting is named by its path in the file: `batch_size`, `lane.name`, `console.token.role`.

use std::collections::BTreeMap;
use std::fs;

use partner_program_worker::config::Config;
use partner_program_worker::config::console::{Console, Proxy, Token};
use partner_program_worker::config::lane::Lane;
use serde_aux::serde_introspection::serde_introspect;
use toml::{Table, Value};

use crate::architecture::assert_none;
use crate::harness::repository::root;

/// Those below `console` have none either.
const WITHOUT_DEFAULT: [&str; 6] =
    ["amqp_url", "database_url", "management_url", "prefetch", "publishers", "worker_id"];

/// A row of the reference.
struct Row {
    default: Option<Value>,
    /// As it is written: `1 to 1999`.
    range: String,
}

/// A line of the example.
struct Line {
    value: String,
    is_comment: bool,
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect("a readable file")
}

/// The names that the code takes.
fn known() -> Vec<String> {
    let tables = [
        ("", serde_introspect::<Config>()),
        ("lane.", serde_introspect::<Lane>()),
        ("console.", serde_introspect::<Console>()),
        ("console.token.", serde_introspect::<Token>()),
        ("console.proxy.", serde_introspect::<Proxy>()),
    ];
    let all: Vec<String> = tables
        .iter()
        .flat_map(|(table, keys)| keys.iter().map(move |key| format!("{table}{key}")))
        .collect();
    let is_table = |name: &str| all.iter().any(|other| other.starts_with(&format!("{name}.")));
    let mut settings: Vec<String> = all.iter().filter(|name| !is_table(name)).cloned().collect();
    settings.sort();
    settings
}

/// What a cell gives as a default; prose gives none.
fn default_of(cell: &str) -> Option<Value> {
    let code = cell.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
    let toml = toml_value(code.unwrap_or(cell));
    toml.or_else(|| code.map(Value::from))
}

fn toml_value(text: &str) -> Option<Value> {
    format!("it = {text}").parse::<Table>().ok()?.remove("it")
}

/// The rows of the table in README.md, each setting of a row for itself.
fn reference() -> BTreeMap<String, Row> {
    let readme = text("README.md");
    let (_, rest) = readme.split_once("| key | default | range |").expect("the table");
    let mut rows = BTreeMap::new();
    for line in rest.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let names: Vec<&str> = cells[1].split('`').skip(1).step_by(2).collect();
        let (table, keys) = match names.split_first() {
            Some((table, [])) => (None, vec![table.trim_matches(['[', ']'])]),
            Some((table, keys)) if table.starts_with('[') => {
                (Some(table.trim_matches(['[', ']'])), keys.to_vec())
            }
            Some(_) => (None, names),
            None => panic!("a row without a key: {line}"),
        };
        for key in keys {
            let name = table.map_or(key.to_owned(), |table| format!("{table}.{key}"));
            let row = Row { default: default_of(cells[2]), range: cells[3].to_owned() };
            assert!(rows.insert(name, row).is_none(), "{key} stands twice: {line}");
        }
    }
    rows
}

/// The settings of the example, commented out or not; where a lane or a table stands twice, the first.
fn example() -> BTreeMap<String, Line> {
    let mut lines = BTreeMap::new();
    let mut table = String::new();
    for line in text("deploy/config.example.toml").lines() {
        let (code, is_comment) = match line.strip_prefix("# ") {
            Some(code) => (code, true),
            None => (line, false),
        };
        let is_key = |key: &str| {
            key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        if code.starts_with('[') && code.ends_with(']') {
            table = code.trim_matches(['[', ']']).to_owned();
        } else if let Some((key, value)) = code.split_once(" = ").filter(|(key, _)| is_key(key)) {
            let name = match table.as_str() {
                "" => key.to_owned(),
                "publishers" => table.clone(),
                _ => format!("{table}.{key}"),
            };
            lines.entry(name).or_insert(Line { value: value.to_owned(), is_comment });
        }
    }
    lines
}

/// A file that sets one setting, or that has only what must stand beside it.
fn file(name: &str, value: Option<&Value>) -> String {
    let beside = match name {
        "lane.name" => "",
        "lane.parked_max" => "name = \"main\"\nafter_dead_letter = \"hold-customer\"",
        name if name.starts_with("lane.") => "name = \"main\"",
        _ => "",
    };
    let (table, key) = name.rsplit_once('.').unwrap_or(("", name));
    let header = match table {
        "" => String::new(),
        "lane" | "console.token" => format!("[[{table}]]"),
        _ => format!("[{table}]"),
    };
    let line = value.map_or(String::new(), |value| format!("{key} = {value}"));
    match (beside, line.as_str()) {
        ("", "") => String::new(),
        _ => format!("{header}\n{beside}\n{line}"),
    }
}

fn load(file: &str, env: &[(&str, &str)]) -> Result<Config, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("settings.toml");
    fs::write(&path, file).expect("a file");
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load(Some(&path), env).map_err(|error| error.to_string())
}

#[test]
fn the_reference_and_the_example_have_every_setting_and_no_other() {
    assert_eq!(reference().into_keys().collect::<Vec<_>>(), known(), "README.md");
    assert_eq!(example().into_keys().collect::<Vec<_>>(), known(), "deploy/config.example.toml");
}

#[test]
fn the_defaults_of_the_reference_are_those_of_the_code() {
    let mut findings = Vec::new();
    for (name, row) in reference() {
        let has_none = WITHOUT_DEFAULT.contains(&&*name) || name.starts_with("console.");
        if has_none != row.default.is_none() {
            findings.push(format!("{name}: a default is missing, or there is none"));
        }
        let Some(default) = &row.default else { continue };
        // With more memory than by default, so that the batch is not cut down.
        for env in [&[][..], &[("PARTNER_PROGRAM_MEMORY_BUDGET_BYTES", "4294967296")]] {
            if load(&file(&name, Some(default)), env) != load(&file(&name, None), env) {
                findings.push(format!("{name}: {default} is not its default"));
            }
        }
    }
    assert_none(&findings);
}

#[test]
fn the_ranges_of_the_reference_are_those_of_the_code() {
    let mut findings = Vec::new();
    for (name, row) in reference() {
        let refused =
            load(&file(&name, Some(&Value::from(-1))), &[]).expect_err("no setting is -1");
        let range = refused.split_once("a whole number from ").map_or("", |(_, range)| range);
        if row.range != range {
            findings.push(format!("{name}: `{}`, but the code takes `{range}`", row.range));
        }
    }
    assert_none(&findings);
}

#[test]
fn the_example_sets_the_defaults_and_comments_out_what_has_none() {
    let reference = reference();
    let mut findings = Vec::new();
    for (name, line) in example() {
        let default = reference.get(&name).and_then(|row| row.default.clone());
        // It is refused in a lane that parks no commands, as by default.
        let is_refused = name == "lane.parked_max";
        if line.is_comment != (default.is_none() || is_refused) {
            findings.push(format!("{name}: only what has no default is commented out"));
        }
        if default.is_some() && default != toml_value(&line.value) {
            findings.push(format!("{name}: {} is not its default", line.value));
        }
    }
    assert_none(&findings);
    let all = load(&text("deploy/config.example.toml"), &[]);
    assert!(all.is_ok());
    assert_eq!(all, load("", &[]), "the example as a whole");
}
