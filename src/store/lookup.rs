//! What operators look up: one command or one customer, with state and history.
//!
//! Reads only, and by key. Deliberately absent from the way of a message: that one loads whole
//! batches, see `load`.

use chrono::{DateTime, Utc};

use crate::domain::identity::{Email, ExternalId, Lookup};
use crate::domain::program::OrgId;
use crate::store::command_log::{self, CommandKey, Stored};
use crate::store::connection::Connection;
use crate::store::error::Error;

/// A tenant, as far as look-ups need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Org {
    /// The key.
    pub id: OrgId,
    /// Put before mobiles without an international prefix.
    pub country_code: String,
}

/// A command in the inbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// The answer and what is passed on with it.
    pub stored: Stored,
    /// The lane that applied it.
    pub lane: String,
    /// The fence it was applied under.
    pub lane_epoch: i64,
    /// Its place among all commands.
    pub sequence: i64,
    /// When it took effect, by the worker's clock.
    pub occurred_at: DateTime<Utc>,
    /// When it was stored, by the database's clock.
    pub recorded_at: DateTime<Utc>,
}

/// A registered customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Customer {
    /// The key within the org.
    pub id: i64,
    /// Digits only.
    pub mobile: Option<String>,
    /// As registered.
    pub email: Option<String>,
    /// As registered.
    pub external_id: Option<String>,
    /// `active`, `not_enrolled`, `merged` or `fraud`.
    pub state: String,
}

/// The state of a customer in a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolment {
    /// The program's name.
    pub program: String,
    /// Whether the link is in force.
    pub linked: bool,
    /// The customer's id at the partner.
    pub membership_id: Option<String>,
    /// The tier's name.
    pub tier: Option<String>,
    /// When the tier ends.
    pub tier_expires_at: Option<DateTime<Utc>>,
    /// When the present link, or the last one, began.
    pub linked_since: DateTime<Utc>,
    /// Grows by one with each effect.
    pub version: i64,
}

/// One effect of a command on an enrolment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// The kind, in capitals.
    pub kind: String,
    /// The program's name.
    pub program: String,
    /// `None` where the enrolment is new.
    pub old: Option<Standing>,
    /// After the effect.
    pub new: Standing,
    /// The command that had it.
    pub command_id: String,
    /// The place within that command.
    pub position: i32,
    /// When it took effect.
    pub occurred_at: DateTime<Utc>,
    /// Why, as the command had it.
    pub reason: Option<String>,
    /// The enrolment's version after it.
    pub version: i64,
}

/// What an effect changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether the link is in force.
    pub linked: bool,
    /// The customer's id at the partner.
    pub membership_id: Option<String>,
    /// The tier's name.
    pub tier: Option<String>,
    /// When the tier ends.
    pub tier_expires_at: Option<DateTime<Utc>>,
}

/// The org with this code.
pub async fn org(connection: &mut Connection, code: &str) -> Result<Option<Org>, Error> {
    let row = sqlx::query!("select id, country_code from org where code = $1", code)
        .fetch_optional(connection)
        .await?;
    Ok(row.map(|row| Org { id: OrgId(row.id), country_code: row.country_code }))
}

/// The codes of all orgs.
pub async fn org_codes(connection: &mut Connection) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar!("select code from org where id > 0").fetch_all(connection).await?)
}

/// The country codes of all orgs.
pub async fn country_codes(connection: &mut Connection) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar!("select distinct country_code from org where id > 0")
        .fetch_all(connection)
        .await?)
}

/// The command with this id, as long as the inbox keeps it.
pub async fn command(
    connection: &mut Connection,
    org_id: OrgId,
    command_id: &str,
) -> Result<Option<Command>, Error> {
    let key = CommandKey { org_id, command_id: command_id.to_owned() };
    let found = command_log::find(&mut *connection, std::slice::from_ref(&key)).await?;
    let Some(stored) = found.into_values().next() else {
        return Ok(None);
    };
    let row = sqlx::query!(
        "select lane, lane_epoch, sequence, occurred_at, recorded_at
         from command_log where org_id = $1 and command_id = $2
         order by sequence desc limit 1",
        org_id.0,
        command_id,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| Command {
        stored,
        lane: row.lane,
        lane_epoch: row.lane_epoch,
        sequence: row.sequence,
        occurred_at: row.occurred_at,
        recorded_at: row.recorded_at,
    }))
}

