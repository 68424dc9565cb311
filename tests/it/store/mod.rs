//! Batches against a real Postgres: what is stored, what is refused, and by whom.

mod attempts;
mod lock_order;
mod unknown_words;

use chrono::{DateTime, Days, Utc};
use partner_program_worker::domain::attempt::Company;
use partner_program_worker::domain::command::{
    Command, DelinkItem, Entry, Identifiers, LinkItem, Reference,
};
use partner_program_worker::domain::evaluate::evaluate;
use partner_program_worker::domain::needs::Needs;
use partner_program_worker::domain::program::{Catalogue, OrgId};
use partner_program_worker::domain::snapshot::Snapshot;
use partner_program_worker::store::command_log::{self, CommandKey, Record, Stored};
use partner_program_worker::store::commit::{self, Batch};
use partner_program_worker::store::connection::{self, Connection};
use partner_program_worker::store::error::Error;
use partner_program_worker::store::fence::{self, Fence};
use partner_program_worker::store::{attempts as tries, canary, catalogue, load, retention};
use sqlx::error::DatabaseError;
use sqlx::{AssertSqlSafe, Executor, raw_sql};
use uuid::Uuid;

use crate::harness::servers::Place;

const SEED: &str = "
    insert into org (id, code, name, country_code) values (1, 'acme', 'Acme', '91');
    insert into customer (org_id, id, mobile, email, external_id, state)
        select 1, n, '91000000000' || n, 'U' || n || '@x.example', 'e' || n, 'active' from generate_series(1, 4) n;
    insert into program (org_id, id, name, normalised_name, kind)
        values (1, 1, 'Miles', 'miles', 'EXTERNAL');";

const BOUNDS: &str = "select lower_on || '/' || upper_on
    from partition_bounds('command_log') order by lower_on";

/// The SQLSTATE of a missing right.
const DENIED: &str = "42501";

/// A database with four customers and one program, and a worker that has the lane.
struct TestEnv {
    connection: Connection,
    catalogue: Catalogue,
    fence: Fence,
    place: Place,
}

/// A batch that is evaluated, but not stored.
struct Evaluated {
    snapshot: Snapshot,
    records: Vec<Record>,
}

impl TestEnv {
    async fn new(name: &str) -> Self {
        let place = Place::new(name).await;
        let mut connection = connection::connect(&place.database_url, "test").await.unwrap();
        connection.execute(raw_sql(SEED)).await.unwrap();
        let catalogue = catalogue::load(&mut connection).await.unwrap();
        let fence = fence::acquire(&mut connection, "main", "worker-1").await.unwrap();
        Self { connection, catalogue, fence, place }
    }

    async fn evaluate(&mut self, commands: &[(&str, Command)]) -> Evaluated {
        let org = &self.catalogue.orgs["acme"];
        let mut needs = Needs::default();
        for (_, command) in commands {
            needs.add_command(org, command);
        }
        let mut snapshot = load::load(&mut self.connection, &needs).await.unwrap();
        let now = "2026-11-23T00:00:00Z".parse::<DateTime<Utc>>().unwrap();
        let mut records = Vec::new();
        for (id, command) in commands {
            let outcome = evaluate(org, &mut snapshot, command, now);
            records.push(Record {
                key: key(id),
                stored: Stored {
                    org_code: "acme".into(),
                    body_hash: [7; 32],
                    operation: command.operation(),
                    verdict: outcome.verdict(),
                    counts: outcome.counts(),
                    result: b"{}".to_vec(),
                    correlation_id: Some("correlation".into()),
                    app_id: None,
                    user_id: None,
                    traceparent: None,
                    sent_at: Some(now),
                },
                effects: outcome.effects,
                now,
            });
        }
        Evaluated { snapshot, records }
    }

    async fn store(&mut self, evaluated: &Evaluated) -> Result<(), Error> {
        let Evaluated { snapshot, records } = evaluated;
        let batch = Batch {
            records,
            changes: &snapshot.changes(),
            attempts: &[],
            catalogue: self.catalogue.version,
            replays: &[],
            holds: None,
        };
        commit::commit(&mut self.connection, &self.fence, &batch).await
    }

    async fn apply(&mut self, commands: &[(&str, Command)]) -> Result<(), Error> {
        let evaluated = self.evaluate(commands).await;
        self.store(&evaluated).await
    }

    /// Each enrolment as `customer:linked:membership id:version`.
    async fn enrolments(&mut self) -> Vec<String> {
        self.texts(
            "select concat_ws(':', customer_id, linked, membership_id, version)
             from enrolment where org_id > 0 order by customer_id",
        )
        .await
    }

