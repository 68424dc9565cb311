//! The inbox: commands that were answered, each with its result. It is the outbox, too.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::domain::command::Operation;
use crate::domain::evaluate::{Counts, Verdict};
use crate::domain::program::OrgId;
use crate::store::connection::Connection;
use crate::store::error::Error;

/// A command's identity: its id is unique within the org.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CommandKey {
    /// The tenant.
    pub org_id: OrgId,
    /// The publisher's message id, or one made up.
    pub command_id: String,
}

/// A command's answer and what is passed on with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The org's code, for the routing key.
    pub org_code: String,
    /// SHA-256 of the command's body: tells a duplicate from a reused id.
    pub body_hash: [u8; 32],
    /// What was asked for.
    pub operation: Operation,
    /// How it went.
    pub verdict: Verdict,
    /// How its items went.
    pub counts: Counts,
    /// The bytes of the result event's body.
    pub result: Vec<u8>,
    /// As the command had it.
    pub correlation_id: Option<String>,
    /// As the command had it.
    pub app_id: Option<String>,
    /// The publisher, as the broker authenticated it.
    pub user_id: Option<String>,
    /// As the command had it.
    pub traceparent: Option<String>,
    /// The command's timestamp.
    pub sent_at: Option<DateTime<Utc>>,
}

/// Those of `keys` that are known, in whichever partition they are.
pub async fn find(
    connection: &mut Connection,
    keys: &[CommandKey],
) -> Result<HashMap<CommandKey, Stored>, Error> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let org_ids: Vec<i32> = keys.iter().map(|key| key.org_id.0).collect();
    let command_ids: Vec<String> = keys.iter().map(|key| key.command_id.clone()).collect();
    let rows = sqlx::query!(
        "select c.org_id, c.command_id, org.code, c.body_hash, c.operation, c.verdict,
                c.items_total, c.items_succeeded, c.items_failed, c.result,
                c.correlation_id, c.app_id, c.user_id, c.traceparent, c.sent_at
         from unnest($1::int[], $2::text[]) as wanted (org_id, command_id)
         join command_log c using (org_id, command_id)
         join org on org.id = c.org_id",
        &org_ids,
        &command_ids,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let key = CommandKey { org_id: OrgId(row.org_id), command_id: row.command_id };
            let unreadable =
                |what: &str| Error::Refused(format!("a command_log row has an unknown {what}"));
            let stored = Stored {
                org_code: row.code,
                body_hash: row.body_hash.try_into().map_err(|_| unreadable("body_hash"))?,
                operation: Operation::parse(&row.operation)
                    .ok_or_else(|| unreadable("operation"))?,
                verdict: Verdict::parse(&row.verdict).ok_or_else(|| unreadable("verdict"))?,
                counts: Counts {
                    total: row.items_total.unsigned_abs(),
                    succeeded: row.items_succeeded.unsigned_abs(),
                    failed: row.items_failed.unsigned_abs(),
                },
                result: row.result,
                correlation_id: row.correlation_id,
                app_id: row.app_id,
                user_id: row.user_id,
                traceparent: row.traceparent,
                sent_at: row.sent_at,
            };
            Ok((key, stored))
        })
        .collect()
}
