//! Dead letters that hold their customers, and the commands that are parked behind them: a wait queue
//! in the database, see [`domain::holds`](crate::domain::holds).
//!
//! Only the lane's owner adds to a lane's wait queue or removes from it, behind the fence. Who discards a
//! letter only notes the release; the lane's owner notices it and applies what waited.

use uuid::Uuid;

use crate::domain::dead_letter::QueuePosition;
use crate::domain::holds::{Customer, Entry};
use crate::domain::identity::CustomerId;
use crate::domain::program::OrgId;
use crate::store::command_log::CommandKey;
use crate::store::connection::Connection;
use crate::store::error::Error;
use crate::store::held_letters::{self, Hold, customer_columns};

/// An entry of the wait queue: a dead letter or a parked command.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its place, and whom it means.
    pub entry: Entry,
    /// The command that was dead-lettered or parked.
    pub key: CommandKey,
    /// Which of the two it is.
    pub kind: Kind,
}

/// See [`Found`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A dead letter.
    Letter(Uuid),
    /// A parked command with a body of this hash.
    Parked(Vec<u8>),
}

/// Whom a batch asks about.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// The customers that its commands mean.
    pub customers: Vec<Customer>,
    /// Its commands.
    pub keys: Vec<CommandKey>,
    /// The dead letters that its commands are replays of.
    pub letters: Vec<Uuid>,
}

/// A command to park.
#[derive(Clone, Debug)]
pub struct Parking {
    /// The command.
    pub key: CommandKey,
    /// Of its body.
    pub body_hash: [u8; 32],
    /// All but the body.
    pub message: String,
    /// As delivered.
    pub body: Vec<u8>,
    /// Whom it means.
    pub customers: Vec<Customer>,
    /// The place of the dead letter that it replays; nothing: at the end.
    pub sequence: Option<i64>,
    /// Its position in the lane's queue.
    pub position: Option<QueuePosition>,
}

/// What a batch changes in the wait queue.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// In their order.
    pub parked: Vec<Parking>,
    /// In their order, behind the parked.
    pub held: Vec<Hold>,
    /// Parked commands whose entries get further customers, because an import has moved an identifier.
    pub widened: Vec<Entry>,
    /// Dead letters whose replays have taken effect.
    pub released: Vec<Uuid>,
    /// Dead letters whose parked replays were taken back: those that are open hold their customers again.
    pub reinstated: Vec<Uuid>,
    /// Parked commands that have taken effect, by their positions.
    pub applied: Vec<i64>,
}

impl Changes {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parked.is_empty()
            && self.held.is_empty()
            && self.widened.is_empty()
            && self.released.is_empty()
            && self.reinstated.is_empty()
            && self.applied.is_empty()
    }
}

