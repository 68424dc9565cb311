//! Holds the source tree against its architecture: the layers, who may use which library, and
//! the length of a file.
//!
//! It reads text, not syntax: comments are dropped, paths are looked for. That is enough because
//! the house style names every path in full.

mod cycles;
mod names;
mod settings;

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::repository::{files, root};

/// The modules and their layers: imports point down, never sideways.
const LAYERS: [(&str, u8); 8] = [
    ("cli", 4),
    ("console", 3),
    ("usecases", 2),
    ("worker", 2),
    ("broker", 1),
    ("wire", 1),
    ("store", 1),
    ("domain", 0),
];

/// Modules that every layer may use, and that use none.
const UTILITIES: [&str; 7] =
    ["message", "clock", "config", "failpoint", "periodic", "retry", "telemetry"];

/// Each library that only one place may use.
const ONLY_IN: [(&str, &[&str]); 11] = [
    ("lapin", &["broker"]),
    ("sqlx", &["store"]),
    ("axum", &["console"]),
    ("tower_http", &["console"]),
    ("askama", &["console"]),
    ("backoff", &["retry"]),
    ("fail", &["failpoint"]),
    ("clap", &["cli", "main"]),
    ("toml", &["config", "cli", "store", "usecases"]),
    ("rustls", &["broker", "cli", "main"]),
    ("ureq", &["broker"]),
];

const LINES_MAX: usize = 400;

/// One file, as the checks see it.
struct Source {
    /// Relative to the crate's root.
    path: PathBuf,
    /// The module at the crate's root that it belongs to; `main` or `lib` at the top.
    module: String,
    lines: usize,
    /// Without comments.
    code: String,
}

impl Source {
    fn layer(&self) -> Option<u8> {
        layer(&self.module)
    }

    /// Every module at the crate's root that the file names.
    fn named_modules(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for root in ["crate::", "partner_program_worker::"] {
            for (at, _) in self.code.match_indices(root) {
                let rest = &self.code[at + root.len()..];
                let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
                names.push(&rest[..end]);
            }
        }
        // From a module's `mod.rs`, `super` is the crate's root.
        if self.path.ends_with("mod.rs") {
            for (name, _) in LAYERS {
                if self.code.contains(&format!("super::{name}::")) {
                    names.push(name);
                }
            }
        }
        names
    }

