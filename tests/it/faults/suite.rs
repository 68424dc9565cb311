//! Each fault under load, alone.

use std::time::Duration;

use crate::faults::broker::Broker;
use crate::faults::database::Database;
use crate::faults::fault::{Fault, Network, Server};
use crate::faults::trial::{DEADLINE, SOME, Trial};
use crate::faults::worker::Worker;
use crate::faults::{broker, database};
use crate::harness::eventually;

/// Seconds that a fault lasts.
const OUTAGE_VARIABLE: &str = "PARTNER_PROGRAM_TEST_OUTAGE_S";

/// Long enough for the workers' timeouts, two seconds in a trial, to strike.
pub(crate) fn outage() -> Duration {
    let set = std::env::var(OUTAGE_VARIABLE).unwrap_or_else(|_| "3".to_owned());
    Duration::from_secs(set.parse().expect("a number of seconds"))
}

/// How long a fault lasts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lasts {
    /// As long as inflicting it takes.
    Briefly,
    AWhile,
}

async fn survives(mut trial: Trial, fault: Fault, lasts: Lasts) {
    trial.begin().await;
    fault.inflict(&mut trial).await;
    if lasts == Lasts::AWhile {
        tokio::time::sleep(outage()).await;
    }
    fault.heal(&mut trial).await;
    trial.progress(SOME).await;
    trial.assert_kept().await;
}

/// A test for each line: its name, the fault, how long it lasts, and on whose servers.
macro_rules! faults {
    ($($name:ident: $constructor:ident, $fault:expr, $lasts:ident;)*) => {
        $(#[tokio::test]
        async fn $name() {
            let name = stringify!($name).replace('_', " ");
            survives(Trial::$constructor(&name).await, $fault, Lasts::$lasts).await;
        })*
    };
}

faults! {
    a_worker_is_killed: new, Fault::Worker(Worker::Killed), Briefly;
    a_worker_is_killed_beside_a_standby: new, Fault::Worker(Worker::KilledWithStandby), Briefly;
    a_worker_is_frozen_past_failover: new, Fault::Worker(Worker::Frozen), Briefly;
    a_worker_is_stopped_in_mid_batch: new, Fault::Worker(Worker::Drained), Briefly;
    a_worker_is_stopped_at_once: new, Fault::Worker(Worker::StoppedAtOnce), Briefly;
    workers_join_and_leave: new, Fault::Worker(Worker::JoinedAndLeft), Briefly;
    workers_are_rolled: new, Fault::Worker(Worker::Rolled), Briefly;
    a_worker_is_disconnected_by_an_operator: new, Fault::Worker(Worker::Disconnected), Briefly;
    a_lane_is_paused_and_resumed: new, Fault::Worker(Worker::LanePaused), AWhile;
    a_lane_is_taken_from_its_worker: new, Fault::Worker(Worker::LaneTaken), Briefly;

    postgres_is_killed: on_own_servers, Fault::Database(Database::Killed), AWhile;
    postgres_is_stopped: on_own_servers, Fault::Database(Database::Stopped), AWhile;
    postgres_sessions_are_terminated: new, Fault::Database(Database::SessionsTerminated), Briefly;
    postgres_is_read_only: on_own_servers, Fault::Database(Database::ReadOnly), AWhile;
    postgres_commits_and_the_reply_is_lost: new, Fault::Database(Database::CommitsReplyLost), Briefly;
    postgres_holds_a_lock_for_long: new, Fault::Database(Database::Locked), AWhile;
    postgres_statements_take_too_long: new, Fault::Database(Database::SlowStatements), AWhile;
    postgres_disk_is_full: new, Fault::Database(Database::DiskFull), AWhile;
    postgres_disk_is_full_at_commit: new, Fault::Database(Database::DiskFullAtCommit), AWhile;
    postgres_meets_conflicts: new, Fault::Database(Database::Conflicts), AWhile;

    network_to_postgres_is_cut: new, Fault::Network(Server::Postgres, Network::Cut), Briefly;
    network_to_postgres_refuses: new, Fault::Network(Server::Postgres, Network::Refused), AWhile;
    network_to_postgres_is_half_open: new, Fault::Network(Server::Postgres, Network::HalfOpen), Briefly;
    network_to_postgres_loses_requests: new, Fault::Network(Server::Postgres, Network::DeafServer), AWhile;
    network_to_postgres_loses_answers: new, Fault::Network(Server::Postgres, Network::DeafWorker), AWhile;
    network_to_postgres_loses_everything: new, Fault::Network(Server::Postgres, Network::BlackHole), AWhile;
    network_to_postgres_is_slow: new, Fault::Network(Server::Postgres, Network::Slow), AWhile;
    network_to_postgres_drips: new, Fault::Network(Server::Postgres, Network::Dripping), AWhile;

    rabbitmq_has_a_memory_alarm: on_own_servers, Fault::Broker(Broker::MemoryAlarm), AWhile;
    rabbitmq_has_a_disk_alarm: on_own_servers, Fault::Broker(Broker::DiskAlarm), AWhile;
    rabbitmq_loses_the_lanes_queue: new, Fault::Broker(Broker::QueueDeleted), Briefly;
    rabbitmq_results_queue_is_full: new, Fault::Broker(Broker::ResultsFull), AWhile;

    network_to_rabbitmq_is_cut: new, Fault::Network(Server::RabbitMq, Network::Cut), Briefly;
    network_to_rabbitmq_refuses: new, Fault::Network(Server::RabbitMq, Network::Refused), AWhile;
    network_to_rabbitmq_is_half_open: new, Fault::Network(Server::RabbitMq, Network::HalfOpen), Briefly;
    network_to_rabbitmq_loses_requests: new, Fault::Network(Server::RabbitMq, Network::DeafServer), AWhile;
    network_to_rabbitmq_loses_answers: new, Fault::Network(Server::RabbitMq, Network::DeafWorker), AWhile;
    network_to_rabbitmq_loses_everything: new, Fault::Network(Server::RabbitMq, Network::BlackHole), AWhile;
    network_to_rabbitmq_is_slow: new, Fault::Network(Server::RabbitMq, Network::Slow), AWhile;
    network_to_rabbitmq_drips: new, Fault::Network(Server::RabbitMq, Network::Dripping), AWhile;
}

