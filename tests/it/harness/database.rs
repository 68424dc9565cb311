//! The database as tests put it in order and read it back: by plain SQL, past the code that is
//! tested.

use std::collections::BTreeMap;
use std::str::FromStr;

use sqlx::error::DatabaseError;
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, Row};

use crate::harness::history::{HistoryRow, Values};
use crate::harness::servers::Place;
use crate::harness::set_up;
use crate::model::{Enrolment, Key, Model, Org};

/// What the tests' own connections are called.
const APPLICATION: &str = "tests";

/// A dead letter that was found.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) command_id: String,
    pub(crate) detail: String,
}

/// A row of the inbox, as far as order shows in it.
pub(crate) struct LogEntry {
    pub(crate) lane: String,
    pub(crate) lane_epoch: i64,
    pub(crate) command_id: String,
}

/// A connection that finds the program's tables.
pub(crate) async fn connect(database_url: &str) -> Result<PgConnection, sqlx::Error> {
    let options = PgConnectOptions::from_str(database_url)?.application_name(APPLICATION);
    options.options([("search_path", "partner_program,pg_temp")]).connect().await
}

/// A test's own connection to the database of its place.
pub(crate) struct TestDatabase(PgConnection);

impl TestDatabase {
    pub(crate) async fn of(place: &Place) -> Self {
        Self(set_up("a connection to Postgres", async || connect(&place.database_url).await).await)
    }

    /// Puts in the model's orgs, customers and enrolments.
    pub(crate) async fn insert(&mut self, model: &Model) {
        for org in &model.orgs {
            self.insert_org(org).await;
        }
        for ((org, customer_id, program), row) in &model.enrolments {
            let inserted = sqlx::query(
                "insert into enrolment (org_id, customer_id, program_id, linked, membership_id, \
                     tier_number, tier_expires_at, linked_since, version) \
                 select program.org_id, $3, program.id, $4, $5, tier.number, $7, $8, $9 \
                 from program program join org on org.id = program.org_id \
                 left join tier on tier.program_id = program.id and tier.name = $6 \
                 where org.code = $1 and program.name = $2",
            )
            .bind(org)
            .bind(program)
            .bind(customer_id)
            .bind(row.linked)
            .bind(&row.membership_id)
            .bind(&row.tier)
            .bind(row.tier_expires_at)
            .bind(row.linked_since)
            .bind(row.version)
            .execute(&mut self.0)
            .await
            .expect("the enrolment is inserted");
            assert_eq!(inserted.rows_affected(), 1, "{org} {program}");
        }
    }

    async fn insert_org(&mut self, org: &Org) {
        let org_id: i32 = sqlx::query_scalar(
            "insert into org (code, name, country_code) values ($1, $1, $2) returning id",
        )
        .bind(org.code)
        .bind(org.country_code)
        .fetch_one(&mut self.0)
        .await
        .expect("the org is inserted");
        for program in &org.programs {
            let program_id: i32 = sqlx::query_scalar(
                "insert into program (org_id, name, normalised_name, kind, active, ends_at) \
                 values ($1, $2, $3, $4, $5, $6) returning id",
            )
            .bind(org_id)
            .bind(program.name)
            .bind(program.name.to_lowercase())
            .bind(if program.external { "EXTERNAL" } else { "SUPPLEMENTARY" })
            .bind(program.active)
            .bind(program.ends_at)
            .fetch_one(&mut self.0)
            .await
            .expect("the program is inserted");
            for (number, tier) in (1_i16..).zip(program.tiers) {
                sqlx::query(
                    "insert into tier (org_id, program_id, number, rank, name, normalised_name) \
                     values ($1, $2, $3, $3, $4, $5)",
                )
                .bind(org_id)
                .bind(program_id)
                .bind(number)
                .bind(tier)
                .bind(tier.to_lowercase())
                .execute(&mut self.0)
                .await
                .expect("the tier is inserted");
            }
        }
        for customer in &org.customers {
            sqlx::query(
                "insert into customer (org_id, id, mobile, email, external_id, state) \
                 values ($1, $2, $3, $4, $5, $6)",
            )
            .bind(org_id)
            .bind(customer.id)
            .bind(&customer.mobile)
            .bind(&customer.email)
            .bind(&customer.external_id)
            .bind(customer.state)
            .execute(&mut self.0)
            .await
            .expect("the customer is inserted");
        }
    }

