//! What every subcommand has at hand, and how it ends.

use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;

use crate::cli::output::Output;
use crate::config::{self, Config};
use crate::telemetry;

/// The exit code of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All done.
    Success,
    /// Something broke; the text on standard error says what.
    Failure,
    /// The arguments or the settings.
    Usage,
    /// What was asked for does not exist.
    NotFound,
    /// Something is in the way: other contents, pending migrations, a differing topology.
    Conflict,
    /// Some of it was done, some was not; the output says which.
    PartlyFailed,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Success => 0_u8,
            Exit::Failure => 1,
            Exit::Usage => 2,
            Exit::NotFound => 3,
            Exit::Conflict => 5,
            Exit::PartlyFailed => 6,
        })
    }
}

/// A refusal that has an exit code of its own; everything else is a failure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Conflict(String),
}

/// What every subcommand has at hand.
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(super) output: Output,
}

/// The exit code that an error leads to.
pub(crate) fn exit_of(error: &anyhow::Error) -> Exit {
    for cause in error.chain() {
        if let Some(refusal) = cause.downcast_ref() {
            return match refusal {
                Refusal::Usage(_) => Exit::Usage,
                Refusal::NotFound(_) => Exit::NotFound,
                Refusal::Conflict(_) => Exit::Conflict,
            };
        }
        if cause.is::<config::error::Error>() || cause.is::<telemetry::Error>() {
            return Exit::Usage;
        }
        // The reader of the output has seen enough, as `head` has.
        if cause.downcast_ref().is_some_and(|e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe) {
            return Exit::Success;
        }
    }
    Exit::Failure
}

/// The error and its causes; those that the text before has said already are left out.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !line.contains(&cause) {
            let separator = if line.is_empty() { "" } else { ": " };
            // Writing to a String can't fail.
            let _infallible = write!(line, "{separator}{}", cause.replace('\n', " "));
        }
    }
    line
}
