//! Which stored results to publish again.

use chrono::{DateTime, Utc};

use crate::domain::program::OrgId;
use crate::store::command_log::CommandKey;
use crate::store::connection::Connection;
use crate::store::error::Error;

/// What is to be published again; of one org.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// These commands, as far as they are known.
    Commands(Vec<String>),
    /// What the database stored from one moment on and before another.
    Stored {
        /// The first moment.
        since: DateTime<Utc>,
        /// The moment after the last; `None`: until now.
        until: Option<DateTime<Utc>>,
    },
}

/// The next `limit` selected commands behind `after`, in the order in which they were stored,
/// each with its sequence. Each call reads the days it concerns once, for there is no index on
/// the sequence: ask for many at a time.
pub async fn keys(
    connection: &mut Connection,
    org_id: OrgId,
    selection: &Selection,
    after: i64,
    limit: i64,
) -> Result<Vec<(i64, CommandKey)>, Error> {
    let keys: Vec<(i64, String)> = match selection {
        Selection::Commands(ids) => sqlx::query!(
            "select sequence, command_id from command_log
             where org_id = $1 and command_id = any($2) and sequence > $3
             order by sequence limit $4",
            org_id.0,
            ids,
            after,
            limit,
        )
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(|row| (row.sequence, row.command_id))
        .collect(),
        // By the date, too, which names the partitions; both are of the transaction's start.
        Selection::Stored { since, until } => sqlx::query!(
            "select sequence, command_id from command_log
             where org_id = $1 and recorded_at >= $2 and recorded_at < coalesce($3::timestamptz, 'infinity')
                 and recorded_on >= ($2 at time zone 'utc')::date and sequence > $4
             order by sequence limit $5",
            org_id.0,
            since,
            *until,
            after,
            limit,
        )
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(|row| (row.sequence, row.command_id))
        .collect(),
    };
    let keyed = |(sequence, command_id)| (sequence, CommandKey { org_id, command_id });
    Ok(keys.into_iter().map(keyed).collect())
}
