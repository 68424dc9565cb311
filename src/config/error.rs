//! Why a configuration can't be used.

use std::io;
use std::path::PathBuf;

/// A setting that can't be taken. None of the texts holds a value that may be secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration file.
    #[error("can't read the configuration file {path}")]
    File {
        /// As it was given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{origin}, line {line}: not TOML: {problem}")]
    Syntax {
        /// The file.
        origin: String,
        /// Counted from 1.
        line: usize,
        /// What the parser says.
        problem: String,
    },
    /// A key or variable that nothing reads, or with a value that can't be taken.
    #[error("{name} ({origin}): {problem}")]
    Value {
        /// The key, or the variable's name, with the path to what is wrong in it.
        name: String,
        /// The file or the environment.
        origin: String,
        /// What is wrong with it, and what to write.
        problem: String,
    },
    /// A key that this command needs.
    #[error("{key} is not set: {remedy}")]
    Missing {
        /// The key.
        key: &'static str,
        /// What to write.
        remedy: &'static str,
    },
}
