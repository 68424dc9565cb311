//! The permit to try commands: many executors share it, or one has it alone.
//!
//! A command that failed by itself, or that a process did not survive, runs alone in the process: if
//! the process dies then, no other command can be the cause, and no other lane can be the cause of a
//! failure. Permits are granted in the order in which they are asked for, so neither kind waits for longer
//! than the tries that are under way, each of which has a bound.

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use uuid::Uuid;

use crate::failpoint;

/// The permits of one process.
pub(crate) struct Permits {
    /// Tells this process's tries from those of others.
    pub(crate) process: Uuid,
    running: RwLock<()>,
}

/// Ends when it is dropped.
pub(crate) enum Permit<'a> {
    Shared { _guard: RwLockReadGuard<'a, ()> },
    Alone { _guard: RwLockWriteGuard<'a, ()> },
}

impl Permits {
    pub(crate) fn of(process: Uuid) -> Self {
        Self { process, running: RwLock::new(()) }
    }

    /// To run beside other executors. Cancel-safe.
    pub(crate) async fn shared(&self) -> Permit<'_> {
        Permit::Shared { _guard: self.running.read().await }
    }

    /// To run while no other executor does. Cancel-safe.
    pub(crate) async fn alone(&self) -> Permit<'_> {
        failpoint::without!(Alone, return self.shared().await);
        Permit::Alone { _guard: self.running.write().await }
    }
}
