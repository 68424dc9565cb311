//! Faults at random, alone and together, one after another under load. A seed repeats the
//! schedule; `make soak` lets it last as long as wished.

use std::time::{Duration, Instant};

use crate::faults::broker::{self, Broker};
use crate::faults::database::Database;
use crate::faults::fault::{Fault, Network, Server};
use crate::faults::trial::{SOME, Trial};
use crate::faults::worker::Worker;
use crate::harness::random::Random;

/// Seconds that a schedule lasts.
const SECONDS_VARIABLE: &str = "PARTNER_PROGRAM_TEST_SCHEDULE_S";
const FAULT_LASTS_MAX_MS: usize = 3_000;
const TOGETHER_MAX: usize = 3;

/// Those that need nothing but to be inflicted, so that others can strike at the same time.
const TOGETHER: [Fault; 23] = [
    Fault::Worker(Worker::Killed),
    Fault::Worker(Worker::Drained),
    Fault::Worker(Worker::LaneTaken),
    Fault::Database(Database::Locked),
    Fault::Database(Database::SlowStatements),
    Fault::Database(Database::DiskFull),
    Fault::Database(Database::DiskFullAtCommit),
    Fault::Database(Database::Conflicts),
    Fault::Broker(Broker::ResultsFull),
    Fault::Broker(Broker::WrongPassword),
    Fault::Network(Server::Postgres, Network::Cut),
    Fault::Network(Server::Postgres, Network::Refused),
    Fault::Network(Server::Postgres, Network::HalfOpen),
    Fault::Network(Server::Postgres, Network::DeafWorker),
    Fault::Network(Server::Postgres, Network::DeafServer),
    Fault::Network(Server::Postgres, Network::Slow),
    Fault::Network(Server::RabbitMq, Network::Cut),
    Fault::Network(Server::RabbitMq, Network::Refused),
    Fault::Network(Server::RabbitMq, Network::HalfOpen),
    Fault::Network(Server::RabbitMq, Network::DeafWorker),
    Fault::Network(Server::RabbitMq, Network::DeafServer),
    Fault::Network(Server::RabbitMq, Network::BlackHole),
    Fault::Network(Server::RabbitMq, Network::Dripping),
];

/// Those that wait for the workers to get on meanwhile.
const ALONE: [Fault; 8] = [
    Fault::Worker(Worker::KilledWithStandby),
    Fault::Worker(Worker::Frozen),
    Fault::Worker(Worker::StoppedAtOnce),
    Fault::Worker(Worker::Disconnected),
    Fault::Worker(Worker::JoinedAndLeft),
    Fault::Worker(Worker::Rolled),
    Fault::Database(Database::SessionsTerminated),
    Fault::Database(Database::CommitsReplyLost),
];

/// Those that need servers of their own.
const ON_OWN_SERVERS: [Fault; 7] = [
    Fault::Database(Database::Killed),
    Fault::Database(Database::Stopped),
    Fault::Database(Database::KilledWithTheBroker),
    Fault::Broker(Broker::Killed),
    Fault::Broker(Broker::Stopped),
    Fault::Broker(Broker::MemoryAlarm),
    Fault::Broker(Broker::DiskAlarm),
];

#[tokio::test]
async fn faults_at_random_are_survived() {
    let trial = Trial::new("faults at random").await;
    follow_a_schedule(trial, &ALONE).await;
}

#[tokio::test]
async fn faults_at_random_with_crashing_servers_are_survived() {
    let mut trial = Trial::on_own_servers("faults at random with crashing servers").await;
    trial.restart_broker().await;
    follow_a_schedule(trial, &ON_OWN_SERVERS).await;
}

async fn follow_a_schedule(mut trial: Trial, alone: &[Fault]) {
    broker::ask_for_a_password(&mut trial);
    let seconds = std::env::var(SECONDS_VARIABLE).unwrap_or_else(|_| "30".to_owned());
    let end = Instant::now() + Duration::from_secs(seconds.parse().expect("a number of seconds"));
    let mut random = Random::new(trial.seed);
    trial.begin().await;
    while Instant::now() < end {
        let is_alone = random.chance(30);
        let faults = if is_alone { vec![random.pick(alone)] } else { some_together(&mut random) };
        if is_alone {
            trial.progress(SOME).await;
        }
        // Shown if the test fails.
        eprintln!("{faults:?}");
        for fault in &faults {
            fault.inflict(&mut trial).await;
        }
        let lasts = u64::try_from(random.below(FAULT_LASTS_MAX_MS)).expect("few");
        tokio::time::sleep(Duration::from_millis(lasts)).await;
        for fault in faults.iter().rev() {
            fault.heal(&mut trial).await;
        }
        if random.chance(70) {
            trial.progress(SOME).await;
        }
    }
    trial.progress(SOME).await;
    trial.assert_kept().await;
}

fn some_together(random: &mut Random) -> Vec<Fault> {
    let mut chosen: Vec<Fault> = Vec::new();
    for _ in 0..=random.below(TOGETHER_MAX) {
        let fault = random.pick(&TOGETHER);
        if !chosen.iter().any(|other| are_of_one_kind(*other, fault)) {
            chosen.push(fault);
        }
    }
    chosen
}

/// Whether healing one would heal the other, or trip over it.
fn are_of_one_kind(one: Fault, other: Fault) -> bool {
    match (one, other) {
        (Fault::Network(server, _), Fault::Network(other, _)) => server == other,
        (Fault::Worker(_) | Fault::Broker(_), Fault::Worker(_) | Fault::Broker(_))
        | (Fault::Database(_), Fault::Database(_)) => true,
        _ => false,
    }
}
