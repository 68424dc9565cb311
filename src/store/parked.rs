//! The commands that are parked behind dead letters: which of them are there. Those whose results were
//! published are removed.

use chrono::{DateTime, Utc};
use sqlx::Connection as _;
use uuid::Uuid;

use crate::domain::holds::{Customer, Entry};
use crate::domain::identity::CustomerId;
use crate::domain::program::OrgId;
use crate::store::command_log::CommandKey;
use crate::store::connection::Connection;
use crate::store::error::Error;
use crate::store::fence::{self, Fence};
use crate::store::holds::entry;

/// The lane's dead letters that were released at least so many seconds ago.
pub async fn released(
    connection: &mut Connection,
    lane: &str,
    seconds_ago: f64,
) -> Result<Vec<Uuid>, Error> {
    let ids = sqlx::query_scalar!(
        "select dead_letter_id from hold
         where lane = $1 and released_at <= now() - make_interval(secs => $2)",
        lane,
        seconds_ago,
    )
    .fetch_all(connection)
    .await?;
    Ok(ids)
}

/// A lane's whole wait queue, in order.
#[derive(Clone, Debug, Default)]
pub struct WaitQueue {
    /// The dead letters that hold their customers.
    pub letters: Vec<Entry>,
    /// What waits to be applied.
    pub parked: Vec<Entry>,
    /// What was applied, but perhaps not published: by its position.
    pub applied: Vec<i64>,
}

/// See [`WaitQueue`].
pub async fn wait_queue(connection: &mut Connection, lane: &str) -> Result<WaitQueue, Error> {
    let letters = sqlx::query!(
        r#"select sequence, org_id,
            array(select customer_id from hold_customer c where c.dead_letter_id = h.dead_letter_id)
                as "customers!"
         from hold h where lane = $1 and released_at is null order by sequence"#,
        lane,
    )
    .fetch_all(&mut *connection)
    .await?;
    let parked = sqlx::query!(
        r#"select sequence, org_id, applied_at is not null as "applied!",
            array(select customer_id from parked_customer c where c.sequence = p.sequence)
                as "customers!"
         from parked_command p where lane = $1 order by sequence"#,
        lane,
    )
    .fetch_all(connection)
    .await?;
    let letters = letters.into_iter().map(|row| entry(row.sequence, row.org_id, row.customers));
    let mut all = WaitQueue { letters: letters.collect(), ..WaitQueue::default() };
    for row in parked {
        if row.applied {
            all.applied.push(row.sequence);
        } else {
            all.parked.push(entry(row.sequence, row.org_id, row.customers));
        }
    }
    Ok(all)
}

/// A parked command as it was delivered.
#[derive(Clone, Debug)]
pub struct Parked {
    /// Its place.
    pub sequence: i64,
    /// The id that it had or was given.
    pub command_id: String,
    /// The epoch of the lane and the delivery tag with which it came; nothing if an older release
    /// parked it.
    pub lane_epoch: Option<i64>,
    /// See there.
    pub delivery_tag: Option<i64>,
    /// All but the body.
    pub message: String,
    /// As delivered.
    pub body: Vec<u8>,
}

/// The first of the parked commands at these places, in order: bodies of so many bytes, and the one
/// that goes beyond it.
pub async fn read(
    connection: &mut Connection,
    sequences: &[i64],
    bytes_max: usize,
) -> Result<Vec<Parked>, Error> {
    let parked = sqlx::query_as!(
        Parked,
        // A length is known without the body.
        "select sequence, command_id, lane_epoch, delivery_tag, message, body from parked_command
         join (select sequence, sum(octet_length(body)) over (order by sequence)
                 - octet_length(body) as bytes_before
             from parked_command where sequence = any($1)) places using (sequence)
         where bytes_before < $2 order by sequence",
        sequences,
        i64::try_from(bytes_max).unwrap_or(i64::MAX),
    )
    .fetch_all(connection)
    .await?;
    Ok(parked)
}

/// The customers that a parked command waits for.
pub async fn customers(connection: &mut Connection, sequence: i64) -> Result<Vec<Customer>, Error> {
    let rows = sqlx::query!(
        "select org_id, customer_id from parked_customer where sequence = $1",
        sequence,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (OrgId(row.org_id), CustomerId(row.customer_id))).collect())
}

/// Removes commands from the wait queue whose results were published. The time of the
/// dead letters' release is noted anew: it is not over yet.
pub async fn remove(
    connection: &mut Connection,
    fence: &Fence,
    published: &[i64],
    released: &[Uuid],
) -> Result<(), Error> {
    let mut transaction = connection.begin().await?;
    fence::check(&mut transaction, fence).await?;
    sqlx::query!("delete from parked_command where sequence = any($1)", published)
        .execute(&mut *transaction)
        .await?;
    sqlx::query!(
        "update hold set released_at = now()
         where dead_letter_id = any($1) and released_at is not null",
        released,
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

/// Forgets dead letters that were released: all that they held is done.
pub async fn forget(
    connection: &mut Connection,
    fence: &Fence,
    released: &[Uuid],
) -> Result<(), Error> {
    let mut transaction = connection.begin().await?;
    fence::check(&mut transaction, fence).await?;
    sqlx::query!(
        "delete from hold where dead_letter_id = any($1) and released_at is not null",
        released,
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

/// What holds a customer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The dead letters of this customer's own commands.
    pub letters: Vec<Uuid>,
    /// How many of this customer's commands are parked.
    pub parked: i64,
}

/// See [`Held`].
pub async fn of_customer(
    connection: &mut Connection,
    org_id: OrgId,
    customer_id: i64,
) -> Result<Held, Error> {
    let row = sqlx::query!(
        r#"select
            array(select coalesce(replay_died_as, dead_letter_id)
                from hold_customer join hold using (dead_letter_id)
                where hold_customer.org_id = $1 and customer_id = $2 and released_at is null
                order by sequence) as "letters!",
            (select count(*) from parked_customer c join parked_command p using (sequence)
                where c.org_id = $1 and customer_id = $2 and applied_at is null) as "parked!""#,
        org_id.0,
        customer_id,
    )
    .fetch_one(connection)
    .await?;
    Ok(Held { letters: row.letters, parked: row.parked })
}

/// Since when a command is parked; nothing if it is not.
pub async fn parked_since(
    connection: &mut Connection,
    key: &CommandKey,
) -> Result<Option<DateTime<Utc>>, Error> {
    let since = sqlx::query_scalar!(
        "select parked_at from parked_command
         where org_id = $1 and command_id = $2 and applied_at is null",
        key.org_id.0,
        key.command_id,
    )
    .fetch_optional(connection)
    .await?;
    Ok(since)
}
