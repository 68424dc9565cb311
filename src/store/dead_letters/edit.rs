//! An edited copy, which stands for its original from the same moment on.

use sqlx::Connection as _;
use uuid::Uuid;

use crate::domain::actor::Actor;
use crate::store::connection::Connection;
use crate::store::dead_letters::applied;
use crate::store::dead_letters::audit::{self, AuditAction};
use crate::store::error::Error;
use crate::store::holds;

/// What is different about a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// The letter that it replaces.
    pub original: Uuid,
    /// A new idempotency key.
    pub command_id: String,
    /// The org's code.
    pub org: String,
    /// `link`, `update` or `delink`.
    pub operation: String,
    /// Perhaps the original's.
    pub routing_key: String,
    /// Another body.
    pub body: Vec<u8>,
    /// Hashes of customers' identifiers.
    pub customer_keys: Vec<i64>,
}

/// Puts the copy in the original's place, if that one is still open: both or nothing. Returns the
/// copy's id.
pub async fn supersede(
    connection: &mut Connection,
    copy: &Copy,
    actor: &Actor,
) -> Result<Option<Uuid>, Error> {
    let id = Uuid::now_v7();
    let mut transaction = connection.begin().await?;
    if !applied::mark(&mut transaction, &[copy.original]).await?.is_empty() {
        transaction.commit().await?;
        return Ok(None);
    }
    let superseded = sqlx::query!(
        "update dead_letter set state = 'superseded', superseded_by = $2, changed_at = now()
        where id = $1 and state = 'open'",
        copy.original,
        id
    )
    .execute(&mut *transaction)
    .await?;
    if superseded.rows_affected() == 0 {
        return Ok(None);
    }
    sqlx::query!(
        "insert into dead_letter (id, org_code, lane, reason, operation, detail, fingerprint,
            command_id, correlation_id, app_id, user_id, sent_at, exchange, routing_key, properties, headers,
            body, first_died_at, last_died_at, customer_keys, edited_from, lane_epoch, delivery_tag,
            last_lane_epoch, last_delivery_tag, ordered_at)
        select $2, $3, lane, reason, $4, detail, fingerprint, $5, correlation_id, app_id, user_id,
            sent_at,
            exchange, $6, properties, headers, $7, first_died_at, last_died_at, $8, id, lane_epoch,
            delivery_tag, last_lane_epoch, last_delivery_tag, ordered_at
        from dead_letter where id = $1",
        copy.original,
        id,
        copy.org,
        copy.operation,
        copy.command_id,
        copy.routing_key,
        copy.body,
        &copy.customer_keys,
    )
    .execute(&mut *transaction)
    .await?;
    holds::supersede(&mut transaction, copy.original, id, &copy.command_id).await?;
    audit::note(&mut transaction, &[copy.original], AuditAction::Superseded, actor, None).await?;
    audit::note(&mut transaction, &[id], AuditAction::Edit, actor, None).await?;
    transaction.commit().await?;
    Ok(Some(id))
}
