//! The dead letters of bulk jobs: read in the order of death, each claimed by one bulk job.

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

/// A dead letter's position in the order of death, and its size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its id.
    pub id: Uuid,
    /// Its position in the order of death.
    pub order: DeathOrder,
    /// The size of the body.
    pub body_bytes: i32,
}

/// The next `limit` dead letters after `after` that were archived before `before`, in the order of death:
/// a replay that fails again meanwhile is not read again.
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

/// A change of state, with its name in the audit.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// Dead letters in other states are not changed.
    pub from: &'static [State],
    /// The new state.
    pub to: State,
    /// The action in the audit.
    pub action: AuditAction,
}

/// A claim: only this bulk job publishes the dead letters.
pub const CLAIM: Change =
    Change { from: &[State::Open], to: State::Replaying, action: AuditAction::Replay };

/// A dead letter that was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Its id.
    pub id: Uuid,
    /// The number of its latest replay: the one to publish, if it was claimed.
    pub replay_number: i32,
}

/// The bulk job and the operator that change dead letters.
#[derive(Clone, Copy, Debug)]
pub struct By<'a> {
    /// The bulk job.
    pub bulk_job_id: Uuid,
    /// The operator.
    pub actor: &'a Actor,
    /// Whether a replay has effect although its publisher may not publish for the org.
    pub overrides_publisher: bool,
}

/// Changes those of `ids` that no other bulk job is changing at this moment, records it in the audit, and
/// returns them. A second operator finds none of them in the old state. A dead letter whose command has
/// taken effect becomes applied instead. A discard releases the customers that the dead letter holds.
pub async fn change(
    connection: &mut Connection,
    ids: &[Uuid],
    change: &Change,
    by: By<'_>,
) -> Result<Vec<Changed>, Error> {
    let By { bulk_job_id, actor, overrides_publisher } = by;
    let from: Vec<String> = change.from.iter().map(|state| state.as_str().to_owned()).collect();
    let mut transaction = connection.begin().await?;
    applied::mark(&mut transaction, ids).await?;
    let changed = sqlx::query_as!(
        Changed,
        "update dead_letter set state = $3, bulk_job_id = $4, changed_at = now(),
            replay_number = replay_number + case when $3 = 'replaying' then 1 else 0 end,
            publisher_overridden = $3 = 'replaying' and $5
        where id in (select id from dead_letter where id = any($1) and state = any($2)
            order by last_died_at, sequence for update skip locked)
        returning id, replay_number",
        ids,
        &from,
        change.to.as_str(),
        bulk_job_id,
        overrides_publisher,
    )
    .fetch_all(&mut *transaction)
    .await?;
    let changed_ids: Vec<Uuid> = changed.iter().map(|letter| letter.id).collect();
    if change.to == State::Discarded {
        holds::release(&mut transaction, &changed_ids).await?;
    }
    let action = if overrides_publisher { AuditAction::OverridePublisher } else { change.action };
    audit::note(&mut transaction, &changed_ids, action, actor, Some(bulk_job_id)).await?;
    transaction.commit().await?;
    Ok(changed)
}

/// How many of these dead letters are in each state.
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

/// How many of the dead letters that the bulk job changed last are in each state.
pub async fn states(
    connection: &mut Connection,
    bulk_job_id: Uuid,
) -> Result<Vec<(State, i64)>, Error> {
    let rows = sqlx::query!(
        r#"select state as "state: State", count(*) as "letters!" from dead_letter
        where bulk_job_id = $1 group by state order by state"#,
        bulk_job_id
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.state, row.letters)).collect())
}

/// The dead letters that the bulk job has claimed and not closed: a runner that died left them.
pub async fn unclosed(connection: &mut Connection, bulk_job_id: Uuid) -> Result<Vec<Uuid>, Error> {
    let ids = sqlx::query_scalar!(
        "select id from dead_letter where bulk_job_id = $1 and state = 'replaying'
        order by coalesce(ordered_at, last_died_at), lane_epoch, delivery_tag, sequence",
        bulk_job_id
    )
    .fetch_all(connection)
    .await?;
    Ok(ids)
}

/// Closes claims: dead letters whose message the broker has confirmed are replayed, the others are open
/// again. One whose replay has failed already is not changed.
pub async fn close(
    connection: &mut Connection,
    bulk_job_id: Uuid,
    sent: &[Uuid],
    unsent: &[Uuid],
) -> Result<(), Error> {
    sqlx::query!(
        "update dead_letter set changed_at = now(),
            state = case when id = any($2) then 'replayed' else 'open' end
        where id in (select id from dead_letter where id = any($2::uuid[] || $3::uuid[])
            and state = 'replaying' and bulk_job_id = $1 order by id for update)",
        bulk_job_id,
        sent,
        unsent,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Opens the dead letters that an ended bulk job has claimed and not closed. If their messages were sent,
/// these have no effect.
pub async fn release_of_ended(connection: &mut Connection) -> Result<(), Error> {
    sqlx::query!(
        "with released as (
            update dead_letter letter set state = 'open', changed_at = now()
            where id in (select id from dead_letter
                where state = 'replaying' and not exists (select from bulk_job job
                    where job.id = bulk_job_id and job.state = 'running')
                order by id for update skip locked)
            returning letter.id, bulk_job_id)
        insert into dead_letter_action (dead_letter_id, action, actor, reason, source, bulk_job_id)
        select id, 'restore', 'worker', 'its bulk job ended before it was published', 'worker', bulk_job_id
        from released",
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The database's time: a bulk job processes what was archived before it.
pub async fn now(connection: &mut Connection) -> Result<DateTime<Utc>, Error> {
    Ok(sqlx::query_scalar!(r#"select now() as "now!""#).fetch_one(connection).await?)
}