    async fn texts(&mut self, sql: &'static str) -> Vec<String> {
        sqlx::query_scalar(sql).fetch_all(&mut self.connection).await.unwrap()
    }

    /// Does `sql` as a role, and returns the SQLSTATE if that fails.
    async fn as_role(&mut self, role: &str, sql: &str) -> Option<String> {
        let sql = format!("begin; set local role {role}; {sql}; commit");
        let done = raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection).await;
        let state = done.err().map(|error| {
            error.as_database_error().and_then(DatabaseError::code).unwrap_or_default().into_owned()
        });
        self.connection.execute(raw_sql("rollback")).await.unwrap();
        state
    }
}

fn key(id: &str) -> CommandKey {
    CommandKey { org_id: OrgId(1), command_id: id.into() }
}

fn customer(id: i64) -> Identifiers {
    Identifiers { id: Some(id), ..Identifiers::default() }
}

fn link(id: i64, membership_id: &str) -> Command {
    link_of(customer(id), membership_id)
}

fn link_of(customer: Identifiers, membership_id: &str) -> Command {
    let reference = Reference { membership_id: Some(membership_id.into()), ..Reference::default() };
    let item = LinkItem { program_name: Some("miles".into()), reference: Some(reference) };
    Command::Link(vec![Entry { customer, items: vec![item] }])
}

fn delink(id: i64) -> Command {
    let item = DelinkItem { program_name: Some("miles".into()), reason: Some("moved".into()) };
    Command::Delink(vec![Entry { customer: customer(id), items: vec![item] }])
}

#[tokio::test]
async fn two_customers_swap_membership_ids_within_one_batch() {
    let mut env = TestEnv::new("swap").await;
    env.apply(&[("1", link(1, "a")), ("2", link(2, "b"))]).await.unwrap();
    env.apply(&[("3", delink(1)), ("4", delink(2)), ("5", link(1, "b")), ("6", link(2, "a"))])
        .await
        .unwrap();
    assert_eq!(env.enrolments().await, ["1:t:b:3", "2:t:a:3"]);
    let history = env
        .texts("select concat_ws(':', command_id, customer_id, kind, version) from enrolment_history order by id")
        .await;
    let linked = ["1:1:ENROLMENT:1", "2:2:ENROLMENT:1"];
    let swapped = ["3:1:DELINK:2", "4:2:DELINK:2", "5:1:ENROLMENT:3", "6:2:ENROLMENT:3"];
    assert_eq!(history, [&linked[..], &swapped].concat());
}

#[tokio::test]
async fn a_customer_is_found_by_each_identifier() {
    let mut env = TestEnv::new("identifiers").await;
    let given = |text: &str| Some(text.to_owned());
    let none = Identifiers::default;
    let by_mobile = Identifiers { mobile: given("910000000002"), ..none() };
    let by_email = Identifiers { email: given("u3@X.example"), ..none() };
    let by_external_id = Identifiers { external_id: given("e4"), ..none() };
    let identifiers = [customer(1), by_mobile, by_email, by_external_id];
    for (id, identifiers) in ["0", "1", "2", "3"].into_iter().zip(identifiers) {
        env.apply(&[(id, link_of(identifiers, id))]).await.unwrap();
    }
    assert_eq!(env.enrolments().await, ["1:t:0:1", "2:t:1:1", "3:t:2:1", "4:t:3:1"]);
}

#[tokio::test]
async fn a_new_row_takes_the_membership_id_that_another_lets_go() {
    let mut env = TestEnv::new("hand_over").await;
    env.apply(&[("1", link(3, "a"))]).await.unwrap();
    env.apply(&[("2", delink(3)), ("3", link(1, "a"))]).await.unwrap();
    assert_eq!(env.enrolments().await, ["1:t:a:1", "3:f:a:2"]);
}

#[tokio::test]
async fn a_row_that_changed_since_the_load_is_a_conflict_and_nothing_is_stored() {
    let mut env = TestEnv::new("version").await;
    env.apply(&[("1", link(1, "a"))]).await.unwrap();
    let late = env.evaluate(&[("2", delink(1)), ("3", link(2, "b"))]).await;
    env.apply(&[("4", delink(1))]).await.unwrap();
    assert!(matches!(env.store(&late).await, Err(Error::Conflict(_))));
    assert_eq!(env.enrolments().await, ["1:f:a:2"]);
    assert!(command_log::find(&mut env.connection, &[key("2")]).await.unwrap().is_empty());
    env.apply(&[("3", link(2, "b"))]).await.expect("the connection is still good");
}