    /// All enrolments, as the model has them.
    pub(crate) async fn enrolments(&mut self) -> BTreeMap<Key, Enrolment> {
        let rows = sqlx::query(
            "select org.code, customer_id, program.name as program, linked, membership_id, \
                 tier.name as tier, tier_expires_at, linked_since, version \
             from enrolment join org on org.id = enrolment.org_id and org.id > 0 \
             join program program on program.id = program_id \
             left join tier on tier.program_id = program.id and tier.number = tier_number",
        )
        .fetch_all(&mut self.0)
        .await
        .expect("enrolments are read");
        let enrolment = |row: &PgRow| Enrolment {
            linked: row.get("linked"),
            membership_id: row.get("membership_id"),
            tier: row.get("tier"),
            tier_expires_at: row.get("tier_expires_at"),
            linked_since: row.get("linked_since"),
            version: row.get("version"),
        };
        rows.iter().map(|row| (key(row), enrolment(row))).collect()
    }

    /// The history, in its own order.
    pub(crate) async fn history(&mut self) -> Vec<HistoryRow> {
        let rows = sqlx::query(
            "select org.code, customer_id, program.name as program, history.*, \
                 old_tier.name as old_tier, new_tier.name as new_tier \
             from enrolment_history history join org on org.id = history.org_id \
             join program program on program.id = history.program_id \
             left join tier old_tier on old_tier.program_id = program.id \
                 and old_tier.number = old_tier_number \
             left join tier new_tier on new_tier.program_id = program.id \
                 and new_tier.number = new_tier_number \
             order by history.id",
        )
        .fetch_all(&mut self.0)
        .await
        .expect("the history is read");
        let written = |row: &PgRow| {
            let old_linked: Option<bool> = row.get("old_linked");
            HistoryRow {
                key: key(row),
                kind: row.get("kind"),
                command_id: row.get("command_id"),
                version: row.get("version"),
                old: old_linked.map(|linked| Values {
                    linked,
                    membership_id: row.get("old_membership_id"),
                    tier: row.get("old_tier"),
                    tier_expires_at: row.get("old_tier_expires_at"),
                }),
                new: Values {
                    linked: row.get("new_linked"),
                    membership_id: row.get("new_membership_id"),
                    tier: row.get("new_tier"),
                    tier_expires_at: row.get("new_tier_expires_at"),
                },
                reason: row.get("reason"),
                occurred_at: row.get("occurred_at"),
            }
        };
        rows.iter().map(written).collect()
    }

    pub(crate) async fn history_count(&mut self) -> usize {
        self.count("select count(*) from enrolment_history").await
    }

    /// The stored results, by org code and command id.
    pub(crate) async fn inbox(&mut self) -> BTreeMap<(String, String), String> {
        let rows = sqlx::query(
            "select org.code, command_id, convert_from(result, 'UTF8') as result \
             from command_log join org on org.id = org_id",
        )
        .fetch_all(&mut self.0)
        .await
        .expect("the inbox is read");
        let entry = |row: &PgRow| ((row.get("code"), row.get("command_id")), row.get("result"));
        let count = rows.len();
        let inbox: BTreeMap<_, _> = rows.iter().map(entry).collect();
        assert_eq!(inbox.len(), count, "a command stands in the inbox twice");
        inbox
    }

    /// The inbox in the order in which its commands took effect.
    pub(crate) async fn log(&mut self) -> Vec<LogEntry> {
        let rows =
            sqlx::query("select lane, lane_epoch, command_id from command_log order by sequence")
                .fetch_all(&mut self.0)
                .await
                .expect("the inbox is read");
        let entry = |row: &PgRow| LogEntry {
            lane: row.get("lane"),
            lane_epoch: row.get("lane_epoch"),
            command_id: row.get("command_id"),
        };
        rows.iter().map(entry).collect()
    }

