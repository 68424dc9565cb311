//! Lanes that operators have paused.

use chrono::{DateTime, Utc};

use crate::domain::actor::Actor;
use crate::store::connection::Connection;
use crate::store::error::Error;
use crate::store::text::replace_nul;

/// A paused lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// The lane.
    pub lane: String,
    /// Who wished so.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub paused_at: DateTime<Utc>,
}

/// The paused lanes, by name: those that operators pause, and those that a change of the
/// routing map holds. A lane may be both.
pub async fn paused(connection: &mut Connection) -> Result<Vec<Pause>, Error> {
    let pauses = sqlx::query_as!(
        Pause,
        r#"select lane as "lane!", actor as "actor!", reason as "reason!", paused_at as "paused_at!"
        from (
            select lane, actor, reason, paused_at from lane_pause where resumed_at is null
            union all
            select l.name, c.actor, case c.kind
                    when 'move' then format('`%s` moves from lane `%s` to `%s`; if the command has died: '
                        'partner-program lanes move --resume', c.pattern, c.from_lane, c.to_lane)
                    else '`topology apply` is under way; if it has died, run it again' end,
                c.started_at
            from lane l join routing_change c on c.id = l.held_by_change
        ) stands_still
        order by lane"#,
    )
    .fetch_all(connection)
    .await?;
    Ok(pauses)
}

/// Pauses the lane; `false` if it is paused already.
pub async fn pause(connection: &mut Connection, lane: &str, actor: &Actor) -> Result<bool, Error> {
    let paused = sqlx::query!(
        "insert into lane_pause (lane, actor, reason, source) values ($1, $2, $3, $4)
        on conflict (lane) where resumed_at is null do nothing",
        replace_nul(lane),
        replace_nul(&actor.name),
        replace_nul(&actor.reason),
        replace_nul(&actor.source),
    )
    .execute(connection)
    .await?;
    Ok(paused.rows_affected() == 1)
}

/// Lets it go on; `false` if it does already.
pub async fn resume(connection: &mut Connection, lane: &str, actor: &str) -> Result<bool, Error> {
    let resumed = sqlx::query!(
        "update lane_pause set resumed_by = $2, resumed_at = now()
        where lane = $1 and resumed_at is null",
        replace_nul(lane),
        replace_nul(actor),
    )
    .execute(connection)
    .await?;
    Ok(resumed.rows_affected() == 1)
}
