//! Stores a window: ONE transaction of fence, inbox, enrolments, history.
//!
//! A crash before the commit leaves nothing; after it, everything. Where the connection breaks
//! during the commit the outcome is unknown, and the window is simply done again: the inbox
//! tells which of its commands are in.

use chrono::{DateTime, Utc};
use sqlx::Connection as _;
use uuid::Uuid;

use crate::domain::enrolment::{Effect, Enrolment};
use crate::domain::snapshot::{Change, Snapshot};
use crate::store::attempts;
use crate::store::command_log::{CommandKey, Stored};
use crate::store::connection::Connection;
use crate::store::error::Error;
use crate::store::fence::{self, Fence};

/// A window after its evaluation.
pub struct Window<'a> {
    /// The commands that were not in the inbox, in the order in which they take effect.
    pub records: &'a [Record],
    /// What they have made of the facts.
    pub snapshot: &'a Snapshot,
    /// The deliveries whose attempts were counted; they are done now.
    pub attempts: &'a [Uuid],
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

/// Commits the window if the lane is still this worker's.
///
/// # Errors
///
/// [`Error::Fenced`] if it is not; [`Error::Conflict`] if an enrolment, a membership id or a
/// command id is no longer as it was loaded. Either way nothing is stored.
pub async fn commit(
    connection: &mut Connection,
    fence: &Fence,
    window: &Window<'_>,
) -> Result<(), Error> {
    // Dropped without a commit on each early return, the transaction is rolled back.
    let mut transaction = connection.begin().await?;
    fence::check(&mut transaction, fence).await?;
    insert_commands(&mut transaction, fence, window.records).await?;
    let changes = window.snapshot.changes();
    release_membership_ids(&mut transaction, &changes).await?;
    write_enrolments(&mut transaction, &changes).await?;
    append_history(&mut transaction, window.records).await?;
    if !window.attempts.is_empty() {
        attempts::clear(&mut transaction, &fence.lane, window.attempts).await?;
    }
    // Every statement above succeeded, so this is no commit of an aborted transaction, which
    // would say nothing and roll back.
    transaction.commit().await?;
    Ok(())
}

