//! Stores what a batch has made of the enrolments: locked in order, guarded by version, written
//! in a few statements.

use chrono::{DateTime, Utc};

use crate::domain::enrolment::Enrolment;
use crate::domain::snapshot::Change;
use crate::failpoint;
use crate::store::connection::Connection;
use crate::store::error::Error;

/// Writes what a batch has made of the enrolments.
pub(super) async fn write(
    connection: &mut Connection,
    changes: &[Change<'_>],
) -> Result<(), Error> {
    let (fresh, stored): (Vec<_>, Vec<_>) =
        changes.iter().partition(|change| change.loaded_version == 0);
    failpoint::without!(LockOrder, lock(connection, &stored[stored.len() / 2..]).await?);
    lock(connection, &stored).await?;
    release_membership_ids(connection, &stored).await?;
    // Changed rows first, then new ones: a new row may take a membership id that a changed one
    // has let go.
    update(connection, &stored).await?;
    insert(connection, &fresh).await
}

/// Locks the rows in the order of their keys, as every writer does, so that two of them can't
/// wait for each other. A row whose version has moved since the load is a conflict.
async fn lock(connection: &mut Connection, changes: &[&Change<'_>]) -> Result<(), Error> {
    if changes.is_empty() {
        return Ok(());
    }
    let keys = Keys::of(changes.iter().copied());
    let locked = sqlx::query_scalar!(
        r#"select count(*) as "locked!" from (
                select 1
                from unnest($1::int[], $2::bigint[], $3::int[], $4::bigint[])
                    as w (org_id, customer_id, program_id, loaded_version)
                join enrolment e using (org_id, customer_id, program_id)
                where e.version = w.loaded_version
                order by org_id, customer_id, program_id
                for update of e
            ) held"#,
        &keys.org_ids,
        &keys.customer_ids,
        &keys.program_ids,
        &keys.loaded_versions,
    )
    .fetch_one(&mut *connection)
    .await?;
    all_rows(locked, changes.len())
}

/// Unlinks the rows whose membership id passes to another customer within this batch: the
/// index is checked row by row, so the giver must let go before the taker comes.
async fn release_membership_ids(
    connection: &mut Connection,
    changes: &[&Change<'_>],
) -> Result<(), Error> {
    let passing = changes.iter().copied().filter(|change| change.membership_id_passes_on);
    let keys = Keys::of(passing);
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

async fn update(connection: &mut Connection, changes: &[&Change<'_>]) -> Result<(), Error> {
    if changes.is_empty() {
        return Ok(());
    }
    let keys = Keys::of(changes.iter().copied());
    let after = States::of(changes.iter().map(|change| Some(change.after)));
    let since: Vec<_> = changes.iter().map(|change| change.after.linked_since).collect();
    let versions: Vec<i64> = changes.iter().map(|change| change.after.version).collect();
    let written = sqlx::query!(
        "update enrolment e
         set linked = new.linked, membership_id = new.membership_id,
             tier_number = new.tier_number, tier_expires_at = new.tier_expires_at,
             linked_since = new.linked_since, version = new.version
         from unnest($1::int[], $2::bigint[], $3::int[], $4::bigint[], $5::bool[],
             $6::text[], $7::smallint[], $8::timestamptz[], $9::timestamptz[], $10::bigint[])
             as new (org_id, customer_id, program_id, loaded_version, linked, membership_id,
                 tier_number, tier_expires_at, linked_since, version)
         where e.org_id = new.org_id and e.customer_id = new.customer_id
             and e.program_id = new.program_id and e.version = new.loaded_version",
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

async fn insert(connection: &mut Connection, changes: &[&Change<'_>]) -> Result<(), Error> {
    if changes.is_empty() {
        return Ok(());
    }
    let keys = Keys::of(changes.iter().copied());
    let after = States::of(changes.iter().map(|change| Some(change.after)));
    let since: Vec<_> = changes.iter().map(|change| change.after.linked_since).collect();
    let versions: Vec<i64> = changes.iter().map(|change| change.after.version).collect();
    // A row that another transaction inserted meanwhile is a unique violation, and so a conflict.
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
pub(super) struct States {
    pub(super) linked: Vec<Option<bool>>,
    pub(super) membership_ids: Vec<Option<String>>,
    pub(super) tier_numbers: Vec<Option<i16>>,
    pub(super) tiers_expire_at: Vec<Option<DateTime<Utc>>>,
}

impl States {
    pub(super) fn of<'a>(states: impl Iterator<Item = Option<&'a Enrolment>>) -> Self {
        let mut columns = Self::default();
        for state in states {
            columns.linked.push(state.map(|state| state.linked));
            columns.membership_ids.push(state.and_then(|state| state.membership_id.clone()));
            columns.tier_numbers.push(state.and_then(|state| state.tier).map(|tier| tier.0));
            columns.tiers_expire_at.push(state.and_then(|state| state.tier_expires_at));
        }
        columns
    }
}

/// A row that was not written had another version.
fn all_rows(written: impl TryInto<usize>, expected: usize) -> Result<(), Error> {
    failpoint::without!(VersionGuard, return Ok(()));
    if written.try_into().ok() == Some(expected) { Ok(()) } else { Err(Error::version_conflict()) }
}
