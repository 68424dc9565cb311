//! What happens to workers.

use crate::faults::trial::{DEADLINE, SOME, Trial};
use crate::harness::eventually;
use crate::harness::worker::close_workers_connections;

const PAUSED: &str = "insert into lane_pause (lane, actor, reason, source) \
     values ('main', 'somebody', 'a trial', 'tests')";
const RESUMED: &str = "update lane_pause set resumed_at = now(), resumed_by = 'somebody'";

#[derive(Clone, Copy, Debug)]
pub(crate) enum Worker {
    /// kill -9 of the active one; another is started.
    Killed,
    /// kill -9 of the active one while another stands by.
    KilledWithStandby,
    /// Frozen until another has the lane, then thawed: a zombie.
    Frozen,
    /// SIGTERM in the middle of its work; another is started.
    Drained,
    /// Told twice to stop, while another stands by: it exits at once. Three times.
    StoppedAtOnce,
    /// A further one joins, and one leaves.
    JoinedAndLeft,
    /// Each is replaced, the new one started first.
    Rolled,
    /// The operator closes its connections to the broker.
    Disconnected,
    /// Somebody else takes its lane in the database, and does nothing with it.
    LaneTaken,
    /// An operator pauses the lane, at two workers, and resumes it.
    LanePaused,
}

impl Worker {
    pub(crate) async fn inflict(self, trial: &mut Trial) {
        let active = trial.active().await;
        match self {
            Self::Killed => trial.workers.remove(active).kill().await,
            Self::KilledWithStandby => {
                trial.start_worker("");
                trial.progress(SOME).await;
                let active = trial.active().await;
                trial.workers.remove(active).kill().await;
            }
            Self::Frozen => {
                trial.workers[active].signal("STOP").await;
                trial.start_worker("");
                close_workers_connections(&trial.place).await;
                trial.progress(SOME).await;
            }
            Self::Drained => drain(trial, active).await,
            Self::StoppedAtOnce => {
                trial.pause_load().await;
                for _ in 0..3 {
                    trial.queue_up().await;
                    trial.start_worker("");
                    trial.progress(SOME).await;
                    let active = trial.active().await;
                    let mut worker = trial.workers.remove(active);
                    worker.signal("TERM").await;
                    if worker.is_running() {
                        worker.signal("TERM").await;
                    }
                    worker.ended().await;
                    trial.progress(SOME).await;
                }
                trial.resume_load();
            }
            Self::JoinedAndLeft => {
                trial.start_worker("");
                trial.start_worker("");
                trial.progress(SOME).await;
            }
            Self::Rolled => {
                for _ in 0..3 {
                    trial.start_worker("");
                    let active = trial.active().await;
                    drain(trial, active).await;
                    trial.progress(SOME).await;
                }
            }
            Self::Disconnected => close_workers_connections(&trial.place).await,
            Self::LaneTaken => {
                trial.rows.execute("update lane set epoch = epoch + 1, owner = 'no worker'").await;
            }
            Self::LanePaused => {
                trial.start_worker("");
                trial.rows.execute(PAUSED).await;
                for worker in &trial.workers {
                    eventually(DEADLINE, "the worker has drained the lane", async || {
                        worker.words().contains("is stopped until it is resumed").then_some(())
                    })
                    .await;
                }
            }
        }
    }

    pub(crate) async fn heal(self, trial: &mut Trial) {
        match self {
            Self::Killed | Self::Drained => trial.start_worker(""),
            Self::Frozen => {
                for worker in &mut trial.workers {
                    worker.signal("CONT").await;
                }
            }
            Self::JoinedAndLeft => {
                for _ in 0..2 {
                    let active = trial.active().await;
                    drain(trial, active).await;
                    trial.progress(SOME).await;
                }
            }
            Self::LanePaused => trial.rows.execute(RESUMED).await,
            Self::KilledWithStandby
            | Self::StoppedAtOnce
            | Self::Rolled
            | Self::Disconnected
            | Self::LaneTaken => {}
        }
    }
}

async fn drain(trial: &mut Trial, worker: usize) {
    let mut worker = trial.workers.remove(worker);
    // Before it has started, the signal ends it like any process.
    let has_started = async || worker.words().contains("starts as").then_some(());
    eventually(DEADLINE, "the worker has started", has_started).await;
    worker.signal("TERM").await;
    assert!(worker.ended().await.success(), "a drained worker ends well");
}
