//! The repository's own files, for tests that read them.

use std::fs;
use std::path::{Path, PathBuf};

/// Built, foreign, or a tool's.
const SKIPPED: [&str; 4] = ["target", ".git", ".sqlx", "__fuzz__"];

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files in `folder` and below it that have one of the extensions.
pub(crate) fn files(folder: &str, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a readable folder") {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                if !SKIPPED.iter().any(|name| path.ends_with(name)) {
                    folders.push(path);
                }
            } else if extensions.iter().any(|end| path.extension().is_some_and(|e| e == *end)) {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "no files of {extensions:?} in {folder}");
    found
}
