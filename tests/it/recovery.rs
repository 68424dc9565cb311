//! What becomes of a worker when the world is set back or ahead under it: a database that is
//! restored from a backup behind a broker that is not, and clocks that are wrong.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use partner_program_worker::clock::Clock;
use partner_program_worker::domain::attempt::Company;
use partner_program_worker::store::error::Error;
use partner_program_worker::store::{attempts, connection, fence};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::faults::assert_no_dead_letters;
use crate::harness::database::TestDatabase;
use crate::harness::environment::TestEnv;
use crate::harness::eventually;
use crate::harness::management::Depth;
use crate::harness::servers::{Place, servers};
use crate::harness::worker::{InProcess, Process};
use crate::harness::workload;
use crate::model::Model;

/// Long enough for a slow machine; reached only by a failure.
const DEADLINE: Duration = Duration::from_mins(2);

async fn env(name: &str) -> TestEnv {
    TestEnv::new(name, &Model::new(Utc::now(), workload::world())).await
}

async fn applied(rows: &mut TestDatabase, commands: usize) {
    eventually(DEADLINE, &format!("{commands} commands are applied"), async || {
        (rows.count("select count(*) from command_log").await == commands).then_some(())
    })
    .await;
}

async fn drained(place: &Place) {
    eventually(DEADLINE, "the lane is empty", async || {
        (place.broker.depth("partner-program.commands.main") == Some(Depth::default()))
            .then_some(())
    })
    .await;
}

/// Runs statements as the servers' administrator, one by one.
async fn administer(statements: &[String]) {
    let mut admin = PgConnection::connect(&servers().database_url).await.expect("Postgres answers");
    for statement in statements {
        sqlx::raw_sql(AssertSqlSafe(statement.as_str()))
            .execute(&mut admin)
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
}

/// The backup knows the first commands; the second ones were answered after it and are gone. What
/// the broker still has is applied, and the worker needs no restart.
#[tokio::test]
async fn a_database_that_is_restored_behind_the_broker_takes_what_comes() {
    let mut env = env("restored").await;
    let name = env.place.vhost();
    let mut worker = Process::start(&env.settings, "before");
    env.publisher.publish(&workload::steps(0..40)).await;
    applied(&mut env.rows, 40).await;
    drained(&env.place).await;
    worker.signal("TERM").await;
    assert!(worker.ended().await.success());
    // A database that is copied has no connections.
    let TestEnv { place, settings, rows, results: mut heard, publisher } = env;
    drop(rows);
    let close =
        format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'");
    administer(&[close.clone(), format!("create database {name}_backup template {name}")]).await;

    let mut worker = Process::start(&settings, "during");
    publisher.publish(&workload::steps(40..80)).await;
    let mut rows = TestDatabase::of(&place).await;
    applied(&mut rows, 80).await;
    drained(&place).await;
    let epoch = rows.count("select epoch from lane").await;
    drop(rows);
    administer(&[
        format!("alter database {name} allow_connections false"),
        close,
        format!("drop database {name} with (force)"),
        format!("alter database {name}_backup rename to {name}"),
    ])
    .await;

    // As upstreams do that are told of it: all since the backup again, then what is new. What they
    // send twice counts once.
    publisher.publish(&workload::steps(20..120)).await;
    let mut rows = TestDatabase::of(&place).await;
    applied(&mut rows, 120).await;
    drained(&place).await;
    assert!(worker.is_running());
    assert!(rows.count("select epoch from lane").await <= epoch + 1);
    let applied: BTreeSet<String> =
        rows.log().await.into_iter().map(|entry| entry.command_id).collect();
    let sent: BTreeSet<String> =
        workload::steps(0..120).iter().filter_map(|m| m.properties.message_id.clone()).collect();
    assert_eq!(applied, sent);
    // Each joined, left and joined again: in order, or one of these would have failed.
    assert!(rows.enrolments().await.values().all(|row| row.linked && row.version == 3));
    assert_no_dead_letters(&place).await;
    // 40, 40 and 100.
    heard.read(180, DEADLINE).await;
    assert!(heard.received.iter().all(|event| event.routing_key.ends_with(".succeeded")));
    worker.signal("TERM").await;
    assert!(worker.ended().await.success(), "{}", worker.words());
}

/// Only what the rules compare with now goes by the worker's clock; order, retention and partitions
/// go by the database's.
#[tokio::test]
async fn a_clock_that_is_wrong_shows_in_times_and_loses_nothing() {
    let mut env = env("clocks").await;
    let settings = env.settings.clone().with("ARCHIVE_DEAD_LETTERS", true);
    let clocks = [TimeDelta::days(3_650), TimeDelta::days(-3_650), TimeDelta::zero()];
    for (round, off) in clocks.into_iter().enumerate() {
        let worker = InProcess::start(&settings, Clock::starting_at(Utc::now() + off));
        env.publisher.publish(&workload::steps(round * 40..round * 40 + 40)).await;
        let mut broken = workload::step(round);
        broken.properties.message_id = Some(format!("broken-{round}"));
        broken.body = format!("no JSON {round}").into_bytes();
        env.publisher.publish(&[broken]).await;
        applied(&mut env.rows, (round + 1) * 40).await;
        let rows = &mut env.rows;
        eventually(DEADLINE, "the broken one is archived", async || {
            (rows.archived_commands().await.len() == round + 1).then_some(())
        })
        .await;
        worker.stop().await;
    }
    env.results.read(123, DEADLINE).await;
    let refused =
        env.results.received.iter().filter(|e| !e.routing_key.ends_with(".succeeded")).count();
    assert_eq!(refused, 3, "the broken ones");
    let wrong = "select count(*) from command_log where abs(extract(epoch from occurred_at - recorded_at)) > 86400";
    assert_eq!(env.rows.count(wrong).await, 80);
    let here = "select count(*) from command_log where recorded_at between now() - interval '1 hour' and now()";
    assert_eq!(env.rows.count(here).await, 120);
    let versions: Vec<i64> = env.rows.enrolments().await.values().map(|row| row.version).collect();
    assert!(versions.iter().all(|version| *version == 3), "{versions:?}");
    let since: DateTime<Utc> = Utc::now() - TimeDelta::days(1);
    assert!(env.rows.enrolments().await.values().all(|row| row.linked_since > since));
}

/// A backup has a lower epoch, from which it is counted again.
#[tokio::test]
async fn a_worker_from_before_a_restore_is_fenced_at_the_same_epoch() {
    let place = Place::new("fence restored").await;
    let url = &place.database_url;
    let mut connection = connection::connect(url, "tests").await.expect("it answers");
    let mut rows = TestDatabase::of(&place).await;
    fence::acquire(&mut connection, "main", "first").await.expect("it is taken");
    rows.execute("select * into temp backup from lane").await;
    let zombie = fence::acquire(&mut connection, "main", "worker").await.expect("it is taken");
    rows.execute("delete from lane; insert into lane select * from backup").await;
    let heir = fence::acquire(&mut connection, "main", "worker").await.expect("it is taken");
    assert_eq!(heir.epoch, zombie.epoch);
    let ids = [uuid::Uuid::now_v7()];
    let process = uuid::Uuid::now_v7();
    let shared = Company::Shared;
    let refused = attempts::begin(&mut connection, &zombie, process, &ids, shared).await;
    assert!(matches!(refused, Err(Error::Fenced { .. })), "{refused:?}");
    attempts::begin(&mut connection, &heir, process, &ids, shared).await.expect("it has the lane");
}
