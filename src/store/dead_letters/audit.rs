//! Who did what with which letter, when, why and from where.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::actor::Actor;
use crate::store::connection::Connection;
use crate::store::error::Error;
use crate::store::text::replace_nul;

/// What can be done with a letter, or become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum AuditAction {
    /// Published again.
    Replay,
    /// Published again although its publisher may not act for the org.
    OverridePublisher,
    /// A copy was made of it, with other contents.
    Edit,
    /// Put aside.
    Discard,
    /// Taken up again.
    Restore,
    /// Written to a file.
    Export,
    /// Shown with its personal data.
    Unmask,
    /// Its command took effect.
    Applied,
    /// Its replay died.
    FailedAgain,
    /// A copy stands for it.
    Superseded,
}

impl AuditAction {
    /// The word in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Something that was done with a letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// Grows with each.
    pub id: i64,
    /// The letter.
    pub dead_letter_id: Uuid,
    /// The word for what was done, see [`AuditAction`].
    pub action: String,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// From where.
    pub source: String,
    /// As part of which bulk job.
    pub bulk_job_id: Option<Uuid>,
    /// When.
    pub acted_at: DateTime<Utc>,
}

/// What was done with a letter and came of it, oldest first.
pub async fn timeline(connection: &mut Connection, id: Uuid) -> Result<Vec<Action>, Error> {
    let actions = sqlx::query_as!(
        Action,
        "select id, dead_letter_id, action, actor, reason, source, bulk_job_id, acted_at
        from dead_letter_action where dead_letter_id = $1 order by id",
        id,
    )
    .fetch_all(connection)
    .await?;
    Ok(actions)
}

/// What was done with any letter, newest first; the next page is behind the last action's id.
pub async fn recent(
    connection: &mut Connection,
    after: Option<i64>,
    limit: i64,
) -> Result<Vec<Action>, Error> {
    let actions = sqlx::query_as!(
        Action,
        "select id, dead_letter_id, action, actor, reason, source, bulk_job_id, acted_at
        from dead_letter_action where id < coalesce($1, 9223372036854775807::bigint)
        order by id desc limit $2",
        after,
        limit,
    )
    .fetch_all(connection)
    .await?;
    Ok(actions)
}

/// Notes what was done with these letters.
pub async fn note(
    connection: &mut Connection,
    ids: &[Uuid],
    action: AuditAction,
    actor: &Actor,
    bulk_job_id: Option<Uuid>,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into dead_letter_action (dead_letter_id, action, actor, reason, source, bulk_job_id)
        select id, $2, $3, $4, $5, $6 from unnest($1::uuid[]) id",
        ids,
        action.as_str(),
        replace_nul(&actor.name),
        replace_nul(&actor.reason),
        replace_nul(&actor.source),
        bulk_job_id,
    )
    .execute(connection)
    .await?;
    Ok(())
}