/// RabbitMQ 3.10 writes down which quorum queues it has some seconds after they were declared:
/// one that a crash finds younger does not come back. Ours are to be older.
async fn with_old_queues(name: &str) -> Trial {
    let mut trial = Trial::on_own_servers(name).await;
    trial.restart_broker().await;
    trial
}

#[tokio::test]
async fn rabbitmq_is_killed() {
    let trial = with_old_queues("rabbitmq is killed").await;
    survives(trial, Fault::Broker(Broker::Killed), Lasts::AWhile).await;
}

#[tokio::test]
async fn rabbitmq_is_stopped() {
    let trial = with_old_queues("rabbitmq is stopped").await;
    survives(trial, Fault::Broker(Broker::Stopped), Lasts::AWhile).await;
}

#[tokio::test]
async fn both_servers_are_killed() {
    let trial = with_old_queues("both servers are killed").await;
    survives(trial, Fault::Database(Database::KilledWithTheBroker), Lasts::AWhile).await;
}

#[tokio::test]
async fn postgres_has_another_password_for_a_while() {
    let mut trial = Trial::on_own_servers("postgres has another password for a while").await;
    database::ask_for_a_password(&mut trial).await;
    survives(trial, Fault::Database(Database::WrongPassword), Lasts::AWhile).await;
}

#[tokio::test]
async fn rabbitmq_has_another_password_for_a_while() {
    let mut trial = Trial::new("rabbitmq has another password for a while").await;
    broker::ask_for_a_password(&mut trial);
    survives(trial, Fault::Broker(Broker::WrongPassword), Lasts::AWhile).await;
}

#[tokio::test]
async fn rabbitmq_loses_patience_with_acks() {
    let trial = Trial::on_own_servers("rabbitmq loses patience with acks").await;
    broker::be_impatient_for_acks(&trial).await;
    survives(trial, Fault::Broker(Broker::AckTimeout), Lasts::Briefly).await;
}

#[tokio::test]
async fn answers_that_nobody_heard_are_republished() {
    let mut trial = Trial::new("answers that nobody heard are republished").await;
    trial.queue_up().await;
    trial.start_worker("");
    trial.resume_load();
    trial.progress(SOME).await;
    trial.pause_load().await;
    Fault::Broker(Broker::ResultsUnbound).inflict(&mut trial).await;
    trial.queue_up_with_broken().await;
    trial.resume_load();
    trial.progress(SOME).await;
    Fault::Broker(Broker::ResultsUnbound).heal(&mut trial).await;
    trial.pause_load().await;
    assert!(trial.drained().await, "the lane runs empty");
    assert!(trial.archived().await, "the rejections are archived");
    let unheard = trial.unheard();
    assert!(unheard > 0, "the binding was there all the time");
    let since = ["--since", "2000-01-01T00:00:00Z"];
    trial.settings.run(&["results", "republish", "--org", "acme", since[0], since[1]]).await;
    trial.assert_kept().await;
}

#[tokio::test]
async fn a_worker_starts_before_its_servers() {
    let mut trial = Trial::new("a worker starts before its servers").await;
    let faults =
        [Server::Postgres, Server::RabbitMq].map(|server| Fault::Network(server, Network::Refused));
    for fault in faults {
        fault.inflict(&mut trial).await;
    }
    trial.queue_up().await;
    trial.start_worker("");
    let worker = &trial.workers[0];
    eventually(DEADLINE, "the worker says that it waits", async || {
        worker.words().contains("no lane starts until they can").then_some(())
    })
    .await;
    for fault in faults {
        fault.heal(&mut trial).await;
    }
    trial.resume_load();
    trial.progress(SOME).await;
    trial.assert_kept().await;
}
