//! Loads the facts that a batch needs, in three statements whatever its size.
//!
//! It runs outside the transaction: what changes between load and commit is caught by the
//! versions and by the uniqueness of membership ids, and the batch is done again.

use crate::domain::enrolment::{Enrolment, EnrolmentKey, Membership};
use crate::domain::identity::{Customer, CustomerId, CustomerState};
use crate::domain::needs::Needs;
use crate::domain::program::{OrgId, ProgramId, TierId};
use crate::domain::snapshot::Snapshot;
use crate::store::connection::Connection;
use crate::store::error::{Error, unknown_word};

/// A snapshot with an answer to every question in `needs`.
pub async fn load(connection: &mut Connection, needs: &Needs) -> Result<Snapshot, Error> {
    let mut snapshot = Snapshot::default();
    if needs.is_empty() {
        return Ok(snapshot);
    }
    let found = customers(connection, needs, &mut snapshot).await?;
    load_for(connection, needs, &found, &mut snapshot).await?;
    Ok(snapshot)
}

/// Adds to a snapshot that has the customers what else is needed of them.
pub async fn load_for(
    connection: &mut Connection,
    needs: &Needs,
    customers: &[(OrgId, CustomerId)],
    snapshot: &mut Snapshot,
) -> Result<(), Error> {
    if !customers.is_empty() {
        enrolments(connection, customers, snapshot).await?;
    }
    for ((org_id, program_id, membership_id), holder) in members(connection, needs).await? {
        snapshot.add_holder(org_id, program_id, membership_id, holder);
    }
    Ok(())
}

/// Adds the customers that are looked for, and returns their keys.
pub async fn customers(
    connection: &mut Connection,
    needs: &Needs,
    snapshot: &mut Snapshot,
) -> Result<Vec<(OrgId, CustomerId)>, Error> {
    let (id_orgs, ids): (Vec<i32>, Vec<i64>) =
        needs.customers().map(|(org_id, id)| (org_id.0, id.0)).unzip();
    let (mobile_orgs, mobiles) = texts(needs.mobiles());
    let (email_orgs, emails) = texts(needs.emails());
    let (external_orgs, external_ids) = texts(needs.external_ids());
    // One arm for each identifier, so that each uses its own index; an `or` would use none.
    // There are no statistics on `lower(email)`, so a plain join would read all customers;
    // `limit 1`, which the unique index makes true, leads the planner to the index.
    let rows = sqlx::query!(
        r#"select org_id as "org_id!", id as "id!", mobile, email, external_id, state as "state!"
        from (
            select c.* from unnest($1::int[], $2::bigint[]) w (org_id, id)
                join customer c on c.org_id = w.org_id and c.id = w.id
            union
            select c.* from unnest($3::int[], $4::text[]) w (org_id, mobile)
                join customer c on c.org_id = w.org_id and c.mobile = w.mobile
            union
            select c.* from unnest($5::int[], $6::text[]) w (org_id, email)
                cross join lateral (
                    select * from customer c
                    where c.org_id = w.org_id and lower(c.email) = w.email and c.email is not null
                    limit 1
                ) c
            union
            select c.* from unnest($7::int[], $8::text[]) w (org_id, external_id)
                join customer c on c.org_id = w.org_id and c.external_id = w.external_id
        ) found"#,
        &id_orgs,
        &ids,
        &mobile_orgs,
        &mobiles,
        &email_orgs,
        &emails,
        &external_orgs,
        &external_ids,
    )
    .fetch_all(connection)
    .await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let state = CustomerState::parse(&row.state)
            .ok_or_else(|| Error::Statement(unknown_word("customer.state", &row.state)))?;
        found.push((OrgId(row.org_id), CustomerId(row.id)));
        let customer = Customer {
            id: CustomerId(row.id),
            mobile: row.mobile,
            email: row.email,
            external_id: row.external_id,
            state,
        };
        snapshot.add_customer(OrgId(row.org_id), customer);
    }
    Ok(found)
}

async fn enrolments(
    connection: &mut Connection,
    customers: &[(OrgId, CustomerId)],
    snapshot: &mut Snapshot,
) -> Result<(), Error> {
    let (org_ids, customer_ids): (Vec<i32>, Vec<i64>) =
        customers.iter().map(|(org_id, id)| (org_id.0, id.0)).unzip();
    let rows = sqlx::query!(
        "select e.org_id, e.customer_id, e.program_id, e.linked, e.membership_id, e.tier_number,
                e.tier_expires_at, e.linked_since, e.version
         from unnest($1::int[], $2::bigint[]) w (org_id, customer_id)
         join enrolment e using (org_id, customer_id)",
        &org_ids,
        &customer_ids,
    )
    .fetch_all(connection)
    .await?;
    for row in rows {
        let key = EnrolmentKey {
            org_id: OrgId(row.org_id),
            customer_id: CustomerId(row.customer_id),
            program_id: ProgramId(row.program_id),
        };
        let enrolment = Enrolment {
            linked: row.linked,
            membership_id: row.membership_id,
            tier: row.tier_number.map(TierId),
            tier_expires_at: row.tier_expires_at,
            linked_since: row.linked_since,
            version: row.version,
        };
        snapshot.add_enrolment(key, enrolment);
    }
    Ok(())
}

/// Who holds the membership ids that are named.
pub async fn members(
    connection: &mut Connection,
    needs: &Needs,
) -> Result<Vec<(Membership, CustomerId)>, Error> {
    let mut org_ids = Vec::new();
    let mut program_ids = Vec::new();
    let mut membership_ids = Vec::new();
    for (org_id, program_id, membership_id) in needs.membership_ids() {
        org_ids.push(org_id.0);
        program_ids.push(program_id.0);
        membership_ids.push(membership_id.to_owned());
    }
    if org_ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query!(
        r#"select e.org_id, e.program_id, e.membership_id as "membership_id!", e.customer_id
         from unnest($1::int[], $2::int[], $3::text[]) w (org_id, program_id, membership_id)
         join enrolment e on e.org_id = w.org_id and e.program_id = w.program_id
             and e.membership_id = w.membership_id and e.linked"#,
        &org_ids,
        &program_ids,
        &membership_ids,
    )
    .fetch_all(connection)
    .await?;
    let held = rows.into_iter().map(|row| {
        let membership = (OrgId(row.org_id), ProgramId(row.program_id), row.membership_id);
        (membership, CustomerId(row.customer_id))
    });
    Ok(held.collect())
}

fn texts<'a>(pairs: impl Iterator<Item = (OrgId, &'a str)>) -> (Vec<i32>, Vec<String>) {
    pairs.map(|(org_id, text)| (org_id.0, text.to_owned())).unzip()
}