/// Everything in the lane's wait queue that concerns a batch: the entries of customers that the batch asks
/// about or that one of its own entries has. Its own entries, those of its commands and of the dead letters
/// that they replay, are found in any lane.
pub async fn find(
    connection: &mut Connection,
    lane: &str,
    asked: &Question,
) -> Result<Vec<Found>, Error> {
    let (customer_orgs, customers) = customer_columns(&asked.customers);
    let command_orgs: Vec<i32> = asked.keys.iter().map(|key| key.org_id.0).collect();
    let commands: Vec<String> = asked.keys.iter().map(|key| key.command_id.clone()).collect();
    let rows = sqlx::query!(
        r#"with named as (select distinct * from unnest($4::int[], $5::text[]) n (org_id, command_id)),
            own_letter as (
                select h.dead_letter_id from named join hold h using (org_id, command_id)
                union select unnest($6::uuid[])
                union select h.dead_letter_id from hold h where h.replay_died_as = any($6)),
            own_parked as (
                select sequence from named join parked_command using (org_id, command_id)),
            who as (
                select * from unnest($2::int[], $3::bigint[]) w (org_id, customer_id)
                union select c.org_id, c.customer_id from own_letter
                    join hold_customer c using (dead_letter_id)
                union select c.org_id, c.customer_id from own_parked
                    join parked_customer c using (sequence))
        select sequence as "sequence!", org_id as "org_id!", command_id as "command_id!", dead_letter_id,
            null::bytea as body_hash,
            array(select customer_id from hold_customer c where c.dead_letter_id = hold.dead_letter_id)
                as "customers!"
        from hold
        where released_at is null and dead_letter_id in (
            select c.dead_letter_id from who join hold_customer c using (org_id, customer_id)
                join hold h using (dead_letter_id) where h.lane = $1
            union all select dead_letter_id from own_letter)
        union all
        select sequence, org_id, command_id, null, body_hash,
            array(select customer_id from parked_customer c where c.sequence = p.sequence)
        from parked_command p
        where applied_at is null and sequence in (
            select c.sequence from who join parked_customer c using (org_id, customer_id)
                join parked_command on parked_command.sequence = c.sequence where lane = $1
            union all select sequence from own_parked)"#,
        lane,
        &customer_orgs,
        &customers,
        &command_orgs,
        &commands,
        &asked.letters,
    )
    .fetch_all(connection)
    .await?;
    let found = rows.into_iter().map(|row| {
        let org_id = OrgId(row.org_id);
        let kind = match row.dead_letter_id {
            Some(dead_letter_id) => Kind::Letter(dead_letter_id),
            None => Kind::Parked(row.body_hash.unwrap_or_default()),
        };
        Found {
            entry: entry(row.sequence, org_id.0, row.customers),
            key: CommandKey { org_id, command_id: row.command_id },
            kind,
        }
    });
    Ok(found.collect())
}

