//! `dead-letters download`

use std::path::PathBuf;

use tokio::io::AsyncWriteExt as _;
use uuid::Uuid;

use crate::cli::ask::WhoArgs;
use crate::cli::context::{Context, Exit};
use crate::cli::dead_letters::private_file;
use crate::cli::output::note;
use crate::store::connection::Connection;
use crate::store::dead_letters::audit::{self, AuditAction};
use crate::store::dead_letters::show;
use crate::usecases::dead_letters::error::Error;

/// The body of a letter, byte for byte
#[derive(clap::Args)]
#[command(after_help = "\
For bodies that are no text, or to change one with a program of your own. Bodies hold personal data:
each download is noted. Exits with 3 if there is no such letter.

Examples:
  partner-program dead-letters download 0e5ad0a4-5a54-8d7b-9c62-6f0d7d7c3b0a --file body --reason OPS-12
  partner-program dead-letters edit 0e5ad0a4-5a54-8d7b-9c62-6f0d7d7c3b0a --file body --reason OPS-12")]
pub(in crate::cli) struct Args {
    /// The letter
    #[arg(value_name = "ID")]
    id: Uuid,
    /// Write there, readable for this user only; without it to standard output
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    who: WhoArgs,
}

pub(super) async fn run(
    args: &Args,
    connection: &mut Connection,
    context: &mut Context,
) -> anyhow::Result<Exit> {
    let actor = args.who.with_reason()?;
    let letter = show::show(connection, args.id).await?.ok_or(Error::NotFound(args.id))?;
    audit::note(connection, &[args.id], AuditAction::Unmask, &actor, None).await?;
    let Some(path) = &args.file else {
        context.output.raw(&letter.body)?;
        return Ok(Exit::Success);
    };
    let mut file = private_file::create(path).await?;
    file.write_all(&letter.body).await?;
    file.flush().await?;
    note(&format!("{} bytes are in {}", letter.body.len(), path.display()));
    Ok(Exit::Success)
}
