//! Looking up a command by its id, and a customer by any identifier.
//!
//! A customer is asked for by a form that is posted: addresses are kept in histories and logs,
//! and identifiers are personal data.

use askama::Template;
use axum::extract::{Form, Query, State};
use axum::response::Html;
use serde::Deserialize;

use crate::config::console::Role;
use crate::console::app::{App, Shared};
use crate::console::auth::Identity;
use crate::console::database::PooledConnection;
use crate::console::error::{Failure, page};
use crate::console::json::{self, Document, Masking};
use crate::console::layout::{Layout, Section};
use crate::domain::identity::{CustomerId, Email, ExternalId, Lookup, Mobile};
use crate::store::lookup::{self, Command, Customer, Effect, Enrolment, Org};

/// Effects that are shown.
const HISTORY: i64 = 50;

#[derive(Template)]
#[template(path = "lookup.html")]
struct Page {
    layout: Layout,
    org: String,
    id: String,
    command: Option<Found>,
    customer: Option<Standing>,
    problem: Option<String>,
}

struct Found {
    command: Command,
    result: Document,
}

struct Standing {
    customer: Customer,
    enrolments: Vec<Enrolment>,
    history: Vec<Effect>,
}

/// Which command.
#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    org: String,
    #[serde(default)]
    id: String,
}

async fn shown(app: &App, who: Identity, asked: Asked) -> Result<Html<String>, Failure> {
    let mut shown = Page {
        layout: Layout::of(app, who, Section::Lookup),
        org: asked.org.trim().to_owned(),
        // Postgres takes no NUL, and no id has one.
        id: asked.id.trim().replace('\0', ""),
        command: None,
        customer: None,
        problem: None,
    };
    if !shown.org.is_empty() && !shown.id.is_empty() {
        let mut connection = app.database.acquire().await?;
        match org(&mut connection, &shown.org).await? {
            None => shown.problem = Some(format!("There is no org {}.", shown.org)),
            Some(org) => match lookup::command(&mut connection, org.id, &shown.id).await? {
                None => {
                    shown.problem = Some(format!(
                        "No command {} of {}: it was not applied yet, was refused (see the dead \
                         letters), or is older than {} days.",
                        shown.id, shown.org, app.config.retention_days
                    ));
                }
                Some(command) => {
                    let result = json::document(&command.stored.result, None, Masking::OfResult);
                    shown.command = Some(Found { command, result });
                }
            },
        }
        connection.release();
    }
    page(&shown)
}

pub(super) async fn command(
    State(app): State<Shared>,
    who: Identity,
    Query(asked): Query<Asked>,
) -> Result<Html<String>, Failure> {
    shown(&app, who, asked).await
}

/// Which customer.
#[derive(Deserialize)]
pub(super) struct LookupForm {
    org: String,
    kind: String,
    identifier: String,
}

pub(super) async fn customer(
    State(app): State<Shared>,
    who: Identity,
    Form(wanted): Form<LookupForm>,
) -> Result<Html<String>, Failure> {
    // A user who knows an identifier may learn how that customer stands; the other identifiers stay
    // masked for those who may not see them.
    let shows_all = who.may(Role::Admin);
    let mut shown = Page {
        layout: Layout::of(&app, who, Section::Lookup),
        org: wanted.org.trim().to_owned(),
        id: String::new(),
        command: None,
        customer: None,
        problem: None,
    };
    let mut connection = app.database.acquire().await?;
    match (parse(&wanted), org(&mut connection, &shown.org).await?) {
        (None, _) => shown.problem = Some("That can't be such an identifier.".to_owned()),
        (_, None) => shown.problem = Some(format!("There is no org {}.", shown.org)),
        (Some(lookup), Some(org)) => {
            match lookup::customer(&mut connection, &org, &lookup).await? {
                None => shown.problem = Some(format!("No customer of {} has it.", shown.org)),
                Some(customer) => {
                    let standing = standing(&mut connection, &org, customer).await?;
                    let customer =
                        if shows_all { standing.customer } else { masked(standing.customer) };
                    shown.customer = Some(Standing { customer, ..standing });
                }
            }
        }
    }
    connection.release();
    page(&shown)
}

fn parse(wanted: &LookupForm) -> Option<Lookup> {
    let text = wanted.identifier.trim();
    let nobody = Lookup::default();
    match wanted.kind.as_str() {
        "id" => Some(Lookup { id: Some(CustomerId(text.parse().ok()?)), ..nobody }),
        "mobile" => Some(Lookup { mobile: Some(Mobile::parse(text).ok()?), ..nobody }),
        "email" => Some(Lookup { email: Some(Email::parse(text).ok()?), ..nobody }),
        "external_id" => {
            Some(Lookup { external_id: Some(ExternalId::parse(text).ok()?), ..nobody })
        }
        _ => None,
    }
}

async fn org(connection: &mut PooledConnection<'_>, code: &str) -> Result<Option<Org>, Failure> {
    // Postgres takes no NUL, and no org has one.
    if code.contains('\0') {
        return Ok(None);
    }
    Ok(lookup::org(connection, code).await?)
}

async fn standing(
    connection: &mut PooledConnection<'_>,
    org: &Org,
    customer: Customer,
) -> Result<Standing, Failure> {
    let enrolments = lookup::enrolments(connection, org.id, customer.id).await?;
    let history = lookup::history(connection, org.id, customer.id, HISTORY).await?;
    Ok(Standing { customer, enrolments, history })
}

fn masked(customer: Customer) -> Customer {
    let mask = |text: Option<String>| text.map(|_| json::MASK.to_owned());
    Customer {
        mobile: mask(customer.mobile),
        email: mask(customer.email),
        external_id: mask(customer.external_id),
        ..customer
    }
}
