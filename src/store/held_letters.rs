//! A dead letter that holds its customers, from its beginning to the replay that ends it.
//!
//! A replay may come through any lane and, as an edited copy, go to another org: what it does to the
//! hold does not depend on where it arrives. Once it is applied or answered, the hold is released in the
//! same transaction. If it dies, its own letter takes the hold over in the lane of the hold; in another
//! lane the hold stays where it is and notes the letter that it `replay_died_as`, whose end releases both.

use sqlx::Connection as _;
use uuid::Uuid;

use crate::domain::holds::Customer;
use crate::domain::program::OrgId;
use crate::store::command_log::CommandKey;
use crate::store::connection::Connection;
use crate::store::error::Error;
use crate::store::fence::{self, Fence};

/// A dead letter that is to hold its customers.
#[derive(Clone, Debug)]
pub struct Hold {
    /// The dead letter's id.
    pub dead_letter_id: Uuid,
    /// The command.
    pub key: CommandKey,
    /// The customers that it names; none is no hold, unless it replays one.
    pub customers: Vec<Customer>,
    /// The dead letter that it replays: this one takes over from it.
    pub replay_of: Option<Uuid>,
    /// The place of the parked command that it was; nothing: at the end.
    pub sequence: Option<i64>,
}

/// A dead letter that holds its customers, and what tells a replay of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldLetter {
    /// The dead letter.
    pub dead_letter_id: Uuid,
    /// The dead letter that a replay of it has become.
    pub replay_died_as: Option<Uuid>,
    /// The lane where later commands of its customers wait.
    pub lane: String,
    /// Its place in that lane's line, and in any other.
    pub sequence: i64,
    /// The command that died, or that of the edited copy which replaces it.
    pub key: CommandKey,
    /// The org that its replay will be of: another one than the command's, if an edited copy goes there.
    pub replay_org_id: Option<OrgId>,
}

/// The dead letters among `letters`, those whose replays became these by failing again, and those of the
/// commands `keys`; in whatever lane they hold.
pub async fn find(
    connection: &mut Connection,
    letters: &[Uuid],
    keys: &[CommandKey],
) -> Result<Vec<HeldLetter>, Error> {
    let orgs: Vec<i32> = keys.iter().map(|key| key.org_id.0).collect();
    let commands: Vec<String> = keys.iter().map(|key| key.command_id.clone()).collect();
    let rows = sqlx::query!(
        r#"select dead_letter_id, replay_died_as, lane, sequence, org_id, command_id,
            (select org.id from dead_letter letter join org on org.code = letter.org_code
                where letter.id = coalesce(replay_died_as, dead_letter_id)) as replay_org_id
        from hold
        where released_at is null and dead_letter_id in (
            select unnest($1::uuid[])
            union select dead_letter_id from hold where replay_died_as = any($1)
            union select dead_letter_id from hold
                join (select distinct * from unnest($2::int[], $3::text[]) n (org_id, command_id)) named
                    using (org_id, command_id))"#,
        letters,
        &orgs,
        &commands,
    )
    .fetch_all(connection)
    .await?;
    let letters = rows.into_iter().map(|row| HeldLetter {
        dead_letter_id: row.dead_letter_id,
        replay_died_as: row.replay_died_as,
        lane: row.lane,
        sequence: row.sequence,
        key: CommandKey { org_id: OrgId(row.org_id), command_id: row.command_id },
        replay_org_id: row.replay_org_id.map(OrgId),
    });
    Ok(letters.collect())
}

/// Makes a dead letter hold its customers. Comes before the letter itself, so no later command overtakes it.
pub async fn hold(connection: &mut Connection, fence: &Fence, hold: &Hold) -> Result<(), Error> {
    let mut transaction = connection.begin().await?;
    fence::check(&mut transaction, fence).await?;
    write(&mut transaction, &fence.lane, hold).await?;
    transaction.commit().await?;
    Ok(())
}

/// The dead letter of a replay that failed takes over from the one that was replayed, at its place, if that
/// one holds in this lane; else both hold, each in its lane, until this letter is done with.
pub(super) async fn write(
    connection: &mut Connection,
    lane: &str,
    hold: &Hold,
) -> Result<(), Error> {
    sqlx::query!(
        "update hold set dead_letter_id = $1, command_id = $4, replay_died_as = null
         where dead_letter_id = (
                 select dead_letter_id from hold
                 where released_at is null and org_id = $3 and lane = $5
                     and (dead_letter_id = $2 or replay_died_as = $2 or command_id = $4)
                 order by sequence limit 1)
             and not exists (select from hold where dead_letter_id = $1)",
        hold.dead_letter_id,
        hold.replay_of,
        hold.key.org_id.0,
        hold.key.command_id,
        lane,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "update hold set replay_died_as = $1
         where released_at is null and org_id = $3 and lane <> $5 and dead_letter_id <> $1
             and (dead_letter_id = $2 or replay_died_as = $2 or command_id = $4)",
        hold.dead_letter_id,
        hold.replay_of,
        hold.key.org_id.0,
        hold.key.command_id,
        lane,
    )
    .execute(&mut *connection)
    .await?;
    if hold.customers.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "insert into hold (dead_letter_id, lane, org_id, command_id, sequence)
         values ($1, $2, $3, $4, coalesce($5, nextval('hold_sequence')))
         on conflict (dead_letter_id) do update set released_at = null",
        hold.dead_letter_id,
        lane,
        hold.key.org_id.0,
        hold.key.command_id,
        hold.sequence,
    )
    .execute(&mut *connection)
    .await?;
    let (org_ids, customer_ids) = customer_columns(&hold.customers);
    sqlx::query!(
        "insert into hold_customer (dead_letter_id, org_id, customer_id)
         select distinct $1::uuid, org_id, customer_id
         from unnest($2::int[], $3::bigint[]) who (org_id, customer_id)
         on conflict do nothing",
        hold.dead_letter_id,
        &org_ids,
        &customer_ids,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes which dead letters the replays of others have become by failing again: the archive knows that for
/// sure. A hold that such a dead letter has taken over already stays as it is.
pub(super) async fn failed_again(
    connection: &mut Connection,
    letters: &[Uuid],
    replay_died_as: &[Uuid],
) -> Result<(), Error> {
    sqlx::query!(
        "update hold set replay_died_as = replay.replay_died_as
         from unnest($1::uuid[], $2::uuid[]) replay (dead_letter_id, replay_died_as)
         where (hold.dead_letter_id = replay.dead_letter_id or hold.replay_died_as = replay.dead_letter_id)
             and hold.released_at is null and hold.dead_letter_id <> replay.replay_died_as",
        letters,
        replay_died_as,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Customers as the columns of a statement.
pub(super) fn customer_columns(customers: &[Customer]) -> (Vec<i32>, Vec<i64>) {
    customers.iter().map(|(org_id, id)| (org_id.0, id.0)).unzip()
}
