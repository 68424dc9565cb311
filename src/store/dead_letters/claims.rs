//! Letters that an operation goes through: in the order of death, each claimed by one.

use chrono::{DateTime, Utc};
use sqlx::Connection as _;
use uuid::Uuid;

use crate::domain::actor::Actor;
use crate::domain::dead_letter::State;
use crate::store::connection::Connection;
use crate::store::dead_letters::applied;
use crate::store::dead_letters::audit::{self, AuditAction};
use crate::store::dead_letters::filter::Filter;
use crate::store::dead_letters::order::DeathOrder;
use crate::store::error::Error;
use crate::store::holds;

/// A letter's place, and whether it is worth a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The letter.
    pub id: Uuid,
    /// Its place in the order of death.
    pub order: DeathOrder,
    /// The size of the body.
    pub body_bytes: i32,
}

/// The next `limit` letters behind `after` that were archived before `before`, in the order of death:
/// those that come back while they are replayed are not met again.
pub async fn page(
    connection: &mut Connection,
    filter: &Filter,
    before: DateTime<Utc>,
    after: Option<DeathOrder>,
    limit: i64,
) -> Result<Vec<Key>, Error> {
    let filter = filter.resolve(connection).await?;
    let rows = sqlx::query_as!(
        Row,
        r#"select id as "id!", coalesce(ordered_at, last_died_at) as "ordered_at!",
            lane_epoch as "lane_epoch!", delivery_tag as "delivery_tag!", sequence as "sequence!",
            octet_length(body) as "body_bytes!"
        from dead_letter_matching($1)
        where (coalesce(ordered_at, last_died_at), lane_epoch, delivery_tag, sequence)
                > (coalesce($2, '-infinity'::timestamptz), coalesce($3, 0::bigint),
                    coalesce($4, 0::bigint), coalesce($5, 0::bigint))
            and recorded_at < $6
        order by coalesce(ordered_at, last_died_at), lane_epoch, delivery_tag, sequence limit $7"#,
        filter,
        after.map(|after| after.ordered_at),
        after.map(|after| after.lane_epoch),
        after.map(|after| after.delivery_tag),
        after.map(|after| after.sequence),
        before,
        limit,
    )
    .fetch_all(connection)
    .await?;
    let key = |row| {
        let Row { id, ordered_at, lane_epoch, delivery_tag, sequence, body_bytes } = row;
        Key { id, order: DeathOrder { ordered_at, lane_epoch, delivery_tag, sequence }, body_bytes }
    };
    Ok(rows.into_iter().map(key).collect())
}

struct Row {
    id: Uuid,
    ordered_at: DateTime<Utc>,
    lane_epoch: i64,
    delivery_tag: i64,
    sequence: i64,
    body_bytes: i32,
}

/// From which states into which, and what that is called.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// Letters in other states stay as they are.
    pub from: &'static [State],
    /// Where they get.
    pub to: State,
    /// How the audit has it.
    pub action: AuditAction,
}

/// A claim: its letters are published by this operation and by no other.
pub const CLAIM: Change =
    Change { from: &[State::Open], to: State::Replaying, action: AuditAction::Replay };

/// A letter that was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The letter.
    pub id: Uuid,
    /// The number of its latest replay: of the one that is to be published, if it was claimed.
    pub replay_number: i32,
}

/// Who changes letters.
#[derive(Clone, Copy, Debug)]
pub struct By<'a> {
    /// The operation.
    pub operation_id: Uuid,
    /// The person.
    pub actor: &'a Actor,
    /// Whether a replay has effect although its publisher may not act for the org.
    pub overrides_publisher: bool,
}