/// How many commands are parked in the lane.
pub async fn count(connection: &mut Connection, lane: &str) -> Result<usize, Error> {
    let count = sqlx::query_scalar!(
        r#"select count(*) as "count!" from parked_command where lane = $1"#,
        lane
    )
    .fetch_one(connection)
    .await?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

/// Writes what a batch changes, within its transaction.
pub(super) async fn write(
    connection: &mut Connection,
    lane: &str,
    changes: &Changes,
) -> Result<(), Error> {
    if !changes.parked.is_empty() {
        park(connection, lane, &changes.parked).await?;
    }
    for held in &changes.held {
        held_letters::write(connection, lane, held).await?;
    }
    if !changes.widened.is_empty() {
        widen(connection, &changes.widened).await?;
    }
    if !changes.released.is_empty() {
        release(connection, &changes.released).await?;
    }
    if !changes.reinstated.is_empty() {
        reinstate(connection, &changes.reinstated).await?;
    }
    if !changes.applied.is_empty() {
        sqlx::query!(
            "update parked_command set applied_at = now() where sequence = any($1)",
            &changes.applied,
        )
        .execute(connection)
        .await?;
    }
    Ok(())
}

async fn reinstate(connection: &mut Connection, letters: &[Uuid]) -> Result<(), Error> {
    sqlx::query!(
        "update hold set released_at = null from dead_letter letter
        where dead_letter_id = any($1) and letter.id = dead_letter_id and letter.state = 'open'",
        letters,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A command that comes again while it is parked stays where it is.
async fn park(connection: &mut Connection, lane: &str, parked: &[Parking]) -> Result<(), Error> {
    let org_ids: Vec<i32> = parked.iter().map(|one| one.key.org_id.0).collect();
    let command_ids: Vec<String> = parked.iter().map(|one| one.key.command_id.clone()).collect();
    let hashes: Vec<Vec<u8>> = parked.iter().map(|one| one.body_hash.to_vec()).collect();
    let messages: Vec<String> = parked.iter().map(|one| one.message.clone()).collect();
    let bodies: Vec<Vec<u8>> = parked.iter().map(|one| one.body.clone()).collect();
    let sequences: Vec<Option<i64>> = parked.iter().map(|one| one.sequence).collect();
    let positions = || parked.iter().map(|one| one.position);
    let epochs: Vec<Option<i64>> = positions().map(|at| at.map(|at| at.lane_epoch)).collect();
    let tags: Vec<Option<i64>> = positions().map(|at| at.map(|at| at.delivery_tag)).collect();
    let mut customers: (Vec<i32>, Vec<String>, Vec<i64>) = Default::default();
    for one in parked {
        for (org_id, customer_id) in &one.customers {
            customers.0.push(org_id.0);
            customers.1.push(one.key.command_id.clone());
            customers.2.push(customer_id.0);
        }
    }
    // Rows get their places in the order of the arrays: that of the queue.
    sqlx::query!(
        "with new as (
            insert into parked_command (sequence, lane, org_id, command_id, body_hash, message, body,
                lane_epoch, delivery_tag)
            select coalesce(sequence, nextval('hold_sequence')), $1, org_id, command_id, body_hash,
                message, body, lane_epoch, delivery_tag
            from (select * from unnest($2::int[], $3::text[], $4::bytea[], $5::text[], $6::bytea[],
                $7::bigint[], $11::bigint[], $12::bigint[]) with ordinality
                as given (org_id, command_id, body_hash, message, body, sequence, lane_epoch,
                    delivery_tag, place)
                order by place) given
            on conflict (org_id, command_id) do nothing
            returning sequence, org_id, command_id)
        insert into parked_customer (sequence, org_id, customer_id)
        select distinct sequence, org_id, customer_id
        from unnest($8::int[], $9::text[], $10::bigint[]) who (org_id, command_id, customer_id)
        join new using (org_id, command_id)",
        lane,
        &org_ids,
        &command_ids,
        &hashes,
        &messages,
        &bodies,
        &sequences as &[Option<i64>],
        &customers.0,
        &customers.1,
        &customers.2,
        &epochs as &[Option<i64>],
        &tags as &[Option<i64>],
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Adds customers to parked commands.
async fn widen(connection: &mut Connection, widened: &[Entry]) -> Result<(), Error> {
    let mut columns: (Vec<i64>, Vec<i32>, Vec<i64>) = Default::default();
    for Entry { sequence, customers } in widened {
        for (org_id, customer_id) in customers {
            columns.0.push(*sequence);
            columns.1.push(org_id.0);
            columns.2.push(customer_id.0);
        }
    }
    sqlx::query!(
        "insert into parked_customer (sequence, org_id, customer_id)
         select distinct sequence, who.org_id, customer_id
         from unnest($1::bigint[], $2::int[], $3::bigint[]) who (sequence, org_id, customer_id)
         join parked_command using (sequence)
         on conflict do nothing",
        &columns.0,
        &columns.1,
        &columns.2,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes that dead letters release their customers, because they were replayed or discarded, and so do those
/// whose replays they were. One that holds no customer is skipped. The owner of the lane then applies what
/// waited.
pub async fn release(connection: &mut Connection, letter_ids: &[Uuid]) -> Result<(), Error> {
    sqlx::query!(
        "update hold set released_at = now()
         where released_at is null and dead_letter_id in (
             select unnest($1::uuid[])
             union all select dead_letter_id from hold where replay_died_as = any($1))",
        letter_ids,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) fn entry(sequence: i64, org_id: i32, customers: Vec<i64>) -> Entry {
    let customers = customers.into_iter().map(|id| (OrgId(org_id), CustomerId(id)));
    Entry { sequence, customers: customers.collect() }
}

/// Lets an edited copy replace its original, and the dead letters whose replays the original was: from then
/// on the replay or the discard of the copy releases the customers.
pub async fn supersede(
    connection: &mut Connection,
    original: Uuid,
    copy: Uuid,
    command_id: &str,
) -> Result<(), Error> {
    sqlx::query!(
        "update hold set command_id = $3,
             dead_letter_id = case when dead_letter_id = $1 then $2 else dead_letter_id end,
             replay_died_as = case when replay_died_as = $1 then $2 else replay_died_as end
         where (dead_letter_id = $1 or replay_died_as = $1) and released_at is null",
        original,
        copy,
        command_id,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Releases whatever a lane holds: it no longer does so.
pub async fn release_lane(connection: &mut Connection, lane: &str) -> Result<(), Error> {
    sqlx::query!(
        "update hold set released_at = now() where lane = $1 and released_at is null",
        lane,
    )
    .execute(connection)
    .await?;
    Ok(())
}
