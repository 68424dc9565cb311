//! A Postgres with a synchronous standby: the primary is lost, replaced, or left without it.

use crate::faults::hosts::of_two;
use crate::faults::trial::{DEADLINE, SOME, Trial};
use crate::harness::database::TestDatabase;
use crate::harness::eventually;
use crate::harness::servers::{OwnServers, Place};

/// Sessions of workers on the server that is asked.
const SESSIONS: &str = "select count(*) from pg_stat_activity \
    where datname = current_database() and application_name like 'partner-program%'";
const END_SESSIONS: &str = "select pg_terminate_backend(pid) from pg_stat_activity \
    where datname = current_database() and application_name like 'partner-program%'";
/// How a server refuses a statement that writes.
const READ_ONLY: &str = "SQLSTATE 25006";
/// What a worker says each time the database did not do a batch.
const WAITS: &str = "database unavailable";
/// So often it has to say so until it has met whatever there is to meet.
const TRIES: usize = 3;

/// Workers that know both servers, and are at work.
async fn begun(name: &str, own: &OwnServers) -> Trial {
    let place = Place::on(&own.servers, name).await;
    let mut trial = Trial::at(name, place, None).await;
    let both = of_two(&trial.place.database_url, &on_standby(&trial, own));
    trial.settings = trial.settings.clone().with("DATABASE_URL", both);
    trial.begin().await;
    trial
}

fn on_standby(trial: &Trial, own: &OwnServers) -> String {
    let [primary, standby] =
        [&own.postgres, &own.standby].map(|server| format!(":{}/", server.port()));
    trial.place.database_url.replace(&primary, &standby)
}

/// From now on the standby is the primary, and all is judged there.
async fn fail_over(trial: &mut Trial, own: &OwnServers) {
    own.standby.promote().await;
    trial.place.database_url = on_standby(trial, own);
    trial.rows.reconnect(&trial.place).await;
}

#[tokio::test]
async fn a_lost_primary_is_replaced_and_comes_back_as_a_standby() {
    let own = OwnServers::start_with_standby().await;
    let mut trial = begun("postgres primary is lost and its standby promoted", &own).await;
    own.postgres.kill().await;
    fail_over(&mut trial, &own).await;
    trial.progress(SOME).await;

    // The old one stands first in the workers' address, and knows nothing of what was done since.
    own.postgres.start_standby().await;
    trial.rows.execute(END_SESSIONS).await;
    trial.progress(SOME).await;
    trial.assert_kept().await;
}

#[tokio::test]
async fn a_primary_that_turns_read_only_is_left_for_the_promoted_standby() {
    let own = OwnServers::start_with_standby().await;
    let mut trial =
        begun("postgres primary turns read-only and its standby is promoted", &own).await;
    trial.rows.execute("alter system set default_transaction_read_only = on").await;
    trial.rows.execute("select pg_reload_conf()").await;
    let worker = &trial.workers[0];
    eventually(DEADLINE, "the worker may not write", async || {
        worker.words().contains(READ_ONLY).then_some(())
    })
    .await;
    let mut old = TestDatabase::of(&trial.place).await;
    fail_over(&mut trial, &own).await;
    trial.progress(SOME).await;
    // It still answers whoever only reads, with what was true once.
    eventually(DEADLINE, "nobody stays at the old primary", async || {
        (old.count(SESSIONS).await == 0).then_some(())
    })
    .await;
    trial.assert_kept().await;
}

#[tokio::test]
async fn what_no_standby_has_is_not_published() {
    let own = OwnServers::start_with_standby().await;
    let mut trial = begun("postgres standby is lost, and then its primary", &own).await;
    // Commits wait for it, each until the server ends.
    own.standby.kill().await;
    try_again(&trial).await;
    // The waiting is over, and what waited is there to read; but only here.
    own.postgres.kill().await;
    own.postgres.start().await;
    try_again(&trial).await;
    own.postgres.kill().await;
    own.standby.start().await;
    fail_over(&mut trial, &own).await;
    trial.progress(SOME).await;
    trial.assert_kept().await;
}

/// Waits until the worker has tried again for some time, in vain.
async fn try_again(trial: &Trial) {
    let worker = &trial.workers[0];
    let before = worker.words().matches(WAITS).count();
    eventually(DEADLINE, "the worker tries again and again", async || {
        (worker.words().matches(WAITS).count() >= before + TRIES).then_some(())
    })
    .await;
}
