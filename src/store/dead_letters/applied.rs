//! Letters whose commands have taken effect: the inbox says so, however they came to be letters.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::store::connection::Connection;
use crate::store::error::Error;

/// Notes of those of `ids` whose commands the inbox knows that they have taken effect, unless a replay of
/// them is about to be sent or another letter stands for them; returns these.
pub(super) async fn mark(connection: &mut Connection, ids: &[Uuid]) -> Result<Vec<Uuid>, Error> {
    let applied = sqlx::query_scalar!(
        r#"with effective as (
            select letter.id from dead_letter letter
                join org on org.code = letter.org_code
                -- One look by the key for each: the inbox is far too large for anything else.
                cross join lateral (
                    select from command_log command
                    where command.org_id = org.id
                        and command.command_id = coalesce(letter.command_id, letter.id::text)
                        and command.body_hash = sha256(letter.body)
                    limit 1) command
            where letter.id = any($1) and letter.state in ('open', 'replayed', 'discarded')),
        applied as (
            update dead_letter letter set state = 'applied', changed_at = now()
            where id in (select id from dead_letter where id in (select id from effective)
                and state in ('open', 'replayed', 'discarded') order by id for update skip locked)
            returning letter.id, bulk_job_id),
        noted as (
            insert into dead_letter_action
                (dead_letter_id, action, actor, reason, source, bulk_job_id)
            select id, 'applied', 'worker', 'its command took effect', 'worker', bulk_job_id
            from applied)
        select id as "id!" from applied"#,
        ids,
    )
    .fetch_all(connection)
    .await?;
    Ok(applied)
}

/// Likewise of these letters, because the history has their commands.
pub async fn mark_by_history(connection: &mut Connection, ids: &[Uuid]) -> Result<(), Error> {
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "with applied as (
            update dead_letter set state = 'applied', changed_at = now()
            where id in (select id from dead_letter where id = any($1)
                and state in ('open', 'replayed', 'discarded') order by id for update)
            returning id, bulk_job_id)
        insert into dead_letter_action (dead_letter_id, action, actor, reason, source, bulk_job_id)
        select id, 'applied', 'worker', 'the history has its command', 'worker', bulk_job_id
        from applied",
        ids,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Looks whether the next `limit` letters behind `after` that were replayed `since` have taken
/// effect, notes it of those that have, and returns the last one, if there may be more.
pub async fn follow(
    connection: &mut Connection,
    since: DateTime<Utc>,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Option<Uuid>, Error> {
    let awaited = sqlx::query_scalar!(
        "select id from dead_letter
        where state = 'replayed' and changed_at >= $1 and ($2::uuid is null or id > $2)
        order by id limit $3",
        since,
        after,
        limit,
    )
    .fetch_all(&mut *connection)
    .await?;
    if !awaited.is_empty() {
        mark(connection, &awaited).await?;
    }
    let is_full = i64::try_from(awaited.len()).is_ok_and(|count| count == limit);
    Ok(awaited.last().copied().filter(|_| is_full))
}
