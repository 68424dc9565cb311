//! What the database says of itself: whether it keeps what it confirms, and whether this user
//! may do what a worker does.
//!
//! Facts only; the caller decides what is good enough.

use chrono::{DateTime, NaiveDate, Utc};

use crate::store::connection::Connection;
use crate::store::error::Error;

/// The server and the session's user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The major version.
    pub major_version: i32,
    /// Off: a crash of the machine loses or corrupts what was committed.
    pub fsync: bool,
    /// Off: a crash of the machine may leave torn pages.
    pub full_page_writes: bool,
    /// Off: a crash of the server loses the last commits.
    pub synchronous_commit: String,
    /// Empty: a commit waits for no standby.
    pub synchronous_standby_names: String,
    /// Whether this session may write.
    pub writable: bool,
}

/// What the session's user is, and may do, on a migrated database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// The user.
    pub user: String,
    /// May do anything, append-only tables included.
    pub superuser: bool,
    /// Owns the tables, so may drop them.
    pub owner: bool,
    /// What a worker needs and this user lacks.
    pub missing: Vec<String>,
}

/// How far a partitioned table is made ahead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partitions {
    /// The table.
    pub table: String,
    /// Whether today's rows have a partition.
    pub covers_today: bool,
    /// Days from today (UTC) for which rows have a partition, today not counted.
    pub days_ahead: i32,
    /// The first day without one; `None` where there are no partitions.
    pub ends_on: Option<NaiveDate>,
}

/// Whether a commit outlives a crash of the server: not with `fsync` off. A worker that
/// acknowledges what such a server has confirmed loses commands for good.
pub async fn durable(connection: &mut Connection) -> Result<bool, Error> {
    let durable = sqlx::query_scalar!(r#"select current_setting('fsync')::bool as "fsync!""#)
        .fetch_one(connection)
        .await?;
    Ok(durable)
}

/// Reads the server's settings as this session has them.
pub async fn server(connection: &mut Connection) -> Result<Server, Error> {
    let server = sqlx::query_as!(
        Server,
        r#"select current_setting('server_version_num')::int / 10000 as "major_version!",
             current_setting('fsync')::bool as "fsync!",
             current_setting('full_page_writes')::bool as "full_page_writes!",
             current_setting('synchronous_commit') as "synchronous_commit!",
             current_setting('synchronous_standby_names') as "synchronous_standby_names!",
             not current_setting('transaction_read_only')::bool as "writable!""#
    )
    .fetch_one(connection)
    .await?;
    Ok(server)
}

/// The database's clock.
pub async fn now(connection: &mut Connection) -> Result<DateTime<Utc>, Error> {
    let now =
        sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#).fetch_one(connection).await?;
    Ok(now)
}

/// Reads the rights of the session's user; the schema must be there.
pub async fn rights(connection: &mut Connection) -> Result<Rights, Error> {
    let rights = sqlx::query_as!(
        Rights,
        r#"select current_user::text as "user!",
             (select rolsuper from pg_roles where rolname = current_user) as "superuser!",
             (select pg_get_userbyid(relowner) = current_user from pg_class
              where oid = 'command_log'::regclass) as "owner!",
             array(
                 select format('%s on %s', wanted.privilege, wanted.name)
                 from (values
                     ('insert', 'command_log'), ('insert', 'enrolment_history'),
                     ('insert', 'enrolment'), ('update', 'enrolment'),
                     ('insert', 'lane'), ('update', 'lane'),
                     ('insert', 'delivery_attempt'), ('delete', 'delivery_attempt'),
                     ('insert', 'dead_letter'), ('insert', 'lane_metric'),
                     ('insert', 'worker_process'), ('delete', 'worker_process'),
                     ('insert', 'hold'), ('insert', 'parked_command'),
                     ('select', 'customer'), ('select', 'program'),
                     ('select', 'schema_compatibility'), ('select', 'installation')
                 ) as wanted (privilege, name)
                 where not has_table_privilege(wanted.name, wanted.privilege)
                 union all
                 select 'execute on ' || needed.name
                 from (values ('maintain_partitions(int, date)'), ('delete_expired_dead_letters(int, int)'))
                     as needed (name)
                 where not has_function_privilege(needed.name, 'execute')
             ) as "missing!""#
    )
    .fetch_one(connection)
    .await?;
    Ok(rights)
}

/// Reads how far the partitions of the inbox and the history reach; the schema must be there.
pub async fn partitions(connection: &mut Connection) -> Result<Vec<Partitions>, Error> {
    let partitions = sqlx::query_as!(
        Partitions,
        r#"select parent as "table!",
             coalesce(bool_or(lower_on <= today and today < upper_on), false) as "covers_today!",
             coalesce(max(upper_on) - max(today) - 1, 0) as "days_ahead!",
             max(upper_on) as ends_on
         from unnest(array['command_log', 'enrolment_history']) parent
         cross join (values ((now() at time zone 'utc')::date)) as clock (today)
         left join lateral partition_bounds(parent::regclass) on true
         group by parent
         order by parent"#
    )
    .fetch_all(connection)
    .await?;
    Ok(partitions)
}
