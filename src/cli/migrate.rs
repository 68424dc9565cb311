//! `partner-program migrate`

use serde::Serialize;

use crate::cli::context::{Context, Exit, Refusal};
use crate::cli::output::{Row, note};
use crate::store::connection;
use crate::store::migrate;

/// Bring the database up to this version's schema
#[derive(clap::Args)]
#[command(after_help = "\
Safe to repeat, and safe to run from several places at once. Needs a user that may create tables
and functions, best not the one that the worker runs as.

Examples:
  partner-program migrate
  partner-program migrate --check || echo 'migrate first'")]
pub(super) struct Args {
    /// Say what is pending, apply nothing; exits with 5 if anything is
    #[arg(long)]
    check: bool,
}

pub(super) async fn run(args: &Args, context: &mut Context) -> anyhow::Result<Exit> {
    let url = context.config.database_url()?;
    let mut connection = connection::connect(url, &context.config.worker_id).await?;
    let migrations = if args.check {
        migrate::pending(&mut connection).await?
    } else {
        migrate::run(&mut connection).await?
    };
    let rows: Vec<Migration> = migrations
        .into_iter()
        .map(|migration| Migration {
            version: migration.version,
            description: migration.description,
        })
        .collect();
    context.output.rows(&rows)?;
    let count = rows.len();
    match (count, args.check) {
        (0, _) => note("the schema is up to date"),
        (_, false) => note(&format!("applied {count} migration(s)")),
        (_, true) => {
            let text = format!("{count} migration(s) pending: partner-program migrate");
            return Err(Refusal::Conflict(text).into());
        }
    }
    Ok(Exit::Success)
}

#[derive(Serialize)]
struct Migration {
    version: i64,
    description: String,
}

impl Row for Migration {
    const HEADERS: &'static [&'static str] = &["VERSION", "DESCRIPTION"];

    fn cells(&self) -> Vec<String> {
        vec![self.version.to_string(), self.description.clone()]
    }
}