#[tokio::test]
async fn a_row_or_a_membership_id_that_came_since_the_load_is_a_conflict() {
    let mut env = TestEnv::new("insert").await;
    let same_row = env.evaluate(&[("1", link(1, "a"))]).await;
    let same_membership_id = env.evaluate(&[("2", link(2, "b"))]).await;
    env.apply(&[("3", link(1, "b"))]).await.unwrap();
    assert!(matches!(env.store(&same_row).await, Err(Error::Conflict(_))));
    assert!(matches!(env.store(&same_membership_id).await, Err(Error::Conflict(_))));
    assert_eq!(env.enrolments().await, ["1:t:b:1"]);
}

#[tokio::test]
async fn a_worker_whose_lane_was_taken_stores_nothing() {
    let mut env = TestEnv::new("fence").await;
    let late = env.evaluate(&[("1", link(1, "a"))]).await;
    let taken = fence::acquire(&mut env.connection, "main", "worker-2").await.unwrap();
    assert_eq!(taken.epoch, env.fence.epoch + 1);
    assert!(matches!(env.store(&late).await, Err(Error::Fenced { epoch: 1, .. })));
    assert!(env.enrolments().await.is_empty());
    env.fence = taken;
    env.store(&late).await.expect("the new holder may");
}

#[tokio::test]
async fn a_command_is_stored_once_and_read_back_as_it_was() {
    let mut env = TestEnv::new("inbox").await;
    let evaluated = env.evaluate(&[("1", link(1, "a"))]).await;
    env.store(&evaluated).await.unwrap();
    let twice = Evaluated { snapshot: Snapshot::default(), records: evaluated.records.clone() };
    assert!(matches!(env.store(&twice).await, Err(Error::Conflict(_))));
    let found = command_log::find(&mut env.connection, &[key("1"), key("2")]).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[&key("1")], evaluated.records[0].stored);
}

