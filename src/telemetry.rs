//! Logs: to standard error, as text for people or as JSON for machines.
//!
//! Deliberately absent: log files and their rotation: the service manager has these.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// lapin reports as an error what its caller gets as one, and handles; a filter that names it wins.
const QUIET: &str = "lapin=off";

/// Why logging can't begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter is not in the syntax of `RUST_LOG`.
    #[error(
        "`{filter}` is no log filter: {problem}; write e.g. `info` or `warn,partner_program_worker=debug`"
    )]
    Filter {
        /// As it was given.
        filter: String,
        /// What the parser says.
        problem: String,
    },
    /// Something has installed a logger before.
    #[error("logging has begun already")]
    Begun,
}

/// Sends the process's log lines to standard error; called once.
pub fn init(filter: &str, format: LogFormat) -> Result<(), Error> {
    let parsed = EnvFilter::builder()
        .parse(format!("{QUIET},{filter}"))
        .map_err(|error| Error::Filter { filter: filter.to_owned(), problem: error.to_string() })?;
    let lines = tracing_subscriber::fmt().with_env_filter(parsed).with_writer(io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    }
    .map_err(|_begun| Error::Begun)
}