/// The customer that any of the identifiers names; of several mobiles the first in order wins.
pub async fn customer(
    connection: &mut Connection,
    org: &Org,
    lookup: &Lookup,
) -> Result<Option<Customer>, Error> {
    let mobiles: Vec<String> =
        lookup.mobile.iter().flat_map(|mobile| mobile.candidates(&org.country_code)).collect();
    let customer = sqlx::query_as!(
        Customer,
        "select id, mobile, email, external_id, state from customer
         where org_id = $1
             and (id = $2 or mobile = any($3) or lower(email) = $4 or external_id = $5)
         order by array_position($3, mobile)
         limit 1",
        org.id.0,
        lookup.id.map(|id| id.0),
        &mobiles,
        lookup.email.as_ref().map(Email::as_str),
        lookup.external_id.as_ref().map(ExternalId::as_str),
    )
    .fetch_optional(connection)
    .await?;
    Ok(customer)
}

/// All enrolments of the customer, linked or not, by program.
pub async fn enrolments(
    connection: &mut Connection,
    org_id: OrgId,
    customer_id: i64,
) -> Result<Vec<Enrolment>, Error> {
    let enrolments = sqlx::query_as!(
        Enrolment,
        r#"select p.name as program, e.linked, e.membership_id, t.name as "tier?",
                e.tier_expires_at, e.linked_since, e.version
         from enrolment e
         join program p on p.org_id = e.org_id and p.id = e.program_id
         left join tier t on t.org_id = e.org_id and t.program_id = e.program_id
             and t.number = e.tier_number
         where e.org_id = $1 and e.customer_id = $2
         order by p.normalised_name"#,
        org_id.0,
        customer_id,
    )
    .fetch_all(connection)
    .await?;
    Ok(enrolments)
}

/// The last `limit` effects on the customer's enrolments, newest first.
pub async fn history(
    connection: &mut Connection,
    org_id: OrgId,
    customer_id: i64,
    limit: i64,
) -> Result<Vec<Effect>, Error> {
    let rows = sqlx::query!(
        r#"select h.kind, p.name as program, h.command_id, h.position, h.occurred_at, h.reason,
                h.version, h.old_linked, h.new_linked, h.old_membership_id, h.new_membership_id,
                old_tier.name as "old_tier?", new_tier.name as "new_tier?",
                h.old_tier_expires_at, h.new_tier_expires_at
         from enrolment_history h
         join program p on p.org_id = h.org_id and p.id = h.program_id
         left join tier old_tier on old_tier.org_id = h.org_id
             and old_tier.program_id = h.program_id and old_tier.number = h.old_tier_number
         left join tier new_tier on new_tier.org_id = h.org_id
             and new_tier.program_id = h.program_id and new_tier.number = h.new_tier_number
         where h.org_id = $1 and h.customer_id = $2
         order by h.id desc
         limit $3"#,
        org_id.0,
        customer_id,
        limit,
    )
    .fetch_all(connection)
    .await?;
    let effects = rows.into_iter().map(|row| Effect {
        kind: row.kind,
        program: row.program,
        old: row.old_linked.map(|linked| Standing {
            linked,
            membership_id: row.old_membership_id,
            tier: row.old_tier,
            tier_expires_at: row.old_tier_expires_at,
        }),
        new: Standing {
            linked: row.new_linked,
            membership_id: row.new_membership_id,
            tier: row.new_tier,
            tier_expires_at: row.new_tier_expires_at,
        },
        command_id: row.command_id,
        position: row.position,
        occurred_at: row.occurred_at,
        reason: row.reason,
        version: row.version,
    });
    Ok(effects.collect())
}
