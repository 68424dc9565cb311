//! All of a command's work, within a transaction that the caller commits.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Map, json};
use sqlx::FromRow;
use sqlx::postgres::{PgConnection, PgRow};
use tokio::sync::Mutex;

use crate::command::{Command, Identifiers, Item, Operation, text};
use crate::rules::{
    Customer, Enrolment, Program, customer_view, delink, link, membership_id, normalised, status,
    update,
};

const CATALOGUE_AGE_MAX: Duration = Duration::from_secs(10);
const UNIQUE_VIOLATION: &str = "23505";
const DEADLOCK: &str = "40P01";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Can never be processed: a dead letter.
    #[error("{0}")]
    Refused(String),
    /// A parallel handler was faster: the message comes again.
    #[error("conflict")]
    Conflict,
    #[error("the broker did not take the result")]
    Unconfirmed,
    #[error(transparent)]
    Broker(#[from] lapin::Error),
    #[error(transparent)]
    Database(sqlx::Error),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match error.as_database_error().and_then(|error| error.code()).as_deref() {
            Some(UNIQUE_VIOLATION | DEADLOCK) => Self::Conflict,
            _ => Self::Database(error),
        }
    }
}

/// What the inbox keeps of an answer.
#[derive(FromRow)]
pub struct Stored {
    body_hash: Vec<u8>,
    pub operation: String,
    pub verdict: String,
    pub items_total: i32,
    pub items_succeeded: i32,
    pub items_failed: i32,
    pub result: Vec<u8>,
}

/// Orgs by code, at most ten seconds old.
#[derive(Default)]
pub struct Catalogue(Mutex<Option<(Instant, Orgs)>>);

type Orgs = Arc<HashMap<String, Org>>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Org {
    id: i32,
    country_code: String,
    programs: HashMap<String, Program>,
}

pub async fn apply(
    connection: &mut PgConnection,
    catalogue: &Catalogue,
    command: &Command,
) -> Result<Stored, Error> {
    let orgs = catalogue.orgs(connection).await?;
    let org = orgs
        .get(&command.org)
        .ok_or_else(|| Error::Refused(format!("unknown org {}", command.org)))?;
    let known: Option<Stored> = sqlx::query_as(include_str!("../../sql/inbox.sql"))
        .bind(org.id)
        .bind(&command.id)
        .fetch_optional(&mut *connection)
        .await?;
    if let Some(known) = known {
        if known.body_hash == command.body_hash {
            return Ok(known);
        }
        return Err(Error::Refused(format!("{} was used for another body", command.id)));
    }
    let now = Utc::now();
    let stored = work(connection, org, command, now).await?;
    sqlx::query(include_str!("../../sql/log.sql"))
        .bind(org.id)
        .bind(&command.id)
        .bind(&stored.body_hash)
        .bind(&stored.operation)
        .bind(&stored.verdict)
        .bind(stored.items_total)
        .bind(stored.items_succeeded)
        .bind(stored.items_failed)
        .bind(&stored.result)
        .bind(&command.correlation_id)
        .bind(now)
        .execute(connection)
        .await?;
    Ok(stored)
}

async fn work(
    connection: &mut PgConnection,
    org: &Org,
    command: &Command,
    now: DateTime<Utc>,
) -> Result<Stored, Error> {
    let (root_key, list_key, status_key) = command.operation.keys();
    let (mut total, mut succeeded, mut customers_failed) = (0, 0, 0);
    let mut answers = Vec::new();
    for entry in &command.entries {
        let customer = find_customer(connection, org, &entry.customer).await?;
        customers_failed += i32::from(customer.is_none());
        let mut items = Vec::new();
        for item in &entry.items {
            let code = match &customer {
                None => 2001,
                Some(customer) => {
                    let at = Place { org, customer_id: customer.id, position: succeeded, now };
                    apply_item(connection, command, item, &at).await?
                }
            };
            total += 1;
            succeeded += i32::from(code == 200);
            let mut answer = Map::new();
            answer.insert("partnerProgramName".into(), json!(item.partner_program_name));
            if command.operation == Operation::Update {
                answer.insert("updateType".into(), json!(item.update_type));
            }
            answer.insert(status_key.into(), status(code));
            items.push(answer);
        }
        let customer = customer_view(&entry.customer, customer);
        answers.push(json!({ "customer": customer, list_key: items }));
    }
    let verdict = match succeeded {
        _ if succeeded == total && customers_failed == 0 => "succeeded",
        0 => "failed",
        _ => "partial",
    };
    Ok(Stored {
        body_hash: command.body_hash.clone(),
        operation: command.operation.word().to_owned(),
        verdict: verdict.to_owned(),
        items_total: total,
        items_succeeded: succeeded,
        items_failed: total - succeeded,
        result: json!({ root_key: answers, "warnings": [] }).to_string().into_bytes(),
    })
}