/// Changes those of `ids` that no other operation is changing at this moment, notes who does so, and
/// returns them. A second operator finds none of them in the old state. One whose command has taken
/// effect is applied instead. What waits behind a letter that is discarded waits no longer.
pub async fn change(
    connection: &mut Connection,
    ids: &[Uuid],
    change: &Change,
    by: By<'_>,
) -> Result<Vec<Changed>, Error> {
    let By { operation_id, actor, overrides_publisher } = by;
    let from: Vec<String> = change.from.iter().map(|state| state.as_str().to_owned()).collect();
    let mut transaction = connection.begin().await?;
    applied::mark(&mut transaction, ids).await?;
    let changed = sqlx::query_as!(
        Changed,
        "update dead_letter set state = $3, operation_id = $4, changed_at = now(),
            replay_number = replay_number + case when $3 = 'replaying' then 1 else 0 end,
            publisher_overridden = $3 = 'replaying' and $5
        where id in (select id from dead_letter where id = any($1) and state = any($2)
            order by last_died_at, sequence for update skip locked)
        returning id, replay_number",
        ids,
        &from,
        change.to.as_str(),
        operation_id,
        overrides_publisher,
    )
    .fetch_all(&mut *transaction)
    .await?;
    let changed_ids: Vec<Uuid> = changed.iter().map(|letter| letter.id).collect();
    if change.to == State::Discarded {
        holds::release(&mut transaction, &changed_ids).await?;
    }
    let action = if overrides_publisher { AuditAction::OverridePublisher } else { change.action };
    audit::note(&mut transaction, &changed_ids, action, actor, Some(operation_id)).await?;
    transaction.commit().await?;
    Ok(changed)
}

/// How many of these letters are in which state.
pub async fn count_by_state(
    connection: &mut Connection,
    ids: &[Uuid],
) -> Result<Vec<(State, i64)>, Error> {
    let rows = sqlx::query!(
        r#"select state as "state: State", count(*) as "letters!" from dead_letter
        where id = any($1) group by state order by state"#,
        ids
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.state, row.letters)).collect())
}

/// Where the letters stand that the operation touched last.
pub async fn states(
    connection: &mut Connection,
    operation_id: Uuid,
) -> Result<Vec<(State, i64)>, Error> {
    let rows = sqlx::query!(
        r#"select state as "state: State", count(*) as "letters!" from dead_letter
        where operation_id = $1 group by state order by state"#,
        operation_id
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.state, row.letters)).collect())
}

/// What the operation has claimed and not settled: a runner that died has left it so.
pub async fn unsettled(
    connection: &mut Connection,
    operation_id: Uuid,
) -> Result<Vec<Uuid>, Error> {
    let ids = sqlx::query_scalar!(
        "select id from dead_letter where operation_id = $1 and state = 'replaying'
        order by coalesce(ordered_at, last_died_at), lane_epoch, delivery_tag, sequence",
        operation_id
    )
    .fetch_all(connection)
    .await?;
    Ok(ids)
}

/// Settles claims: those that the broker has are replayed, the others are open again. One that
/// has come back already stays as it is.
pub async fn settle(
    connection: &mut Connection,
    operation_id: Uuid,
    sent: &[Uuid],
    unsent: &[Uuid],
) -> Result<(), Error> {
    sqlx::query!(
        "update dead_letter set changed_at = now(),
            state = case when id = any($2) then 'replayed' else 'open' end
        where id in (select id from dead_letter where id = any($2::uuid[] || $3::uuid[])
            and state = 'replaying' and operation_id = $1 order by id for update)",
        operation_id,
        sent,
        unsent,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Opens the letters that an operation has claimed and neither settled nor can settle any more, as it has
/// ended. Should their messages have been sent, these count as taken back.
pub async fn release_of_ended(connection: &mut Connection) -> Result<(), Error> {
    sqlx::query!(
        "with released as (
            update dead_letter letter set state = 'open', changed_at = now()
            where id in (select id from dead_letter
                where state = 'replaying' and not exists (select from dead_letter_operation operation
                    where operation.id = operation_id and operation.state = 'running')
                order by id for update skip locked)
            returning letter.id, operation_id)
        insert into dead_letter_action (dead_letter_id, action, actor, reason, source, operation_id)
        select id, 'restore', 'worker', 'its operation ended before it was sent', 'worker', operation_id
        from released",
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The database's clock, which says what was archived before an operation.
pub async fn now(connection: &mut Connection) -> Result<DateTime<Utc>, Error> {
    Ok(sqlx::query_scalar!(r#"select now() as "now!""#).fetch_one(connection).await?)
}
