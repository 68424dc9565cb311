//! The time bound on an evaluation.
//!
//! An evaluation is pure computation, so a command that never ends can't be interrupted: it would
//! block its lane, and a thread of the runtime, for good. The process ends itself instead, and the
//! next start finds the command as one that the process did not survive: it runs alone, and is given
//! up after `attempts_limit` such deaths.

use std::collections::BTreeMap;
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

/// A batch of 512 commands takes some milliseconds.
const EVALUATION_MAX: Duration = Duration::from_secs(10);
/// How often the watcher looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// When the evaluations that are under way have begun.
static RUNNING: Mutex<BTreeMap<u64, Instant>> = Mutex::new(BTreeMap::new());
static WATCHER: Once = Once::new();

/// Ends when it is dropped, at the evaluation's end.
pub(crate) struct Deadline(u64);

impl Deadline {
    pub(crate) fn start() -> Self {
        WATCHER.call_once(|| {
            let watcher = std::thread::Builder::new().name("evaluation-deadline".into());
            if let Err(error) = watcher.spawn(watch) {
                tracing::error!(
                    "evaluations have no time bound: no thread can be started: {error}"
                );
            }
        });
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let id = running.last_key_value().map_or(0, |(last, _)| last + 1);
        running.insert(id, Instant::now());
        Self(id)
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

fn watch() {
    loop {
        std::thread::sleep(INTERVAL);
        let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        if running.values().any(|begun| begun.elapsed() > EVALUATION_MAX) {
            tracing::error!(
                "an evaluation takes longer than {} s; the worker ends itself, and its next start \
                 tries the commands in small parts",
                EVALUATION_MAX.as_secs()
            );
            std::process::abort();
        }
    }
}
