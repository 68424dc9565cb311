//! The letters of replays that arrive in a lane.

use std::collections::HashMap;

use uuid::Uuid;

use crate::domain::dead_letter::State;
use crate::domain::replay::{Replay, ReplayedLetter};
use crate::store::connection::Connection;
use crate::store::error::Error;

/// Those of `ids` that exist.
pub async fn find(
    connection: &mut Connection,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, ReplayedLetter>, Error> {
    let rows = sqlx::query!(
        r#"select id, state as "state: State", replay_number,
            coalesce(command_id, id::text) as "command_id!", user_id, publisher_overridden,
            (select back.id from dead_letter back
                where back.replay_of = letter.id and back.state = 'open'
                order by back.sequence limit 1) as replay_died_as
        from dead_letter letter where id = any($1)"#,
        ids,
    )
    .fetch_all(connection)
    .await?;
    let letters = rows.into_iter().map(|row| {
        let letter = ReplayedLetter {
            state: row.state,
            number: row.replay_number,
            command_id: row.command_id,
            replay_died_as: row.replay_died_as,
            user_id: row.user_id,
            is_publisher_overridden: row.publisher_overridden,
        };
        (row.id, letter)
    });
    Ok(letters.collect())
}

/// Notes that these replays have taken effect, in the transaction of the effect.
///
/// # Errors
///
/// [`Error::Conflict`] if the letter of one was taken back since it was looked at.
pub(in crate::store) async fn mark_applied(
    connection: &mut Connection,
    replays: &[Replay],
) -> Result<(), Error> {
    let ids: Vec<Uuid> = replays.iter().map(|replay| replay.dead_letter_id).collect();
    let numbers: Vec<i32> = replays.iter().map(|replay| replay.number).collect();
    let marked = sqlx::query_scalar!(
        r#"with replay as (
            select distinct * from unnest($1::uuid[], $2::int[]) as replay (id, number)),
        -- It died, and took effect when it came again: then the letter that it became is applied.
        locked as (
            select letter.id, replay.id as of from dead_letter letter
                join replay on replay.id in (letter.id, letter.replay_of)
            where (letter.id = replay.id and letter.replay_number = replay.number
                    and letter.state in ('replaying', 'replayed'))
                or (letter.replay_of = replay.id and letter.state = 'open')
            order by letter.id for update of letter),
        applied as (
            update dead_letter letter set state = 'applied', changed_at = now()
            where id in (select id from locked) returning letter.id, bulk_job_id),
        noted as (
            insert into dead_letter_action
                (dead_letter_id, action, actor, reason, source, bulk_job_id)
            select id, 'applied', 'worker', 'its command took effect', 'worker', bulk_job_id
            from applied)
        select count(distinct of) as "count!" from locked"#,
        &ids,
        &numbers,
    )
    .fetch_one(connection)
    .await?;
    let distinct: std::collections::HashSet<&Uuid> = ids.iter().collect();
    if usize::try_from(marked).is_ok_and(|marked| marked == distinct.len()) {
        Ok(())
    } else {
        Err(Error::Conflict("the letter of a replay was taken back meanwhile".to_owned()))
    }
}
