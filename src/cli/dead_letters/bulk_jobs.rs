//! `dead-letters operations`

use clap::Subcommand;
use uuid::Uuid;

use crate::cli::context::{Context, Exit, Refusal};
use crate::cli::dead_letters::views::OperationRow;
use crate::cli::output::note;
use crate::store::connection::Connection;
use crate::store::dead_letters::bulk_jobs::{self, Kind};
use crate::store::dead_letters::claims;
use crate::store::dead_letters::endings::{self, Cancellation};
use crate::usecases::dead_letters::job_recovery::SILENT_S;
use crate::usecases::dead_letters::run;

/// What was done to many letters at once: how far it is, who wanted it
#[derive(Subcommand)]
pub(in crate::cli) enum Action {
    List(ListArgs),
    Show(ShowArgs),
    Cancel(CancelArgs),
    Resume(ResumeArgs),
}

/// The latest operations, newest first
#[derive(clap::Args)]
pub(in crate::cli) struct ListArgs {
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

/// One operation, and where its letters stand now
#[derive(clap::Args)]
pub(in crate::cli) struct ShowArgs {
    /// The operation
    #[arg(value_name = "ID")]
    id: Uuid,
}

/// Stop an operation after the letters that it has in hand; what is done stays done
#[derive(clap::Args)]
pub(in crate::cli) struct CancelArgs {
    /// The operation
    #[arg(value_name = "ID")]
    id: Uuid,
}

/// Finish an operation that was cut off, should no worker do so
#[derive(clap::Args)]
pub(in crate::cli) struct ResumeArgs {
    /// The operation
    #[arg(value_name = "ID")]
    id: Uuid,
}

pub(super) async fn run(
    action: &Action,
    connection: &mut Connection,
    context: &mut Context,
) -> anyhow::Result<Exit> {
    match action {
        Action::List(args) => {
            let operations = bulk_jobs::list(connection, args.limit.into()).await?;
            let rows: Vec<OperationRow> = operations.into_iter().map(OperationRow::of).collect();
            context.output.rows(&rows)?;
            if rows.is_empty() {
                note("no operations so far");
            }
        }
        Action::Show(args) => show(args.id, connection, context).await?,
        Action::Cancel(args) => match endings::cancel(connection, args.id, SILENT_S).await? {
            Cancellation::Ended => {
                claims::release_of_ended(connection).await?;
                note("it has ended; its runner was not heard of any more");
            }
            Cancellation::Requested => note("it stops after the letters that it has in hand"),
            Cancellation::NotRunning => {
                return Err(not_running(connection, args.id).await?.into());
            }
        },
        Action::Resume(args) => {
            let runner = format!("cli {}", Uuid::now_v7());
            let taken = bulk_jobs::take(connection, &runner, SILENT_S, Some(args.id)).await?;
            let Some(operation) = taken else {
                return Err(not_running(connection, args.id).await?.into());
            };
            run::run(connection, &context.config, operation, &runner, |_| {}).await?;
            show(args.id, connection, context).await?;
        }
    }
    Ok(Exit::Success)
}

async fn show(id: Uuid, connection: &mut Connection, context: &mut Context) -> anyhow::Result<()> {
    let operation = bulk_jobs::find(connection, id).await?;
    let operation = operation.ok_or_else(|| Refusal::NotFound(format!("no operation `{id}`")))?;
    let states = claims::states(connection, id).await?;
    let row = OperationRow::of(operation);
    let mut view = serde_json::to_value(&row)?;
    let counts =
        states.iter().map(|(state, letters)| (state.as_str().to_owned(), (*letters).into()));
    view["letters"] = serde_json::Value::Object(counts.collect());
    let mut fields = row.fields();
    fields.extend(states.iter().map(|(state, letters)| (state.as_str(), letters.to_string())));
    context.output.record(&view, &fields)?;
    Ok(())
}

async fn not_running(connection: &mut Connection, id: Uuid) -> anyhow::Result<Refusal> {
    Ok(match bulk_jobs::find(connection, id).await? {
        None => Refusal::NotFound(format!("no operation `{id}`")),
        Some(operation) if operation.kind() == Some(Kind::Export) && operation.is_running() => {
            let text = format!(
                "operation {id} is an export, which its own program alone can go on with: cancel it and begin a new one"
            );
            Refusal::Conflict(text)
        }
        Some(operation) if operation.is_running() => {
            let runner = operation.runner.unwrap_or_default();
            Refusal::Conflict(format!("operation {id} is being run by {runner}"))
        }
        Some(operation) => {
            Refusal::Conflict(format!("operation {id} has ended: {}", operation.state))
        }
    })
}