/// The highest identifier given decides.
async fn find_customer(
    connection: &mut PgConnection,
    org: &Org,
    given: &Identifiers,
) -> Result<Option<Customer>, Error> {
    let present = |text: &String| !text.is_empty();
    let query = if let Some(id) = given.id {
        sqlx::query_as(include_str!("../../sql/customer_by_id.sql")).bind(org.id).bind(id)
    } else if let Some(mobile) = text(&given.mobile).filter(present) {
        let digits: String = mobile.chars().filter(char::is_ascii_digit).collect();
        let national = format!("{}{digits}", org.country_code);
        sqlx::query_as(include_str!("../../sql/customer_by_mobile.sql"))
            .bind(org.id)
            .bind(vec![digits, national])
    } else if let Some(email) = given.email.clone().filter(present) {
        sqlx::query_as(include_str!("../../sql/customer_by_email.sql")).bind(org.id).bind(email)
    } else if let Some(external_id) = text(&given.external_id).filter(present) {
        sqlx::query_as(include_str!("../../sql/customer_by_external_id.sql"))
            .bind(org.id)
            .bind(external_id)
    } else {
        return Ok(None);
    };
    Ok(query.fetch_optional(connection).await?)
}

/// Where and when an item takes effect.
struct Place<'a> {
    org: &'a Org,
    customer_id: i64,
    position: i32,
    now: DateTime<Utc>,
}

/// Applies an item under the lock of its enrolment; returns its status.
async fn apply_item(
    connection: &mut PgConnection,
    command: &Command,
    item: &Item,
    at: &Place<'_>,
) -> Result<u16, Error> {
    let Some(program) = at.org.programs.get(&normalised(&item.partner_program_name)) else {
        return Ok(2006);
    };
    let before: Option<Enrolment> = sqlx::query_as(include_str!("../../sql/enrolment.sql"))
        .bind(at.org.id)
        .bind(at.customer_id)
        .bind(program.id)
        .fetch_optional(&mut *connection)
        .await?;
    let membership_id = membership_id(item);
    let taken = if command.operation == Operation::Link && membership_id.is_some() {
        sqlx::query_scalar(include_str!("../../sql/holder.sql"))
            .bind(at.org.id)
            .bind(program.id)
            .bind(membership_id)
            .fetch_one(&mut *connection)
            .await?
    } else {
        false
    };
    let decided = match command.operation {
        Operation::Link => link(program, item, before.as_ref(), taken, at.now),
        Operation::Update => update(program, item, before.as_ref()),
        Operation::Delink => delink(before.as_ref()),
    };
    let (kind, after) = match decided {
        Err(code) => return Ok(code),
        Ok(decided) => decided,
    };
    let saved: Option<PgRow> = sqlx::query(include_str!("../../sql/save.sql"))
        .bind(at.org.id)
        .bind(at.customer_id)
        .bind(program.id)
        .bind(after.linked)
        .bind(&after.membership_id)
        .bind(after.tier_number)
        .bind(after.tier_expires_at)
        .bind(after.linked_since)
        .bind(after.version)
        .fetch_optional(&mut *connection)
        .await?;
    saved.ok_or(Error::Conflict)?;
    sqlx::query(include_str!("../../sql/history.sql"))
        .bind(at.org.id)
        .bind(at.customer_id)
        .bind(program.id)
        .bind(&command.id)
        .bind(at.position)
        .bind(kind)
        .bind(before.as_ref().map(|before| before.linked))
        .bind(before.as_ref().and_then(|before| before.membership_id.clone()))
        .bind(before.as_ref().and_then(|before| before.tier_number))
        .bind(before.as_ref().and_then(|before| before.tier_expires_at))
        .bind(after.linked)
        .bind(&after.membership_id)
        .bind(after.tier_number)
        .bind(after.tier_expires_at)
        .bind(item.reason.as_ref().filter(|_| command.operation == Operation::Delink))
        .bind(at.now)
        .bind(after.version)
        .execute(connection)
        .await?;
    Ok(200)
}

impl Catalogue {
    async fn orgs(&self, connection: &mut PgConnection) -> Result<Orgs, Error> {
        let mut cached = self.0.lock().await;
        if let Some((read_at, orgs)) = &*cached
            && read_at.elapsed() < CATALOGUE_AGE_MAX
        {
            return Ok(Arc::clone(orgs));
        }
        let document: String = sqlx::query_scalar(include_str!("../../sql/catalogue.sql"))
            .fetch_one(connection)
            .await?;
        let orgs =
            serde_json::from_str(&document).map_err(|error| Error::Refused(error.to_string()))?;
        let orgs = Arc::new(orgs);
        *cached = Some((Instant::now(), Arc::clone(&orgs)));
        Ok(orgs)
    }
}
