//! What a worker makes of a database that is not as it expects: older or newer, with a row missing,
//! or with values that only Postgres knows.

use std::time::Duration;

use chrono::Utc;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::harness::environment::TestEnv;
use crate::harness::eventually;
use crate::harness::servers::Place;
use crate::harness::worker::{Process, Settings};
use crate::harness::workload;
use crate::model::Model;

/// Long enough for a slow machine; reached only by a failure.
const DEADLINE: Duration = Duration::from_mins(1);

async fn env(name: &str) -> TestEnv {
    TestEnv::new(name, &Model::new(Utc::now(), workload::world())).await
}

/// Waits until the worker has said it.
async fn says(worker: &Process, words: &str) {
    eventually(DEADLINE, words, async || worker.words().contains(words).then_some(())).await;
}

async fn stop(mut worker: Process) {
    worker.signal("TERM").await;
    assert!(worker.ended().await.success(), "{}", worker.words());
}

/// Waits for the results of the first steps, all of them good.
async fn answered(env: &mut TestEnv, steps: usize) {
    let heard = env.results.read(steps, DEADLINE).await;
    for event in heard {
        assert!(event.routing_key.ends_with(".succeeded"), "{}", event.routing_key);
    }
}

/// Each that a worker reads, and a sibling of each kind that an operator does.
#[tokio::test]
async fn no_time_that_the_database_takes_stops_a_worker() {
    let mut env = env("endless times").await;
    let first = workload::steps(0..1);
    env.publisher.publish(&first).await;
    let worker = Process::start(&env.settings, "timeless");
    answered(&mut env, 1).await;
    let columns = [
        ("program", "ends_at"),
        ("enrolment", "tier_expires_at"),
        ("enrolment", "linked_since"),
        ("command_log", "sent_at"),
        ("lane_pause", "paused_at"),
    ];
    let times = ["infinity", "-infinity", "294000-01-01", "262143-01-01"];
    for (table, column) in columns {
        for time in times {
            let update = format!("update {table} set {column} = '{time}'");
            if let Err(code) = env.rows.try_execute(&update).await {
                assert_eq!(code, "23514", "{update}");
            }
        }
    }
    // The first again is answered out of the inbox; the others read program and enrolments.
    env.publisher.publish(&first).await;
    env.publisher.publish(&workload::steps(1..81)).await;
    answered(&mut env, 82).await;
    stop(worker).await;
}

/// What the program can't read is refused when it is written, in any table.
#[tokio::test]
async fn no_table_takes_a_time_that_the_program_can_not_read() {
    let mut env = env("no endless times").await;
    let unguarded = "
        create function pg_temp.unguarded() returns setof text language plpgsql as $$
        declare
            one record;
            needed text;
        begin
            for one in
                select c.oid::regclass as name, a.attname as col, t.value
                from pg_class c
                join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                cross join unnest(array['infinity', '-infinity', '262143-01-01']) as t (value)
                where c.relnamespace = 'partner_program'::regnamespace and c.relkind in ('r', 'p')
                    and not c.relispartition and a.atttypid = 'timestamptz'::regtype
                    and c.relname <> '_sqlx_migrations'
            loop
                execute format('create temp table one (like %s including constraints)', one.name);
                for needed in select attname from pg_attribute
                    where attrelid = 'pg_temp.one'::regclass and attnum > 0 and attnotnull
                loop
                    execute format('alter table pg_temp.one alter %I drop not null', needed);
                end loop;
                begin
                    execute format('insert into pg_temp.one (%I) values (%L)', one.col, one.value);
                    return next format('%s.%s takes %s', one.name, one.col, one.value);
                exception when check_violation then null;
                end;
                drop table pg_temp.one;
            end loop;
        end $$";
    env.rows.execute(unguarded).await;
    let none: [&str; 0] = [];
    assert_eq!(env.rows.texts("select * from pg_temp.unguarded()").await, none);
}

#[tokio::test]
async fn a_catalogue_without_a_version_is_waited_for() {
    let mut env = env("no catalogue version").await;
    env.rows.execute("delete from catalogue_version").await;
    env.publisher.publish(&workload::steps(0..20)).await;
    let worker = Process::start(&env.settings, "patient");
    says(&worker, "catalogue_version has no row").await;
    assert!(env.results.received.is_empty());
    env.settings.run(&["migrate"]).await;
    answered(&mut env, 20).await;

    env.rows.execute("alter table catalogue_version rename to gone").await;
    env.publisher.publish(&workload::steps(20..40)).await;
    says(&worker, "there is no table catalogue_version").await;
    env.rows.execute("alter table gone rename to catalogue_version").await;
    answered(&mut env, 40).await;
    stop(worker).await;
}

