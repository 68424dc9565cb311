//! `dead-letters bulk-jobs`

use clap::Subcommand;
use uuid::Uuid;

use crate::cli::context::{Context, Exit, Refusal};
use crate::cli::dead_letters::views::BulkJobRow;
use crate::cli::output::note;
use crate::domain::bulk_job::BulkJobKind;
use crate::store::connection::Connection;
use crate::store::dead_letters::bulk_jobs::{self};
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

/// The latest bulk jobs, newest first
#[derive(clap::Args)]
pub(in crate::cli) struct ListArgs {
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

/// One bulk job, and where its letters stand now
#[derive(clap::Args)]
pub(in crate::cli) struct ShowArgs {
    /// The bulk job
    #[arg(value_name = "ID")]
    id: Uuid,
}

/// Stop a bulk job after the letters that it has in hand; what is done stays done
#[derive(clap::Args)]
pub(in crate::cli) struct CancelArgs {
    /// The bulk job
    #[arg(value_name = "ID")]
    id: Uuid,
}

/// Finish a bulk job that was cut off, should no worker do so
#[derive(clap::Args)]
pub(in crate::cli) struct ResumeArgs {
    /// The bulk job
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
            let jobs = bulk_jobs::list(connection, args.limit.into()).await?;
            let rows: Vec<BulkJobRow> = jobs.into_iter().map(BulkJobRow::of).collect();
            context.output.rows(&rows)?;
            if rows.is_empty() {
                note("no bulk jobs so far");
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
            let taken = bulk_jobs::take_over(connection, &runner, SILENT_S, Some(args.id)).await?;
            let Some(job) = taken else {
                return Err(not_running(connection, args.id).await?.into());
            };
            run::run(connection, &context.config, job, &runner, |_| {}).await?;
            show(args.id, connection, context).await?;
        }
    }
    Ok(Exit::Success)
}

async fn show(id: Uuid, connection: &mut Connection, context: &mut Context) -> anyhow::Result<()> {
    let job = bulk_jobs::find(connection, id).await?;
    let job = job.ok_or_else(|| Refusal::NotFound(format!("no bulk job `{id}`")))?;
    let states = claims::states(connection, id).await?;
    let row = BulkJobRow::of(job);
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
        None => Refusal::NotFound(format!("no bulk job `{id}`")),
        Some(job) if job.kind == BulkJobKind::Export && job.is_running() => {
            let text = format!(
                "bulk job {id} is an export, which its own program alone can go on with: cancel it and begin a new one"
            );
            Refusal::Conflict(text)
        }
        Some(job) if job.is_running() => {
            let runner = job.runner.unwrap_or_default();
            Refusal::Conflict(format!("bulk job {id} is being run by {runner}"))
        }
        Some(job) => Refusal::Conflict(format!("bulk job {id} has ended: {}", job.state.as_str())),
    })
}
