//! Names that `docs/glossary.md` has replaced don't come back.

use std::fs;

use crate::architecture::assert_none;
use crate::harness::repository::{files, root};

/// Where the names may not stand.
const FOLDERS: [&str; 4] = ["src", "tests", "benches", "docs"];

/// Unmistakable old names; each may be a part of an identifier.
const OLD_NAMES: [&str; 26] = [
    "Scout",
    "Tenure",
    "Acquaintance",
    "Hands::",
    "Speaker",
    "Announcer",
    "Pulse",
    "Isolation",
    "Taken>",
    "Settled::",
    "Scouted",
    "Patience",
    "Losses",
    "InHand",
    ".in_hand",
    "acked_windows",
    "repeated_windows",
    "fit_for_windows",
    "take_up",
    "outlast",
    "crate::ops",
    "window_items",
    "Scene",
    "Forecast",
    "Charge",
    "Asking",
];

#[test]
fn old_names_stay_away() {
    let mut findings = Vec::new();
    for folder in FOLDERS {
        for path in files(folder, &["rs", "md", "html", "sql", "toml"]) {
            let shown = path.strip_prefix(root()).expect("below the root").display().to_string();
            if shown.ends_with("architecture/names.rs") || shown.ends_with("RESULTS.md") {
                continue;
            }
            let text = fs::read_to_string(&path).expect("a readable file");
            for (number, line) in text.lines().enumerate() {
                let old = OLD_NAMES.iter().filter(|old| line.contains(**old));
                findings.extend(old.map(|old| format!("{shown}:{}: {old}", number + 1)));
            }
        }
    }
    assert_none(&findings);
}
