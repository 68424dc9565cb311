//! `partner-program show`

mod views;

use anyhow::Context as _;
use clap::Subcommand;

use crate::cli::context::{Context, Exit, Refusal};
use crate::cli::output::{moment, note};
use crate::domain::identity::{CustomerId, Email, ExternalId, Lookup, Mobile};
use crate::store::command_log::CommandKey;
use crate::store::connection::{self, Connection};
use crate::store::lookup::{self, Customer, Org};
use crate::store::parked;
use views::{CommandView, CustomerView, Effect, Enrolment};

/// Show a command, a customer or what happened to them
#[derive(Subcommand)]
#[command(after_help = "\
These views show personal data on standard output: that is what they are asked for. Exits with 3
if there is no such org, customer or command.

Examples:
  partner-program show command --org acme 0c8e3a3e-6f0e-4f3c-9d35-5a6d9d0c1b2a
  partner-program show customer --org acme --mobile +919876543210
  partner-program show history --org acme --id 4711 -o ndjson | jq .kind")]
pub(super) enum Action {
    Command(CommandArgs),
    Customer(CustomerArgs),
    History(HistoryArgs),
}

/// A command: who sent it, how it went, and its result
#[derive(clap::Args)]
#[command(after_help = "\
Commands are kept for the configured retention.

Examples:
  partner-program show command --org acme 42
  partner-program show command --org acme 42 -o json | jq .result")]
pub(super) struct CommandArgs {
    /// The org's code
    #[arg(long, value_name = "CODE")]
    org: String,
    /// The command's id: the publisher's message id
    #[arg(value_name = "ID")]
    command_id: String,
}

/// A customer and all their enrolments
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  partner-program show customer --org acme --id 4711
  partner-program show customer --org acme --email jane@example.com -o json")]
pub(super) struct CustomerArgs {
    #[command(flatten)]
    who: Who,
}

/// What happened to a customer's enrolments, newest first
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  partner-program show history --org acme --external-id CRM-7 --limit 10
  partner-program show history --org acme --id 4711 -o ndjson")]
pub(super) struct HistoryArgs {
    #[command(flatten)]
    who: Who,
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

/// Whom to look up.
#[derive(clap::Args)]
struct Who {
    /// The org's code
    #[arg(long, value_name = "CODE")]
    org: String,
    #[command(flatten)]
    identifier: Identifier,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Identifier {
    /// The customer's id
    #[arg(long, value_name = "NUMBER")]
    id: Option<i64>,
    /// With or without the country's code
    #[arg(long, value_name = "NUMBER")]
    mobile: Option<String>,
    /// In whatever case
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// As registered
    #[arg(long, value_name = "TEXT")]
    external_id: Option<String>,
}

pub(super) async fn run(action: Action, context: &mut Context) -> anyhow::Result<Exit> {
    let url = context.config.database_url()?;
    let mut connection = connection::connect(url, &context.config.worker_id).await?;
    match action {
        Action::Command(args) => command(&args, &mut connection, context).await?,
        Action::Customer(args) => customer(&args, &mut connection, context).await?,
        Action::History(args) => history(&args, &mut connection, context).await?,
    }
    Ok(Exit::Success)
}

async fn command(
    args: &CommandArgs,
    connection: &mut Connection,
    context: &mut Context,
) -> anyhow::Result<()> {
    let org = org(connection, &args.org).await?;
    let Some(found) = lookup::command(connection, org.id, &args.command_id).await? else {
        let key = CommandKey { org_id: org.id, command_id: args.command_id.clone() };
        if let Some(since) = parked::parked_since(connection, &key).await? {
            let id = &args.command_id;
            return Err(Refusal::NotFound(format!(
                "command `{id}` is not applied yet: it is parked since {} behind a dead letter of \
                 its customer, until that one is replayed or discarded",
                moment(since)
            ))
            .into());
        }
        let (id, code, days) = (&args.command_id, &args.org, context.config.retention_days);
        return Err(Refusal::NotFound(format!(
            "no command `{id}` of org `{code}`: it was not applied yet, was refused (see the dead \
             letters), or is older than {days} days"
        ))
        .into());
    };
    let view = CommandView::of(args.command_id.clone(), found).context("the stored result")?;
    context.output.record(&view, &view.cells())?;
    if context.output.is_for_people() {
        context.output.document(&view.result)?;
    }
    Ok(())
}

async fn customer(
    args: &CustomerArgs,
    connection: &mut Connection,
    context: &mut Context,
) -> anyhow::Result<()> {
    let (org, customer) = find(connection, &args.who).await?;
    let enrolments = lookup::enrolments(connection, org.id, customer.id).await?;
    let held = parked::of_customer(connection, org.id, customer.id).await?;
    let view = CustomerView::of(args.who.org.clone(), customer, enrolments, &held);
    context.output.record(&view, &view.cells())?;
    if context.output.is_for_people() {
        if view.enrolments.is_empty() {
            note("never enrolled in any program");
        }
        context.output.rows::<Enrolment>(&view.enrolments)?;
    }
    Ok(())
}

async fn history(
    args: &HistoryArgs,
    connection: &mut Connection,
    context: &mut Context,
) -> anyhow::Result<()> {
    let (org, customer) = find(connection, &args.who).await?;
    let effects = lookup::history(connection, org.id, customer.id, args.limit.into()).await?;
    let rows: Vec<Effect> = effects.into_iter().map(Effect::of).collect();
    context.output.rows(&rows)?;
    if rows.is_empty() {
        note("nothing happened to this customer's enrolments");
    }
    Ok(())
}

/// The org, or a refusal that says how orgs come about.
pub(super) async fn org(connection: &mut Connection, code: &str) -> anyhow::Result<Org> {
    let found = lookup::org(connection, code).await?;
    Ok(found.ok_or_else(|| {
        Refusal::NotFound(format!("no org `{code}`: partner-program import catalogue makes orgs"))
    })?)
}

/// The texts name the identifier and not its value: standard error is often kept.
async fn find(connection: &mut Connection, who: &Who) -> anyhow::Result<(Org, Customer)> {
    let (name, lookup) = who.identifier.parse()?;
    let org = org(connection, &who.org).await?;
    let found = lookup::customer(connection, &org, &lookup).await?;
    let customer = found.ok_or_else(|| {
        Refusal::NotFound(format!(
            "no customer of org `{}` has this {name}: try another of --id, --mobile, --email, \
             --external-id",
            who.org
        ))
    })?;
    Ok((org, customer))
}

impl Identifier {
    fn parse(&self) -> Result<(&'static str, Lookup), Refusal> {
        let invalid = |option: &str| {
            Refusal::Usage(format!("{option}: the value could never be that of a customer"))
        };
        let mut lookup = Lookup { id: self.id.map(CustomerId), ..Lookup::default() };
        let mut name = "id";
        if let Some(text) = &self.mobile {
            name = "mobile";
            lookup.mobile = Some(Mobile::parse(text).map_err(|_| invalid("--mobile"))?);
        }
        if let Some(text) = &self.email {
            name = "email";
            lookup.email = Some(Email::parse(text).map_err(|_| invalid("--email"))?);
        }
        if let Some(text) = &self.external_id {
            name = "external id";
            let parsed = ExternalId::parse(text).map_err(|_| invalid("--external-id"))?;
            lookup.external_id = Some(parsed);
        }
        Ok((name, lookup))
    }
}