    /// The worker that has taken a lane.
    pub(crate) async fn holder(&mut self, lane: &str) -> Option<String> {
        sqlx::query_scalar("select owner from lane where name = $1")
            .bind(lane)
            .fetch_optional(&mut self.0)
            .await
            .expect("the lane is read")
    }

    /// Connections to this database that are not the tests' own.
    pub(crate) async fn workers_connections(&mut self) -> usize {
        self.count(
            "select count(*) from pg_stat_activity \
             where datname = current_database() and application_name <> 'tests'",
        )
        .await
    }

    /// The letters in the archive.
    pub(crate) async fn archived_letters(&mut self) -> Vec<Letter> {
        let rows = sqlx::query(
            "select coalesce(command_id, '') as command_id, detail from dead_letter order by sequence",
        )
        .fetch_all(&mut self.0)
        .await
        .expect("the archive is read");
        let letter =
            |row: &PgRow| Letter { command_id: row.get("command_id"), detail: row.get("detail") };
        rows.iter().map(letter).collect()
    }

    /// The command of each letter in the archive.
    pub(crate) async fn archived_commands(&mut self) -> Vec<String> {
        sqlx::query_scalar("select coalesce(command_id, '') from dead_letter order by sequence")
            .fetch_all(&mut self.0)
            .await
            .expect("the archive is read")
    }

    /// The body of each letter in the archive.
    pub(crate) async fn archived_bodies(&mut self) -> Vec<Vec<u8>> {
        sqlx::query_scalar("select body from dead_letter order by sequence")
            .fetch_all(&mut self.0)
            .await
            .expect("the archive is read")
    }

    /// Changes with every change of the archive and its audit.
    pub(crate) async fn archive_digest(&mut self) -> String {
        sqlx::query_scalar(
            "select md5(concat((select string_agg(letter::text, ',' order by id) from dead_letter letter), \
                 (select count(*) from dead_letter_action), (select count(*) from bulk_job)))",
        )
        .fetch_one(&mut self.0)
        .await
        .expect("the archive is read")
    }

    pub(crate) async fn attempts(&mut self) -> usize {
        self.count("select count(*) from delivery_attempt").await
    }

    /// The one number that the query gives.
    pub(crate) async fn count(&mut self, query: &str) -> usize {
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(query))
            .fetch_one(&mut self.0)
            .await
            .expect("the rows are counted");
        usize::try_from(count).expect("no less than none")
    }

    /// What a test needs to do to the database, in one transaction. A change of a partitioned table
    /// that workers use locks the whole table first, or it can meet them in a deadlock; the rest of
    /// what can is done again.
    pub(crate) async fn execute(&mut self, statements: &str) {
        const DEADLOCKS_MAX: usize = 10;
        for _ in 0..DEADLOCKS_MAX {
            let done = sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut self.0).await;
            let is_deadlock = done.as_ref().is_err_and(|error| {
                error.as_database_error().and_then(DatabaseError::code).as_deref() == Some("40P01")
            });
            if !is_deadlock {
                done.expect("the statements are right");
                return;
            }
        }
        panic!("{DEADLOCKS_MAX} deadlocks in a row");
    }

    /// Likewise; the SQLSTATE if the database refuses it.
    pub(crate) async fn try_execute(&mut self, statements: &str) -> Result<(), String> {
        match sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut self.0).await {
            Ok(_) => Ok(()),
            Err(sqlx::Error::Database(refused)) => {
                Err(refused.code().unwrap_or_default().into_owned())
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// The texts that the query gives.
    pub(crate) async fn texts(&mut self, query: &str) -> Vec<String> {
        sqlx::query_scalar(AssertSqlSafe(query))
            .fetch_all(&mut self.0)
            .await
            .expect("the rows are read")
    }

    /// Connects anew, after the server was unavailable.
    pub(crate) async fn reconnect(&mut self, place: &Place) {
        *self = Self::of(place).await;
    }
}

fn key(row: &PgRow) -> Key {
    (row.get("code"), row.get("customer_id"), row.get("program"))
}
