//! `dead-letters export`

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::Context as _;
use uuid::Uuid;

use super::filter::FilterArgs;
use crate::cli::ask::WhoArgs;
use crate::cli::output::{Progress, note};
use crate::cli::{Context, Exit, Refusal};
use crate::ops::dead_letters::export::{export, line};
use crate::ops::dead_letters::run;
use crate::store::connection::Connection;
use crate::store::dead_letters::operations::{Kind, Plan, Tally};

/// Write letters whole, one JSON document a line, in the order in which they died
#[derive(clap::Args)]
#[command(after_help = "\
Lines hold bodies and headers, and so personal data: each export is noted. A body that is not
text stands in `body_base64`. Letters of every state are exported unless --state says which.

Examples:
  partner-program dead-letters export --state open --file open.ndjson --reason OPS-12
  partner-program dead-letters export --group 3f1c9a0b7d2e4455 --reason OPS-12 | jq -c .body")]
pub(in crate::cli) struct Args {
    /// These letters; without any, those of the filter
    #[arg(value_name = "ID")]
    ids: Vec<Uuid>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Stop after so many
    #[arg(long, value_name = "COUNT")]
    limit: Option<u32>,
    /// Write there, readable for this user only; without it to standard output
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    who: WhoArgs,
}

pub(super) async fn run(
    args: &Args,
    connection: &mut Connection,
    _context: &mut Context,
) -> anyhow::Result<Exit> {
    let actor = args.who.with_reason()?;
    let mut out: Box<dyn Write> = match &args.file {
        Some(path) => {
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            Box::new(file.with_context(|| format!("can't make {}", path.display()))?)
        }
        None => Box::new(io::stdout().lock()),
    };
    let filter = args.filter.filter(&args.ids, connection).await?;
    let letters_max = args.limit.map(i64::from);
    let plan = Plan {
        kind: Kind::Export,
        filter,
        actor,
        letters_max,
        letters_per_second: None,
        overrides_publisher: false,
    };
    let runner = format!("cli {}", Uuid::now_v7());
    let operation = run::begin(connection, plan, Some(&runner)).await?;
    let mut progress = Progress::new("export", u64::try_from(operation.matched).ok());
    let mut told = 0;
    let mut buffered = BufWriter::new(&mut out);
    let write = |letter: &crate::store::dead_letters::show::Letter| {
        serde_json::to_writer(&mut buffered, &line(letter))?;
        buffered.write_all(b"\n")
    };
    let observe = |tally: &Tally| {
        progress.add(u64::try_from(tally.done - told).unwrap_or_default());
        told = tally.done;
    };
    let tally = export(connection, &operation, &runner, write, observe).await?;
    buffered.flush()?;
    progress.finish();
    if tally.done == 0 {
        return Err(Refusal::NotFound("no dead letter matches".to_owned()).into());
    }
    note(&format!("exported {} letter(s)", tally.done));
    Ok(Exit::Success)
}
