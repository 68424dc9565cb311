//! `partner-program import`

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use serde::Serialize;

use crate::cli::context::{Context, Exit, Refusal};
use crate::cli::output::{Progress, Row, note};
use crate::store::connection::{self, Connection};
use crate::store::error::Error;
use crate::store::import::Counts;
use crate::usecases::{import, import_customers};

/// Import orgs, programs and tiers, or customers
#[derive(Subcommand)]
#[command(after_help = "\
Importing is safe to repeat: what is there already as given is left alone, and the table says what
was added and changed. Workers notice a new catalogue by themselves.

Examples:
  partner-program import catalogue catalogue.toml
  partner-program import customers customers.csv --dry-run
  partner-program import customers customers.csv")]
pub(super) enum Action {
    /// Orgs with their programs and tiers, from TOML; all of the file or nothing
    Catalogue {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Customers, from CSV with the header `org,id,mobile,email,external_id,state`
    ///
    /// Without an id a row is for the customer who has one of its identifiers, else for a new
    /// one. Rows that can't be taken are reported by line, the others are imported; exits with 6
    /// then.
    Customers {
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Judge every row, import none
        #[arg(long)]
        dry_run: bool,
    },
}

pub(super) async fn run(action: Action, context: &mut Context) -> anyhow::Result<Exit> {
    let url = context.config.database_url()?;
    match action {
        Action::Catalogue { file } => {
            let text =
                std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            let catalogue = import::catalogue(&text)
                .map_err(|error| Refusal::Usage(format!("{}: {error}", file.display())))?;
            let mut connection = connect(url).await?;
            let merged = match import::merge(&mut connection, &catalogue).await {
                Err(Error::Conflict(why)) => return Err(Refusal::Conflict(why).into()),
                merged => merged?,
            };
            context.output.rows(&[
                Line::of("orgs", merged.orgs),
                Line::of("programs", merged.programs),
                Line::of("tiers", merged.tiers),
            ])?;
            Ok(Exit::Success)
        }
        Action::Customers { file, dry_run } => {
            let mut connection = connect(url).await?;
            customers(&mut connection, &file, dry_run, context).await
        }
    }
}

async fn customers(
    connection: &mut Connection,
    path: &Path,
    dry_run: bool,
    context: &mut Context,
) -> anyhow::Result<Exit> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let mut bar = Progress::new("customers", None);
    let merged =
        import_customers::merge(connection, BufReader::new(file), dry_run, |rows| bar.add(rows))
            .await;
    bar.finish();
    let report = match merged {
        Err(error @ import_customers::Error::Header(_)) => {
            return Err(Refusal::Usage(format!("{}: {error}", path.display())).into());
        }
        merged => merged.with_context(|| path.display().to_string())?,
    };
    for problem in &report.problems {
        note(&format!("{}:{}: {}", path.display(), problem.line, problem.text));
    }
    context.output.rows(&[Line::of("customers", report.counts)])?;
    if dry_run {
        note("a dry run: nothing was imported");
    }
    if report.problem_count > 0 {
        note(&format!("{} row(s) were not taken", report.problem_count));
        return Ok(Exit::PartlyFailed);
    }
    Ok(Exit::Success)
}

async fn connect(url: &str) -> Result<Connection, Error> {
    connection::connect(url, "partner-program import").await
}

#[derive(Serialize)]
struct Line {
    kind: &'static str,
    added: i64,
    changed: i64,
    unchanged: i64,
}

impl Line {
    fn of(kind: &'static str, counts: Counts) -> Self {
        let Counts { added, changed, unchanged } = counts;
        Self { kind, added, changed, unchanged }
    }
}

impl Row for Line {
    const HEADERS: &'static [&'static str] = &["KIND", "ADDED", "CHANGED", "UNCHANGED"];

    fn cells(&self) -> Vec<String> {
        let Self { kind, added, changed, unchanged } = self;
        vec![(*kind).to_owned(), added.to_string(), changed.to_string(), unchanged.to_string()]
    }
}