async fn insert_commands(
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

/// Unlinks the rows whose membership id passes to another customer within this window: the
/// index is checked row by row, so the giver must let go before the taker comes.
async fn release_membership_ids(
    connection: &mut Connection,
    changes: &[Change<'_>],
) -> Result<(), Error> {
    let keys = Keys::of(changes.iter().filter(|change| change.membership_id_passes_on));
    if keys.org_ids.is_empty() {
        return Ok(());
    }
    let released = sqlx::query!(
        "update enrolment e set linked = false
         from unnest($1::int[], $2::bigint[], $3::int[], $4::bigint[])
             as w (org_id, customer_id, program_id, loaded_version)
         where e.org_id = w.org_id and e.customer_id = w.customer_id
             and e.program_id = w.program_id and e.version = w.loaded_version",
        &keys.org_ids,
        &keys.customer_ids,
        &keys.program_ids,
        &keys.loaded_versions,
    )
    .execute(connection)
    .await?;
    all_rows(released.rows_affected(), keys.org_ids.len())
}

/// Changed rows first, then new ones: a new row may take a membership id that a changed one
/// has let go.
async fn write_enrolments(
    connection: &mut Connection,
    changes: &[Change<'_>],
) -> Result<(), Error> {
    let (fresh, stored): (Vec<_>, Vec<_>) =
        changes.iter().partition(|change| change.loaded_version == 0);
    update_enrolments(connection, &stored).await?;
    insert_enrolments(connection, &fresh).await
}

async fn update_enrolments(
    connection: &mut Connection,
    changes: &[&Change<'_>],
) -> Result<(), Error> {
    if changes.is_empty() {
        return Ok(());
    }
    let keys = Keys::of(changes.iter().copied());
    let after = States::of(changes.iter().map(|change| Some(change.after)));
    let since: Vec<_> = changes.iter().map(|change| change.after.linked_since).collect();
    let versions: Vec<i64> = changes.iter().map(|change| change.after.version).collect();
    // Rows are locked in the order of their key, as by every writer, so that two of them can't
    // wait for each other; the version guards against what happened since the load.
    let written = sqlx::query!(
        "with new as (
             select * from unnest($1::int[], $2::bigint[], $3::int[], $4::bigint[], $5::bool[],
                 $6::text[], $7::smallint[], $8::timestamptz[], $9::timestamptz[], $10::bigint[])
                 as new (org_id, customer_id, program_id, loaded_version, linked, membership_id,
                     tier_number, tier_expires_at, linked_since, version)
         ), held as materialized (
             select new.* from new
             join enrolment e using (org_id, customer_id, program_id)
             where e.version = new.loaded_version
             order by org_id, customer_id, program_id
             for update of e
         )
         update enrolment e
         set linked = held.linked, membership_id = held.membership_id,
             tier_number = held.tier_number, tier_expires_at = held.tier_expires_at,
             linked_since = held.linked_since, version = held.version
         from held
         where e.org_id = held.org_id and e.customer_id = held.customer_id
             and e.program_id = held.program_id and e.version = held.loaded_version",
        &keys.org_ids,
        &keys.customer_ids,
        &keys.program_ids,
        &keys.loaded_versions,
        &after.linked as &[Option<bool>],
        &after.membership_ids as &[Option<String>],
        &after.tier_numbers as &[Option<i16>],
        &after.tiers_expire_at as &[Option<DateTime<Utc>>],
        &since,
        &versions,
    )
    .execute(connection)
    .await?;
    all_rows(written.rows_affected(), changes.len())
}

async fn insert_enrolments(
    connection: &mut Connection,
    changes: &[&Change<'_>],
) -> Result<(), Error> {
    if changes.is_empty() {
        return Ok(());
    }
    let keys = Keys::of(changes.iter().copied());
    let after = States::of(changes.iter().map(|change| Some(change.after)));
    let since: Vec<_> = changes.iter().map(|change| change.after.linked_since).collect();
    let versions: Vec<i64> = changes.iter().map(|change| change.after.version).collect();
    // A row that somebody else inserted meanwhile is a unique violation, and so a conflict.
    sqlx::query!(
        "insert into enrolment (org_id, customer_id, program_id, linked, membership_id,
             tier_number, tier_expires_at, linked_since, version)
         select * from unnest($1::int[], $2::bigint[], $3::int[], $4::bool[], $5::text[],
             $6::smallint[], $7::timestamptz[], $8::timestamptz[], $9::bigint[])",
        &keys.org_ids,
        &keys.customer_ids,
        &keys.program_ids,
        &after.linked as &[Option<bool>],
        &after.membership_ids as &[Option<String>],
        &after.tier_numbers as &[Option<i16>],
        &after.tiers_expire_at as &[Option<DateTime<Utc>>],
        &since,
        &versions,
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn append_history(connection: &mut Connection, records: &[Record]) -> Result<(), Error> {
    let effects = || {
        records.iter().flat_map(|record| {
            (0_i32..).zip(&record.effects).map(move |(position, effect)| (record, position, effect))
        })
    };
    if effects().next().is_none() {
        return Ok(());
    }
    let command_ids: Vec<String> =
        effects().map(|(record, ..)| record.key.command_id.clone()).collect();
    let occurred: Vec<DateTime<Utc>> = effects().map(|(record, ..)| record.now).collect();
    let positions: Vec<i32> = effects().map(|(_, position, _)| position).collect();
    let effects = || effects().map(|(.., effect)| effect);
    let org_ids: Vec<i32> = effects().map(|effect| effect.key.org_id.0).collect();
    let customer_ids: Vec<i64> = effects().map(|effect| effect.key.customer_id.0).collect();
    let program_ids: Vec<i32> = effects().map(|effect| effect.key.program_id.0).collect();
    let kinds: Vec<String> = effects().map(|effect| effect.kind.as_str().to_owned()).collect();
    let reasons: Vec<Option<String>> = effects().map(|effect| effect.reason.clone()).collect();
    let versions: Vec<i64> = effects().map(|effect| effect.after.version).collect();
    let before = States::of(effects().map(|effect| effect.before.as_ref()));
    let after = States::of(effects().map(|effect| Some(&effect.after)));
    sqlx::query!(
        "insert into enrolment_history (org_id, customer_id, program_id, command_id, position, kind,
             old_linked, old_membership_id, old_tier_number, old_tier_expires_at,
             new_linked, new_membership_id, new_tier_number, new_tier_expires_at,
             reason, occurred_at, version)
         select org_id, customer_id, program_id, command_id, position, kind,
             old_linked, old_membership_id, old_tier_number, old_tier_expires_at,
             new_linked, new_membership_id, new_tier_number, new_tier_expires_at,
             reason, occurred_at, version
         from unnest($1::int[], $2::bigint[], $3::int[], $4::text[], $5::int[], $6::text[],
             $7::bool[], $8::text[], $9::smallint[], $10::timestamptz[],
             $11::bool[], $12::text[], $13::smallint[], $14::timestamptz[],
             $15::text[], $16::timestamptz[], $17::bigint[])
             with ordinality as new (org_id, customer_id, program_id, command_id, position, kind,
                 old_linked, old_membership_id, old_tier_number, old_tier_expires_at,
                 new_linked, new_membership_id, new_tier_number, new_tier_expires_at,
                 reason, occurred_at, version, place)
         order by place",
        &org_ids,
        &customer_ids,
        &program_ids,
        &command_ids,
        &positions,
        &kinds,
        &before.linked as &[Option<bool>],
        &before.membership_ids as &[Option<String>],
        &before.tier_numbers as &[Option<i16>],
        &before.tiers_expire_at as &[Option<DateTime<Utc>>],
        &after.linked as &[Option<bool>],
        &after.membership_ids as &[Option<String>],
        &after.tier_numbers as &[Option<i16>],
        &after.tiers_expire_at as &[Option<DateTime<Utc>>],
        &reasons as &[Option<String>],
        &occurred,
        &versions,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Columns that say which enrolments are meant, and in which version.
#[derive(Default)]
struct Keys {
    org_ids: Vec<i32>,
    customer_ids: Vec<i64>,
    program_ids: Vec<i32>,
    loaded_versions: Vec<i64>,
}

impl Keys {
    fn of<'a>(changes: impl Iterator<Item = &'a Change<'a>>) -> Self {
        let mut keys = Self::default();
        for Change { key, loaded_version, .. } in changes {
            keys.org_ids.push(key.org_id.0);
            keys.customer_ids.push(key.customer_id.0);
            keys.program_ids.push(key.program_id.0);
            keys.loaded_versions.push(*loaded_version);
        }
        keys
    }
}

/// Columns of states; all null where there is none.
#[derive(Default)]
struct States {
    linked: Vec<Option<bool>>,
    membership_ids: Vec<Option<String>>,
    tier_numbers: Vec<Option<i16>>,
    tiers_expire_at: Vec<Option<DateTime<Utc>>>,
}

impl States {
    fn of<'a>(states: impl Iterator<Item = Option<&'a Enrolment>>) -> Self {
        let mut columns = Self::default();
        for state in states {
            columns.linked.push(state.map(|state| state.linked));
            columns.membership_ids.push(state.and_then(|state| state.membership_id.clone()));
            columns.tier_numbers.push(state.and_then(|state| state.tier_number));
            columns.tiers_expire_at.push(state.and_then(|state| state.tier_expires_at));
        }
        columns
    }
}

/// A row that was not written had another version.
fn all_rows(written: u64, expected: usize) -> Result<(), Error> {
    if usize::try_from(written) == Ok(expected) { Ok(()) } else { Err(Error::version_conflict()) }
}
