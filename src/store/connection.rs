//! One dedicated connection, opened within a bound.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};

use crate::config::hosts::{each_in_turn, host_of};
use crate::store::error::Error;

/// What the functions of this module work on.
pub type Connection = PgConnection;

/// Bounds connecting, start-up of the session included, over all hosts.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The share of a statement's bound that it may wait for a lock.
const LOCK_SHARE: f64 = 0.5;

/// The schema that holds the program's tables and functions, and nothing else: a database can be shared
/// with other applications.
pub(super) const SCHEMA: &str = "partner_program";

/// Temporary tables last: none of them can take the place of a table.
const SEARCH_PATH: &str = "partner_program,pg_temp";

/// Settings of each session. A statement is bounded on the server too, so that work that this
/// side gave up on does not go on there. A worker that freezes within a transaction holds the lane's fence: soon ended,
/// it lets the next one in.
const SETTINGS: [(&str, &str); 6] = [
    ("search_path", SEARCH_PATH),
    ("statement_timeout", "60s"),
    ("idle_in_transaction_session_timeout", "15s"),
    ("client_connection_check_interval", "10s"),
    ("tcp_keepalives_idle", "20"),
    ("timezone", "UTC"),
];

/// Connects under a `name` that `pg_stat_activity` shows, to the first of the hosts that takes
/// writes. A server that is read-only is an [`Error::Outage`]: a failover has left it behind, or
/// it is a standby not yet promoted. Bounded by 10 s.
pub async fn connect(database_url: &str, name: &str) -> Result<Connection, Error> {
    connect_within(CONNECT_TIMEOUT, database_url, name).await
}

/// Connects for queries whose filters vary: the server plans each one anew, because a plan for any filter is
/// good for none.
pub async fn connect_to_search(database_url: &str, name: &str) -> Result<Connection, Error> {
    let mut connection = connect(database_url, name).await?;
    sqlx::query!("select set_config('plan_cache_mode', 'force_custom_plan', false) as mode")
        .fetch_one(&mut connection)
        .await?;
    Ok(connection)
}

/// How long a connection may take to say that it is good.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether a connection is still good: it answers, and its server takes writes. One that a failover
/// has left behind may go on answering clients that only read.
pub async fn is_writable(connection: &mut Connection) -> bool {
    let asking =
        sqlx::query_scalar!(r#"select current_setting('transaction_read_only')::bool as "is!""#)
            .fetch_one(connection);
    matches!(tokio::time::timeout(ANSWER_TIMEOUT, asking).await, Ok(Ok(false)))
}

/// Like [`connect`], within a shorter time.
pub(super) async fn connect_within(
    timeout: Duration,
    database_url: &str,
    name: &str,
) -> Result<Connection, Error> {
    let hosts = each_in_turn(database_url, timeout.min(CONNECT_TIMEOUT));
    let is_alone = hosts.len() == 1;
    let mut failed = Vec::new();
    for (host, share) in hosts {
        match connect_to(&host, name, share).await {
            Ok(connection) => return Ok(connection),
            Err(error) if is_alone => return Err(error),
            Err(error) => failed.push(format!("{}: {error}", host_of(&host))),
        }
    }
    Err(Error::Outage(failed.join("; ")))
}

async fn connect_to(
    database_url: &str,
    name: &str,
    timeout: Duration,
) -> Result<Connection, Error> {
    let options: PgConnectOptions = database_url.parse().map_err(|_: sqlx::Error| {
        Error::Refused(
            "database_url can't be read: write postgres://user:password@host:5432/database".into(),
        )
    })?;
    let options = options.application_name(name).options(SETTINGS);
    let connecting = async {
        let mut connection = PgConnection::connect_with(&options).await?;
        // A commit that was not flushed must not be acknowledged: `off` becomes `on`, and what
        // waits for a standby as well is kept.
        let session = sqlx::query!(
            r#"select current_setting('transaction_read_only')::bool as "read_only!",
                set_config('synchronous_commit', case current_setting('synchronous_commit')
                    when 'off' then 'on' else current_setting('synchronous_commit') end, false)
                    as synchronous_commit"#
        )
        .fetch_one(&mut connection)
        .await?;
        if session.read_only {
            return Err(Error::Outage("the database is read-only: is it a standby?".into()));
        }
        Ok(connection)
    };
    match tokio::time::timeout(timeout, connecting).await {
        Ok(connected) => connected,
        Err(_elapsed) => Err(Error::timeout("connecting to the database", timeout)),
    }
}

/// Makes a connection fit for batches.
///
/// Each statement is bounded on the server, and more tightly the wait for a lock: a conflict is
/// cheaper to repeat. Every plan goes row by row over the indexes, whatever the statistics say: a
/// partition that has just begun has none, or those of an empty table, and a plan that was made for
/// it would read all of it for each row of a batch. What is forbidden only costs more, so small
/// tables are still read; as compiling would then seem worth its while, it is off.
pub(super) async fn configure_for_batches(
    connection: &mut Connection,
    timeout: Duration,
) -> Result<(), Error> {
    let milliseconds = |bound: Duration| bound.as_millis().to_string();
    sqlx::query!(
        "select set_config('statement_timeout', $1, false) as statement,
                set_config('lock_timeout', $2, false) as lock,
                set_config('plan_cache_mode', 'force_generic_plan', false) as plan,
                set_config('enable_seqscan', 'off', false) as scan,
                set_config('enable_hashjoin', 'off', false) as hash,
                set_config('enable_mergejoin', 'off', false) as merge,
                set_config('jit', 'off', false) as jit",
        milliseconds(timeout),
        milliseconds(timeout.mul_f64(LOCK_SHARE)),
    )
    .fetch_one(connection)
    .await?;
    Ok(())
}
