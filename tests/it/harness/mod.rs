//! What the tests share: servers, places of their own on them, and waiting without sleeping.

pub(crate) mod management;
pub(crate) mod servers;

pub(crate) mod collector;
pub(crate) mod database;
pub(crate) mod history;
pub(crate) mod publisher;
pub(crate) mod worker;

pub(crate) mod environment;
pub(crate) mod leftovers;
pub(crate) mod workload;

pub(crate) mod proxy;
pub(crate) mod random;
pub(crate) mod repository;
pub(crate) mod subscriber;
pub(crate) mod upstream;

use std::fmt::Display;
use std::time::{Duration, Instant};

use lapin::ConnectionProperties;
use lapin::options::QueueDeleteOptions;
use partner_program_worker::config::hosts::each_host;

/// Connects to the first host that answers.
pub(crate) async fn connect(amqp_url: &str, name: &str) -> Result<lapin::Connection, lapin::Error> {
    let mut last = None;
    for host in each_host(amqp_url) {
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        match lapin::Connection::connect(&host, properties).await {
            Ok(connection) => return Ok(connection),
            Err(error) => last = Some(error),
        }
    }
    Err(last.expect("an address has a host"))
}

/// Deletes queues that the broker has declared by half: it answered 541 `INTERNAL_ERROR`, lists them, and
/// they take nothing. Under load RabbitMQ 3.10 does so now and then.
pub(crate) async fn delete_broken_queues(
    amqp_url: &str,
    names: impl IntoIterator<Item = String>,
) -> Result<(), lapin::Error> {
    let connection = connect(amqp_url, "tests").await?;
    let channel = connection.create_channel().await?;
    for name in names {
        channel.queue_delete(name.into(), QueueDeleteOptions::default()).await?;
    }
    connection.close(200, "deleted".into()).await
}

/// How long a test may take to set up one thing.
const SETUP_DEADLINE: Duration = Duration::from_mins(1);

/// Sets up what a test needs before it begins, and tries again after an error: a server under the load
/// of all tests refuses now and then what it does a moment later.
pub(crate) async fn set_up<T, E: Display>(
    what: &str,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    eventually(SETUP_DEADLINE, what, async || {
        attempt().await.inspect_err(|error| eprintln!("{what}: {error}; tries again")).ok()
    })
    .await
}

/// Between two looks of [`eventually`].
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until the closure has an answer, and fails the test when the deadline has passed.
///
/// The only wait of the tests: each names what it waits for and how long that may take.
pub(crate) async fn eventually<T>(
    deadline: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(answer) = look().await {
            return answer;
        }
        assert!(Instant::now() < end, "not within {deadline:?}: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
