//! `partner-program dead-letters`

mod act;
mod bulk_jobs;
mod download;
mod edit;
mod export;
mod filter;
mod interrupt;
mod list;
mod private_file;
mod show;
mod views;

use clap::Subcommand;

use crate::cli::context::{Context, Exit, Refusal};
use crate::store::connection::{self, Connection};
use crate::usecases::dead_letters::error::Error;

/// Find out what failed and why, and put it right
#[derive(Subcommand)]
#[command(after_help = "\
Workers move the dead letters into the database; these commands work there. Letters that failed
alike are a group. A replay keeps the command's id, so it can't take effect twice; what came of it
is followed: applied, or failed again as a new letter. Everything that is done is noted, with who,
why and from where.

Examples:
  partner-program dead-letters groups
  partner-program dead-letters list --group 3f1c9a0b7d2e4455 --since 2h
  partner-program dead-letters show 0e5ad0a4-5a54-8d7b-9c62-6f0d7d7c3b0a
  partner-program dead-letters replay --group 3f1c9a0b7d2e4455 --dry-run
  partner-program dead-letters replay --group 3f1c9a0b7d2e4455 --reason 'OPS-12: no tier' --wait 60")]
pub(super) enum Action {
    List(list::ListArgs),
    Groups(list::GroupsArgs),
    Show(show::Args),
    Replay(act::ReplayArgs),
    Download(download::Args),
    Edit(edit::Args),
    Discard(act::DiscardArgs),
    Restore(act::RestoreArgs),
    Export(export::Args),
    #[command(subcommand)]
    BulkJobs(bulk_jobs::Action),
}

pub(super) async fn run(action: Action, context: &mut Context) -> anyhow::Result<Exit> {
    let url = context.config.database_url()?;
    let name = format!("partner-program {}", context.config.worker_id);
    let mut connection = connection::connect_to_search(url, &name).await?;
    let done = dispatch(action, &mut connection, context).await;
    done.map_err(refusal)
}

async fn dispatch(
    action: Action,
    connection: &mut Connection,
    context: &mut Context,
) -> anyhow::Result<Exit> {
    match action {
        Action::List(args) => list::list(&args, connection, context).await,
        Action::Groups(args) => list::groups(&args, connection, context).await,
        Action::Show(args) => show::run(&args, connection, context).await,
        Action::Replay(args) => act::replay(&args, connection, context).await,
        Action::Download(args) => download::run(&args, connection, context).await,
        Action::Edit(args) => edit::run(&args, connection, context).await,
        Action::Discard(args) => act::discard(&args, connection, context).await,
        Action::Restore(args) => act::restore(&args, connection, context).await,
        Action::Export(args) => export::run(&args, connection, context).await,
        Action::BulkJobs(action) => bulk_jobs::run(&action, connection, context).await,
    }
}

/// Gives the use-cases' errors their exit codes.
fn refusal(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref() {
        Some(Error::NotFound(_)) => Refusal::NotFound(error.to_string()).into(),
        Some(Error::Meaningless(text)) => Refusal::Usage(text.clone()).into(),
        Some(Error::Unknown(text)) => Refusal::NotFound(text.clone()).into(),
        Some(Error::Conflict(_) | Error::StillBroken(_) | Error::TakenOver(_)) => {
            Refusal::Conflict(error.to_string()).into()
        }
        _ => error,
    }
}
