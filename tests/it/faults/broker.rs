//! What happens to RabbitMQ.

use crate::faults::database::own;
use crate::faults::trial::{DEADLINE, LANE, Trial};
use crate::harness::eventually;
use crate::harness::subscriber::QUEUE;

const RESULTS: &str = "partner-program.results";
/// The user that [`ask_for_a_password`] makes.
const USER: &str = "partner-program-tested";

#[derive(Clone, Copy, Debug)]
pub(crate) enum Broker {
    /// kill -9; own servers.
    Killed,
    /// Own servers.
    Stopped,
    /// It is short of memory and takes no writes; own servers.
    MemoryAlarm,
    /// Its disk is nearly full and it takes no writes; own servers.
    DiskAlarm,
    /// The lane's queue is deleted while nothing is in it.
    QueueDeleted,
    /// It closes the channel because acks take too long; own servers.
    AckTimeout,
    /// Nobody subscribes to results.
    ResultsUnbound,
    /// The subscriber's queue is full and refuses results.
    ResultsFull,
    /// The worker's password has changed.
    WrongPassword,
}

impl Broker {
    pub(crate) async fn inflict(self, trial: &mut Trial) {
        match self {
            Self::Killed => own(trial).rabbitmq.kill().await,
            Self::Stopped => own(trial).rabbitmq.stop().await,
            Self::MemoryAlarm => watermark(trial, "1MB").await,
            // More than any disk has.
            Self::DiskAlarm => disk_free_limit(trial, "900000GB").await,
            Self::QueueDeleted => {
                trial.pause_load().await;
                assert!(trial.drained().await, "the lane runs empty");
                trial.place.broker.delete_queue(&format!("partner-program.commands.{LANE}"));
                trial.resume_load();
            }
            Self::AckTimeout => {
                // Locked out of a table, the worker holds its deliveries for longer than that.
                trial.rows.execute("begin; lock table command_log in access exclusive mode").await;
                let broker = &trial.place.broker;
                eventually(DEADLINE, "the broker takes the deliveries back", async || {
                    let depth = broker.depth(&format!("partner-program.commands.{LANE}"))?;
                    (depth.unacked == 0 && depth.ready > 0).then_some(())
                })
                .await;
            }
            Self::ResultsUnbound => trial.place.broker.unbind(RESULTS, QUEUE, "#"),
            Self::ResultsFull => {
                trial.subscriber.pause();
                trial.place.broker.limit_length(QUEUE, 20);
            }
            Self::WrongPassword => {
                trial.place.broker.set_user(USER, "changed");
                trial.broker.cut();
            }
        }
    }

    pub(crate) async fn heal(self, trial: &mut Trial) {
        match self {
            Self::Killed | Self::Stopped => own(trial).rabbitmq.start().await,
            Self::MemoryAlarm => watermark(trial, "1GB").await,
            Self::DiskAlarm => disk_free_limit(trial, "50MB").await,
            Self::AckTimeout => trial.rows.execute("rollback").await,
            Self::ResultsUnbound => trial.place.broker.bind(RESULTS, QUEUE, "#"),
            Self::ResultsFull => {
                trial.place.broker.lift_limit();
                trial.subscriber.listen();
            }
            Self::WrongPassword => trial.place.broker.set_user(USER, "right"),
            Self::QueueDeleted => {}
        }
    }
}

async fn watermark(trial: &Trial, limit: &str) {
    own(trial).rabbitmq.control(&["set_vm_memory_high_watermark", "absolute", limit]).await;
}

async fn disk_free_limit(trial: &Trial, limit: &str) {
    own(trial).rabbitmq.control(&["set_disk_free_limit", limit]).await;
}

/// Lets the workers of a trial come with a name and a password of their own.
pub(crate) fn ask_for_a_password(trial: &mut Trial) {
    trial.place.broker.set_user(USER, "right");
    let url = trial.broker.url().replace("guest:guest@", &format!("{USER}:right@"));
    trial.settings = trial.settings.clone().with("AMQP_URL", format!("{url}?heartbeat=2"));
}

/// Lets the broker wait for acks for a few seconds only.
pub(crate) async fn be_impatient_for_acks(trial: &Trial) {
    own(trial)
        .rabbitmq
        .control(&[
            "eval",
            "application:set_env(rabbit, consumer_timeout, 5000), \
             application:set_env(rabbit, channel_tick_interval, 1000).",
        ])
        .await;
}
