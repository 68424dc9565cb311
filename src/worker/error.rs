//! Why a worker ends without being asked to.

use crate::config;

/// Why the worker as a whole ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting that a worker needs is missing.
    #[error(transparent)]
    Config(#[from] config::error::Error),
    /// The database does not keep what it commits.
    #[error("{0}")]
    NotDurable(String),
    /// The schema has lost what this program needs.
    #[error("{0}")]
    ProgramTooOld(String),
    /// A task panicked: a defect in the worker itself.
    #[error("a task of the worker stopped by itself: {0}")]
    TaskStopped(String),
    /// The drain took longer than `shutdown_deadline_ms`; what was not acked is redelivered.
    #[error("the lanes were not drained within {0} ms: what they held will be redelivered")]
    DrainDeadline(u64),
    /// A second signal asked to stop at once.
    #[error("stopped at once: what the lanes held will be redelivered")]
    Killed,
}
