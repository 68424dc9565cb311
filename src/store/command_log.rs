//! The inbox: commands that were answered, each with its result. It is the outbox, too.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::domain::command::Operation;
use crate::domain::enrolment::Effect;
use crate::domain::evaluate::{Counts, Verdict};
use crate::domain::program::OrgId;
use crate::store::connection::Connection;
use crate::store::error::Error;
use crate::store::fence::Fence;

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

/// A command and what it did.
#[derive(Clone, Debug)]
pub struct Record {
    /// Which command.
    pub key: CommandKey,
    /// Its inbox row.
    pub stored: Stored,
    /// Its history rows.
    pub effects: Vec<Effect>,
    /// The processing time.
    pub now: DateTime<Utc>,
}

/// Those of `keys` that are known, in whichever partition they are.
pub async fn find(
    connection: &mut Connection,
    keys: &[CommandKey],
) -> Result<HashMap<CommandKey, Stored>, Error> {
    find_with(connection, keys, &[]).await
}

/// As [`find`], for commands with bodies of these hashes. What another body is the answer to comes
/// without its result: it is of no use, and may be far larger than the command at hand.
pub async fn find_answers(
    connection: &mut Connection,
    keys: &[CommandKey],
    body_hashes: &[&[u8]],
) -> Result<HashMap<CommandKey, Stored>, Error> {
    find_with(connection, keys, body_hashes).await
}

/// Without hashes every result is given.
async fn find_with(
    connection: &mut Connection,
    keys: &[CommandKey],
    body_hashes: &[&[u8]],
) -> Result<HashMap<CommandKey, Stored>, Error> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let org_ids: Vec<i32> = keys.iter().map(|key| key.org_id.0).collect();
    let command_ids: Vec<String> = keys.iter().map(|key| key.command_id.clone()).collect();
    // `limit 1`, which the fence makes true, has each row looked up by its whole key.
    let rows = sqlx::query!(
        r#"select c.org_id, c.command_id, org.code, c.body_hash, c.operation, c.verdict,
                c.items_total, c.items_succeeded, c.items_failed,
                case when wanted.body_hash <> c.body_hash then '' else c.result end as "result!",
                c.correlation_id, c.app_id, c.user_id, c.traceparent,
                -- Rows from before the check may have any.
                case when c.sent_at > '-infinity' and c.sent_at < '262143-01-01' then c.sent_at end
                    as sent_at
         from unnest($1::int[], $2::text[], $3::bytea[]) as wanted (org_id, command_id, body_hash)
         cross join lateral (
             select * from command_log c
             where c.org_id = wanted.org_id and c.command_id = wanted.command_id
             limit 1
         ) c
         join org on org.id = c.org_id"#,
        &org_ids,
        &command_ids,
        body_hashes as &[&[u8]],
    )
    .fetch_all(connection)
    .await?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in rows {
        let key = CommandKey { org_id: OrgId(row.org_id), command_id: row.command_id };
        let unreadable = |what: &str| {
            Error::Outage(format!(
                "a command_log row has an unknown {what}: was it written by a newer release?"
            ))
        };
        let stored = Stored {
            org_code: row.code,
            body_hash: row.body_hash.try_into().map_err(|_| unreadable("body_hash"))?,
            operation: Operation::parse(&row.operation).ok_or_else(|| unreadable("operation"))?,
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
        // Asked for with two bodies, it is found twice, once without its result.
        if !stored.result.is_empty() || !found.contains_key(&key) {
            found.insert(key, stored);
        }
    }
    Ok(found)
}

/// Appends the inbox rows of a batch, in the order in which its commands take effect.
pub(super) async fn append(
    connection: &mut Connection,
    fence: &Fence,
    records: &[Record],
) -> Result<(), Error> {
    if records.is_empty() {
        return Ok(());
    }
    let column = |of: fn(&Record) -> String| records.iter().map(of).collect::<Vec<String>>();
    let optional = |of: fn(&Stored) -> &Option<String>| {
        records.iter().map(|r| of(&r.stored).clone()).collect::<Vec<_>>()
    };
    let count = |of: fn(&Stored) -> u32| {
        records
            .iter()
            .map(|r| i32::try_from(of(&r.stored)).unwrap_or(i32::MAX))
            .collect::<Vec<i32>>()
    };
    let org_ids: Vec<i32> = records.iter().map(|r| r.key.org_id.0).collect();
    let hashes: Vec<Vec<u8>> = records.iter().map(|r| r.stored.body_hash.to_vec()).collect();
    let results: Vec<Vec<u8>> = records.iter().map(|r| r.stored.result.clone()).collect();
    let sent: Vec<Option<DateTime<Utc>>> = records.iter().map(|r| r.stored.sent_at).collect();
    let occurred: Vec<DateTime<Utc>> = records.iter().map(|r| r.now).collect();
    // Rows get their sequence in the order of the arrays: the order in which they take effect.
    sqlx::query!(
        "insert into command_log (org_id, command_id, body_hash, lane, lane_epoch, operation, verdict,
             items_total, items_succeeded, items_failed, result,
             correlation_id, app_id, user_id, traceparent, sent_at, occurred_at)
         select org_id, command_id, body_hash, $1, $2, operation, verdict, total, succeeded, failed,
             result, correlation_id, app_id, user_id, traceparent, sent_at, occurred_at
         from unnest($3::int[], $4::text[], $5::bytea[], $6::text[], $7::text[], $8::int[], $9::int[],
             $10::int[], $11::bytea[], $12::text[], $13::text[], $14::text[], $15::text[],
             $16::timestamptz[], $17::timestamptz[])
             with ordinality as new (org_id, command_id, body_hash, operation, verdict, total,
                 succeeded, failed, result, correlation_id, app_id, user_id, traceparent, sent_at,
                 occurred_at, place)
         order by place",
        fence.lane,
        fence.epoch,
        &org_ids,
        &column(|r| r.key.command_id.clone()),
        &hashes,
        &column(|r| r.stored.operation.as_str().to_owned()),
        &column(|r| r.stored.verdict.as_str().to_owned()),
        &count(|s| s.counts.total),
        &count(|s| s.counts.succeeded),
        &count(|s| s.counts.failed),
        &results,
        &optional(|s| &s.correlation_id) as &[Option<String>],
        &optional(|s| &s.app_id) as &[Option<String>],
        &optional(|s| &s.user_id) as &[Option<String>],
        &optional(|s| &s.traceparent) as &[Option<String>],
        &sent as &[Option<DateTime<Utc>>],
        &occurred,
    )
    .execute(connection)
    .await?;
    Ok(())
}
