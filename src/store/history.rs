//! The history: append-only, one row for each effect.

use std::collections::HashSet;

use chrono::{DateTime, Utc};

use crate::domain::holds::Customer;
use crate::domain::program::OrgId;
use crate::store::command_log::{CommandKey, Record};
use crate::store::connection::Connection;
use crate::store::enrolments::States;
use crate::store::error::Error;

/// Those of these commands that have had effects on their customers, whatever the inbox has forgotten.
pub async fn commands(
    connection: &mut Connection,
    asked: &[(CommandKey, Vec<Customer>)],
) -> Result<HashSet<CommandKey>, Error> {
    let mut columns: (Vec<i32>, Vec<String>, Vec<i32>, Vec<i64>) = Default::default();
    for (key, customers) in asked {
        for (org_id, customer_id) in customers {
            columns.0.push(key.org_id.0);
            columns.1.push(key.command_id.clone());
            columns.2.push(org_id.0);
            columns.3.push(customer_id.0);
        }
    }
    let (org_ids, command_ids, customer_orgs, customer_ids) = columns;
    if org_ids.is_empty() {
        return Ok(HashSet::new());
    }
    let rows = sqlx::query!(
        r#"select distinct asked.org_id as "org_id!", asked.command_id as "command_id!"
        from unnest($1::int[], $2::text[], $3::int[], $4::bigint[])
            as asked (org_id, command_id, customer_org, customer_id)
        where exists (select from enrolment_history history
            where history.org_id = asked.customer_org and history.customer_id = asked.customer_id
                and history.command_id = asked.command_id)"#,
        &org_ids,
        &command_ids,
        &customer_orgs,
        &customer_ids,
    )
    .fetch_all(connection)
    .await?;
    let keys = rows
        .into_iter()
        .map(|row| CommandKey { org_id: OrgId(row.org_id), command_id: row.command_id });
    Ok(keys.collect())
}

/// Appends a row for each effect, in the order in which they came about.
pub(super) async fn append(connection: &mut Connection, records: &[Record]) -> Result<(), Error> {
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