    /// Whether a path of that library stands in the file.
    fn uses(&self, library: &str) -> bool {
        ["::", ";", " as "].iter().any(|after| {
            let path = format!("{library}{after}");
            self.code.match_indices(&path).any(|(at, _)| {
                let before = self.code[..at].chars().next_back();
                before.is_none_or(|c| !is_word(c) && c != ':')
                    && (*after == "::" || self.code[..at].ends_with("use "))
            })
        })
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn layer(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

fn sources(folder: &str) -> Vec<Source> {
    files(folder, &["rs"]).iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Source {
    let text = fs::read_to_string(path).expect("a readable source");
    let code: Vec<&str> = text
        .lines()
        .map(|line| if line.trim_start().starts_with("//") { "" } else { line })
        .collect();
    let path = path.strip_prefix(root()).expect("below the root").to_owned();
    let module = path.iter().nth(1).expect("a file below its folder");
    let module = module.to_string_lossy().trim_end_matches(".rs").to_owned();
    Source { lines: text.lines().count(), code: code.join("\n"), module, path }
}

/// Fails with every finding at once.
fn assert_none(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn imports_point_down_and_never_sideways() {
    let mut findings = Vec::new();
    for source in sources("src") {
        for name in source.named_modules() {
            let Some(theirs) = layer(name) else {
                continue;
            };
            let allowed = match source.layer() {
                Some(ours) => name == source.module || theirs < ours,
                // `main` and `lib` stand above all layers, a utility below them.
                None => !UTILITIES.contains(&source.module.as_str()),
            };
            if !allowed {
                findings.push(format!("{} imports `{name}`", source.path.display()));
            }
        }
    }
    assert_none(&findings);
}

#[test]
fn every_module_has_a_layer_or_is_a_utility() {
    let mut findings = Vec::new();
    for source in sources("src") {
        let known = source.layer().is_some()
            || UTILITIES.contains(&source.module.as_str())
            || ["main", "lib"].contains(&source.module.as_str());
        if !known {
            findings.push(format!("{}: `{}` has no layer", source.path.display(), source.module));
        }
    }
    assert_none(&findings);
}

#[test]
fn a_library_is_used_only_where_it_belongs() {
    let mut findings = Vec::new();
    for source in sources("src") {
        for (library, places) in ONLY_IN {
            if source.uses(library) && !places.contains(&source.module.as_str()) {
                findings.push(format!("{} uses `{library}`", source.path.display()));
            }
        }
    }
    assert_none(&findings);
}

#[test]
fn the_domain_is_pure() {
    let mut findings = Vec::new();
    for source in sources("src").iter().filter(|source| source.module == "domain") {
        for library in ["serde", "serde_json", "tokio", "tracing", "sqlx", "lapin"] {
            if source.uses(library) {
                findings.push(format!("{} uses `{library}`", source.path.display()));
            }
        }
        if source.code.contains("async fn") || source.code.contains("Utc::now") {
            findings.push(format!("{} does IO or asks the clock", source.path.display()));
        }
    }
    assert_none(&findings);
}

#[test]
fn a_module_with_modules_of_its_own_is_a_mod_rs() {
    let mut findings = Vec::new();
    for folder in ["src", "tests", "benches/suite"] {
        for source in sources(folder) {
            let own = root().join(source.path.with_extension(""));
            let has_modules = fs::read_dir(&own).is_ok_and(|mut entries| {
                entries.any(|entry| {
                    entry.is_ok_and(|entry| entry.path().extension().is_some_and(|it| it == "rs"))
                })
            });
            if has_modules {
                findings.push(format!(
                    "{}: call it {}/mod.rs",
                    source.path.display(),
                    own.display()
                ));
            }
        }
    }
    assert_none(&findings);
}

#[test]
fn paths_are_named_in_full() {
    let mut findings = Vec::new();
    for source in sources("src") {
        // Tests name what they test, so they may say `super`.
        let is_tests = source.path.iter().any(|part| part == "tests" || part == "tests.rs");
        for line in source.code.lines() {
            let relative = !is_tests && line.starts_with("use super::");
            let line = line.trim();
            let re_export = line.starts_with("pub use ") || line.starts_with("pub(crate) use ");
            let catch_all = line.starts_with("use crate::{") || line.starts_with("use crate::*");
            if re_export || catch_all || relative {
                findings.push(format!("{}: {line}", source.path.display()));
            }
        }
    }
    assert_none(&findings);
}

#[test]
fn no_file_is_too_long_for_one_purpose() {
    let all = ["src", "tests", "benches"].into_iter().flat_map(sources);
    let findings = all
        .filter(|source| source.lines > LINES_MAX)
        .map(|source| format!("{} has {} lines", source.path.display(), source.lines));
    assert_none(&findings.collect::<Vec<_>>());
}

#[test]
fn a_test_is_never_ignored() {
    let all = ["src", "tests"].into_iter().flat_map(sources);
    // Spelt apart, lest this file finds itself.
    let marks = [concat!("#[", "ignore"), concat!("should_", "panic")];
    let findings = all
        .filter(|source| marks.iter().any(|mark| source.code.contains(mark)))
        .map(|source| source.path.display().to_string());
    assert_none(&findings.collect::<Vec<_>>());
}

#[test]
fn an_import_upwards_or_sideways_would_be_found() {
    let source = |path: &str, code: &str| Source {
        path: PathBuf::from(path),
        module: Path::new(path)
            .iter()
            .nth(1)
            .map_or_else(String::new, |m| m.to_string_lossy().into()),
        lines: 1,
        code: code.to_owned(),
    };
    let names = |path, code| {
        let source = source(path, code);
        source.named_modules().into_iter().map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names("src/store/load.rs", "use crate::wire::decode;"), ["wire"]);
    assert_eq!(names("src/store/load.rs", "let x = crate::broker::x();"), ["broker"]);
    assert_eq!(names("src/store/mod.rs", "use super::worker::lane;"), ["worker"]);
    assert!(source("src/wire/x.rs", "use sqlx::PgConnection;").uses("sqlx"));
    assert!(source("src/wire/x.rs", "fn f() -> sqlx::Error {}").uses("sqlx"));
    assert!(!source("src/wire/x.rs", "use crate::sqlx_like::X;").uses("sqlx"));
}
