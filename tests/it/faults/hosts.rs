//! Addresses of several hosts: what one of them does must not keep a worker from the others.

use crate::faults::trial::{SOME, Trial};
use crate::harness::proxy::{Line, Proxy};

/// The user, host and port of `first`, then those of `second`, and the rest of it.
pub(crate) fn of_two(first: &str, second: &str) -> String {
    let (start, _) = first.rsplit_once('/').expect("the URL has a path");
    let (_, end) = second.rsplit_once('@').expect("the URL has a user");
    format!("{start},{end}")
}

/// A machine that has lost its power does not even refuse. The worker has no longer for a batch
/// than [`Trial`] gives it, two seconds, and yet comes to the second host.
#[tokio::test]
async fn a_host_that_swallows_everything_is_passed_over() {
    let mut trial = Trial::new("first hosts swallow everything").await;
    let second_database = Proxy::before(&trial.place.database_url).await;
    let second_broker = Proxy::before(&trial.place.amqp_url).await;
    let database_url = of_two(trial.database.url(), second_database.url());
    let amqp_url = of_two(trial.broker.url(), second_broker.url());
    trial.settings = trial
        .settings
        .clone()
        .with("DATABASE_URL", database_url)
        .with("AMQP_URL", format!("{amqp_url}?heartbeat=2"));
    trial.begin().await;
    for first in [&trial.database, &trial.broker] {
        first.set(Line::Dead, Line::Dead);
        first.cut();
    }
    trial.progress(SOME).await;
    trial.assert_kept().await;
}