#[tokio::test]
async fn a_worker_waits_for_a_schema_that_is_older_than_its_own() {
    let mut env = env("older schema").await;
    env.publisher.publish(&workload::steps(0..20)).await;
    env.rows
        .execute("update schema_compatibility set schema_version = 3, oldest_compatible_binary = 3")
        .await;
    let worker = Process::start(&env.settings, "ahead");
    says(&worker, "the database has schema 3, this program needs").await;
    env.settings.run(&["migrate"]).await;
    answered(&mut env, 20).await;
    stop(worker).await;

    env.rows.execute("drop table schema_compatibility").await;
    let worker = Process::start(&env.settings, "far ahead");
    says(&worker, "partner-program migrate").await;
    stop(worker).await;
}

#[tokio::test]
async fn a_worker_that_is_too_old_for_the_schema_refuses_to_run() {
    let mut env = env("newer schema").await;
    env.publisher.publish(&workload::steps(0..1)).await;
    // A newer schema alone is no matter.
    env.rows.execute("update schema_compatibility set schema_version = 1000").await;
    let worker = Process::start(&env.settings, "older");
    answered(&mut env, 1).await;
    stop(worker).await;
    // `migrate` of an older release takes nothing back.
    env.settings.run(&["migrate"]).await;
    env.rows.execute("update schema_compatibility set oldest_compatible_binary = 999").await;
    let mut worker = Process::start(&env.settings, "too old");
    assert!(!worker.ended().await.success());
    let words = worker.words();
    assert!(words.contains("schema 1000") && words.contains("999"), "{words}");
    let doctor = env.settings.command(&["doctor"]).output().await.expect("the program starts");
    let words = String::from_utf8_lossy(&doctor.stdout);
    assert!(!doctor.status.success() && words.contains("999"), "{words}");
}

/// A database of a version from before the first release: its tables are in `public`.
#[tokio::test]
async fn migrate_explains_that_an_unreleased_database_has_no_upgrade() {
    let place = Place::without_migrations("unreleased schema").await;
    let mut admin = PgConnection::connect(&place.database_url).await.expect("Postgres answers");
    let tables = "create table command_log (id int); create table enrolment_history (id int); \
                  create table delivery_attempt (id int)";
    sqlx::raw_sql(tables).execute(&mut admin).await.expect("the tables are created");
    let settings = Settings::of(&place);
    for arguments in
        [&["migrate"][..], &["migrate", "--check"], &["doctor"], &["topology", "apply"]]
    {
        let output = settings.command(arguments).output().await.expect("the program starts");
        let words = [output.stdout, output.stderr].concat();
        let words = String::from_utf8_lossy(&words);
        assert!(!output.status.success(), "{arguments:?}: {words}");
        assert!(words.contains("before the first release"), "{arguments:?}: {words}");
    }
    let schemas = "select count(*) from pg_namespace where nspname = 'partner_program'";
    let made: i64 = sqlx::query_scalar(schemas).fetch_one(&mut admin).await.expect("it is counted");
    assert_eq!(made, 0, "nothing is created");
}

/// Another application's tables, its own migrations among them, are left alone; the program needs no right
/// on its schema.
#[tokio::test]
async fn a_database_can_be_shared_with_another_application() {
    let place = Place::without_migrations("shared database").await;
    let mut admin = PgConnection::connect(&place.database_url).await.expect("Postgres answers");
    let theirs = "create table public._sqlx_migrations (version bigint); \
                  create table public.customer (name text); \
                  create table public.lane (name text); revoke all on schema public from public";
    sqlx::raw_sql(theirs).execute(&mut admin).await.expect("the tables are created");
    let settings = Settings::of(&place);
    settings.run(&["migrate"]).await;
    settings.run(&["topology", "apply"]).await;
    settings.run(&["doctor"]).await;
    let kept =
        "select relname::text from pg_class where relnamespace = 'public'::regnamespace order by 1";
    let kept: Vec<String> =
        sqlx::query_scalar(kept).fetch_all(&mut admin).await.expect("they are listed");
    assert_eq!(kept, ["_sqlx_migrations", "customer", "lane"]);
}

/// `create schema if not exists` needs the right to create one, even if it exists.
#[tokio::test]
async fn a_user_who_may_not_create_schemas_migrates_one_of_its_own() {
    let place = Place::without_migrations("own schema").await;
    let mut admin = PgConnection::connect(&place.database_url).await.expect("Postgres answers");
    let user = format!("owner_{}", place.vhost());
    let grants = format!(
        "create role {user} login createrole; create schema partner_program authorization {user}; \
         revoke create on database {} from public",
        place.vhost()
    );
    sqlx::raw_sql(AssertSqlSafe(grants)).execute(&mut admin).await.expect("the schema is created");
    let settings = Settings::of(&place)
        .with("DATABASE_URL", place.database_url.replace("postgres@", &format!("{user}@")));
    settings.run(&["migrate"]).await;
    let output =
        settings.command(&["migrate", "--check"]).output().await.expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let drop = format!("drop owned by {user}; drop role {user}");
    sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut admin).await.expect("the role is dropped");
}
