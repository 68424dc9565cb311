//! Says every few seconds that this process lives, and warns of others that have its `worker_id`.
//!
//! Order and exactness do not depend on the `worker_id`: lanes have tokens, tries and bulk jobs have the id of
//! the process. But people use it, so two workers with one id are reported.

use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::store::session::{self, Session};
use crate::store::worker_processes::{self, Process, REMEDY};
use crate::worker::counters::LaneCounters;

/// As long as it lasts, twins are warned of again this often.
const WARNING_INTERVAL: Duration = Duration::from_mins(10);
/// Bounds the note that the process ends.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// The presence of one process.
pub(crate) struct Presence {
    own: Process,
    counters: LaneCounters,
    warned_at: Option<Instant>,
}

impl Presence {
    pub(crate) fn of(worker: &str, process: Uuid, counters: LaneCounters) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = Some(host.trim()).filter(|host| !host.is_empty()).unwrap_or("unknown host");
        let own = Process {
            id: process,
            worker: worker.to_owned(),
            host: host.to_owned(),
            os_process_id: i32::try_from(std::process::id()).unwrap_or_default(),
        };
        Self { own, counters, warned_at: None }
    }

    /// Says that the process lives. If that can't be said, the next time will do.
    pub(crate) async fn report(&mut self, session: &mut Session) {
        let reporting = session::bounded(session.timeout(), async {
            worker_processes::report(session.connection().await?, &self.own).await
        });
        match reporting.await {
            Ok(twins) => self.note(&twins),
            Err(error) => {
                tracing::debug!(
                    "the heartbeat of this worker could not be stored; it is retried: {error}"
                );
                session.discard();
            }
        }
    }

    /// Says that the process ends.
    pub(crate) async fn leave(&self, session: &mut Session) {
        let left = session::bounded(LEAVE_TIMEOUT, async {
            worker_processes::leave(session.connection().await?, self.own.id).await
        });
        if let Err(error) = left.await {
            tracing::debug!("the end of this worker could not be stored: {error}");
        }
    }

    fn note(&mut self, twins: &[String]) {
        let before = self.counters.set_twins(twins.to_vec());
        if twins.is_empty() {
            self.warned_at = None;
            if !before.is_empty() {
                tracing::info!(
                    worker.id = self.own.worker,
                    "no other live worker uses worker_id `{}` any more",
                    self.own.worker
                );
            }
            return;
        }
        let is_due = self.warned_at.is_none_or(|at| at.elapsed() > WARNING_INTERVAL);
        if before != twins || is_due {
            self.warned_at = Some(Instant::now());
            tracing::warn!(
                worker.id = self.own.worker,
                worker.process = %self.own.id,
                "worker_id `{}` is also used by {}: lanes, logs and connections don't tell these workers apart; {REMEDY}",
                self.own.worker,
                twins.join(", "),
            );
        }
    }
}
