//! Merges customers a batch at a time: copied into a staging table, checked as a set, merged.
//!
//! Each batch is one transaction. A row that breaks a rule is reported and left out; the others
//! are merged. Texts about rows name the column, never the value.

use std::fmt::Write as _;

use sqlx::Connection as _;
use uuid::Uuid;

use crate::domain::identity::CustomerState;
use crate::store::connection::Connection;
use crate::store::error::Error;
use crate::store::import::Counts;

/// A row of the file, valid in itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// In the file, counted from 1.
    pub line: u64,
    /// The org's code.
    pub org: String,
    /// `None`: that of the customer with one of the identifiers, or a new one.
    pub id: Option<i64>,
    /// Digits.
    pub mobile: Option<String>,
    /// As given.
    pub email: Option<String>,
    /// As given.
    pub external_id: Option<String>,
    /// Whether the customer may be acted on.
    pub state: CustomerState,
}

/// Why a row was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// In the file, counted from 1.
    pub line: u64,
    /// Names the column and what is wrong with it.
    pub text: String,
}

/// Merges a batch; with `dry_run` everything is checked and nothing kept.
pub async fn merge(
    connection: &mut Connection,
    rows: &[Row],
    dry_run: bool,
) -> Result<(Counts, Vec<Problem>), Error> {
    let batch = Uuid::now_v7();
    let mut transaction = connection.begin().await?;
    copy(&mut transaction, batch, rows).await?;
    check(&mut transaction, batch).await?;
    let problems = sqlx::query!(
        r#"select line, problem as "problem!" from customer_import
        where batch = $1 and problem is not null order by line"#,
        batch
    )
    .fetch_all(&mut *transaction)
    .await?
    .into_iter()
    .map(|row| Problem { line: row.line.unsigned_abs(), text: row.problem })
    .collect();
    let counts = write(&mut transaction, batch).await?;
    sqlx::query!("delete from customer_import where batch = $1", batch)
        .execute(&mut *transaction)
        .await?;
    if dry_run {
        transaction.rollback().await?;
    } else {
        transaction.commit().await?;
    }
    Ok((counts, problems))
}

async fn copy(connection: &mut Connection, batch: Uuid, rows: &[Row]) -> Result<(), Error> {
    let mut text = String::new();
    for row in rows {
        let id = row.id.map(|id| id.to_string());
        // Writing to a String can't fail.
        let _always = writeln!(
            text,
            "{batch},{},{},{},{},{},{},{}",
            row.line,
            field(Some(&row.org)),
            field(id.as_deref()),
            field(row.mobile.as_deref()),
            field(row.email.as_deref()),
            field(row.external_id.as_deref()),
            row.state.as_str(),
        );
    }
    let mut copying = connection
        .copy_in_raw(
            "copy customer_import (batch, line, org, id, mobile, email, external_id, state)
             from stdin (format csv)",
        )
        .await?;
    copying.send(text.into_bytes()).await?;
    copying.finish().await?;
    Ok(())
}

/// A field of Postgres' CSV: quoted, or nothing for null.
fn field(text: Option<&str>) -> String {
    text.map_or_else(String::new, |text| format!("\"{}\"", text.replace('"', "\"\"")))
}

/// Finds each row's org and customer, and what speaks against it.
async fn check(connection: &mut Connection, batch: Uuid) -> Result<(), Error> {
    sqlx::query!(
        "update customer_import i set org_id = org.id from org where batch = $1 and org.code = i.org",
        batch
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "update customer_import i set customer_id = coalesce(i.id,
            (select c.id from customer c where c.org_id = i.org_id and c.mobile = i.mobile),
            (select c.id from customer c where c.org_id = i.org_id and lower(c.email) = lower(i.email)),
            (select c.id from customer c where c.org_id = i.org_id and c.external_id = i.external_id))
        where batch = $1",
        batch
    )
    .execute(&mut *connection)
    .await?;
    // The staging table has no statistics, and the planner would join the rows of a batch with
    // each other in a nested loop.
    sqlx::query!("set local enable_nestloop = off").execute(&mut *connection).await?;
    sqlx::query!(
        "with row as (
            select line,
                min(line) over (partition by org, customer_id) as same_customer,
                min(line) over (partition by org, mobile) as same_mobile,
                min(line) over (partition by org, lower(email)) as same_email,
                min(line) over (partition by org, external_id) as same_external_id
            from customer_import where batch = $1
        )
        update customer_import i set problem = case
            when i.org_id is null then 'org: unknown; import it into the catalogue first'
            when i.customer_id is not null and same_customer < i.line
                then 'id: the same customer as in line ' || same_customer
            when i.mobile is not null and same_mobile < i.line
                then 'mobile: the same as in line ' || same_mobile
            when i.email is not null and same_email < i.line
                then 'email: the same as in line ' || same_email
            when i.external_id is not null and same_external_id < i.line
                then 'external_id: the same as in line ' || same_external_id
            when exists (select from customer c where c.org_id = i.org_id and c.mobile = i.mobile
                and c.id is distinct from i.customer_id) then 'mobile: belongs to another customer'
            when exists (select from customer c where c.org_id = i.org_id
                and lower(c.email) = lower(i.email) and c.id is distinct from i.customer_id)
                then 'email: belongs to another customer'
            when exists (select from customer c where c.org_id = i.org_id
                and c.external_id = i.external_id and c.id is distinct from i.customer_id)
                then 'external_id: belongs to another customer'
            end
        from row where i.batch = $1 and i.line = row.line",
        batch
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!("set local enable_nestloop = on").execute(connection).await?;
    Ok(())
}

async fn write(connection: &mut Connection, batch: Uuid) -> Result<Counts, Error> {
    let total = sqlx::query_scalar!(
        r#"select count(*) as "count!" from customer_import where batch = $1 and problem is null"#,
        batch
    )
    .fetch_one(&mut *connection)
    .await?;
    let changed = sqlx::query!(
        "update customer c set mobile = i.mobile, email = i.email, external_id = i.external_id,
            state = i.state
        from customer_import i
        where i.batch = $1 and i.problem is null and c.org_id = i.org_id and c.id = i.customer_id
            and (c.mobile, c.email, c.external_id, c.state)
                is distinct from (i.mobile, i.email, i.external_id, i.state)",
        batch
    )
    .execute(&mut *connection)
    .await?
    .rows_affected();
    let given = sqlx::query!(
        "insert into customer (org_id, id, mobile, email, external_id, state)
        select org_id, customer_id, mobile, email, external_id, state from customer_import
        where batch = $1 and problem is null and customer_id is not null
        order by line on conflict (org_id, id) do nothing",
        batch
    )
    .execute(&mut *connection)
    .await?
    .rows_affected();
    if given > 0 {
        // Ids that will be made up must not meet those that were given.
        sqlx::query_scalar!(
            "select setval(pg_get_serial_sequence('customer', 'id'), greatest(
                (select max(id) from customer_import where batch = $1 and problem is null),
                nextval(pg_get_serial_sequence('customer', 'id'))))",
            batch
        )
        .fetch_one(&mut *connection)
        .await?;
    }
    let made_up = sqlx::query!(
        "insert into customer (org_id, mobile, email, external_id, state)
        select org_id, mobile, email, external_id, state from customer_import
        where batch = $1 and problem is null and customer_id is null order by line",
        batch
    )
    .execute(connection)
    .await?
    .rows_affected();
    let [changed, given, made_up] =
        [changed, given, made_up].map(|count| i64::try_from(count).unwrap_or(i64::MAX));
    Ok(Counts { added: given + made_up, changed, unchanged: total - given - made_up - changed })
}