#[tokio::test]
async fn a_command_is_found_in_an_older_partition() {
    let mut env = TestEnv::new("old_partition").await;
    env.apply(&[("1", link(1, "a"))]).await.unwrap();
    env.connection
        .execute(raw_sql(
            "create table command_log_old partition of command_log
                 for values from (current_date - 30) to (current_date - 10);
             update command_log set recorded_on = current_date - 20",
        ))
        .await
        .unwrap();
    assert_eq!(command_log::find(&mut env.connection, &[key("1")]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_missing_partition_is_an_outage_so_that_no_command_is_given_up() {
    let mut env = TestEnv::new("no_partition").await;
    let evaluated = env.evaluate(&[("1", link(1, "a"))]).await;
    let drop_all = "do $$ declare p regclass; begin
        for p in select partition from partition_bounds('command_log') loop
            execute format('drop table %s', p);
        end loop; end $$";
    env.connection.execute(raw_sql(drop_all)).await.unwrap();
    assert!(matches!(env.store(&evaluated).await, Err(Error::Outage(_))));
    retention::maintain(&mut env.connection, 30).await.unwrap();
    env.store(&evaluated).await.unwrap();
}

#[tokio::test]
async fn maintenance_leaves_no_gap_drops_what_is_over_and_repeats_without_effect() {
    let mut env = TestEnv::new("partitions").await;
    retention::maintain(&mut env.connection, 30).await.unwrap();
    let first = env.texts(BOUNDS).await;
    retention::maintain(&mut env.connection, 30).await.unwrap();
    assert_eq!(env.texts(BOUNDS).await, first);

    // The retention changes, and days pass.
    let ahead = "select maintain_partitions(9, (now() at time zone 'utc')::date + 60)";
    env.connection.execute(raw_sql(ahead)).await.unwrap();
    let bounds = env.texts(BOUNDS).await;
    assert!(bounds.starts_with(&first), "a day in the future drops nothing");
    for pair in bounds.windows(2) {
        let (upper, lower) = (pair[0].split('/').nth(1), pair[1].split('/').next());
        assert_eq!(upper, lower, "no gap");
    }

    let today = Utc::now().date_naive();
    let old = today.checked_sub_days(Days::new(40)).unwrap();
    let over = today.checked_sub_days(Days::new(31)).unwrap();
    let sql = format!(
        "create table command_log_over partition of command_log for values from ('{old}') to ('{over}')"
    );
    env.connection.execute(raw_sql(AssertSqlSafe(sql))).await.unwrap();
    retention::maintain(&mut env.connection, 32).await.unwrap();
    assert_eq!(env.texts(BOUNDS).await.len(), bounds.len() + 1, "not over yet");
    retention::maintain(&mut env.connection, 31).await.unwrap();
    assert_eq!(env.texts(BOUNDS).await, bounds);
}

#[tokio::test]
async fn a_worker_s_role_stores_batches_and_has_partitions_made() {
    let mut env = TestEnv::new("worker_role").await;
    env.connection.execute(raw_sql("set role partner_program_worker")).await.unwrap();
    env.fence = fence::acquire(&mut env.connection, "main", "worker").await.unwrap();
    env.catalogue = catalogue::load(&mut env.connection).await.unwrap();
    env.apply(&[("1", link(1, "a"))]).await.unwrap();
    env.apply(&[("2", delink(1)), ("3", link(2, "a"))]).await.unwrap();
    let process = Uuid::from_u128(1);
    let (connection, fence) = (&mut env.connection, &env.fence);
    tries::begin(connection, fence, process, &[process], Company::Alone).await.unwrap();
    tries::end(connection, fence, process, true, "P0001").await.unwrap();
    tries::clear(connection, "main", &[process]).await.unwrap();
    canary::record(connection, "main", "worker").await.unwrap();
    retention::maintain(&mut env.connection, 3).await.unwrap();
    assert_eq!(env.enrolments().await, ["1:f:a:2", "2:t:a:1"]);
}

#[tokio::test]
async fn no_role_does_more_than_it_should() {
    let mut env = TestEnv::new("roles").await;
    env.apply(&[("1", link(1, "a"))]).await.unwrap();
    for (role, sql) in [
        ("partner_program_worker", "delete from enrolment"),
        ("partner_program_worker", "update customer set state = 'fraud'"),
        ("partner_program_worker", "update command_log set result = ''"),
        ("partner_program_worker", "delete from enrolment_history"),
        ("partner_program_worker", "drop table command_log"),
        ("partner_program_worker", "create table partner_program.own (id int)"),
        ("partner_program_operator", "update enrolment set linked = false"),
        ("partner_program_operator", "select maintain_partitions(1, current_date)"),
        (
            "partner_program_readonly",
            "insert into lane (name, epoch, owner) values ('main', 1, 'me')",
        ),
        ("partner_program_readonly", "select nextval('command_log_sequence_seq')"),
        ("partner_program_readonly", "select maintain_partitions(1, current_date)"),
    ] {
        assert_eq!(env.as_role(role, sql).await.as_deref(), Some(DENIED), "{role}: {sql}");
    }
    for (role, sql) in [
        ("partner_program_operator", "update program set active = false"),
        ("partner_program_operator", "insert into tier values (1, 1, 1, 1, 'Gold', 'gold')"),
        ("partner_program_readonly", "select * from command_log"),
    ] {
        assert_eq!(env.as_role(role, sql).await, None, "{role}: {sql}");
    }
    let version = catalogue::versions(&mut env.connection).await.unwrap().catalogue;
    assert!(version > env.catalogue.version, "workers read the changed catalogue");
}

#[tokio::test]
async fn the_history_can_t_be_changed_even_by_its_owner() {
    let mut env = TestEnv::new("append_only").await;
    env.apply(&[("1", link(1, "a"))]).await.unwrap();
    let partition =
        env.texts("select tableoid::regclass::text from enrolment_history").await.remove(0);
    for sql in [
        "update enrolment_history set reason = ''".to_owned(),
        "delete from enrolment_history".to_owned(),
        "truncate enrolment_history".to_owned(),
        format!("delete from {partition}"),
    ] {
        let error = raw_sql(AssertSqlSafe(sql.clone())).execute(&mut env.connection).await;
        assert!(matches!(error.map_err(Error::from), Err(Error::Refused(_))), "{sql}");
    }
}

#[tokio::test]
async fn a_read_only_server_is_an_outage() {
    let env = TestEnv::new("read_only").await;
    let url = with_option(&env.place.database_url, "default_transaction_read_only", "on");
    assert!(matches!(connection::connect(&url, "test").await, Err(Error::Outage(_))));
}

#[tokio::test]
async fn a_session_flushes_its_commits_whatever_the_url_says() {
    let env = TestEnv::new("flush").await;
    for (asked, expected) in [("off", "on"), ("remote_apply", "remote_apply")] {
        let url = with_option(&env.place.database_url, "synchronous_commit", asked);
        let mut connection = connection::connect(&url, "test").await.unwrap();
        let set: String =
            sqlx::query_scalar("show synchronous_commit").fetch_one(&mut connection).await.unwrap();
        assert_eq!(set, expected);
    }
}

fn with_option(url: &str, name: &str, value: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}options=-c%20{name}={value}")
}
