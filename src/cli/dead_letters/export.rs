//! `dead-letters export`

use std::io;
use std::path::PathBuf;

use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use uuid::Uuid;

use crate::cli::ask::WhoArgs;
use crate::cli::context::{Context, Exit, Refusal};
use crate::cli::dead_letters::filter::FilterArgs;
use crate::cli::dead_letters::interrupt::cancel_on_interrupt;
use crate::cli::dead_letters::private_file;
use crate::cli::output::{Progress, note};
use crate::domain::bulk_job::{BulkJobKind, BulkJobState};
use crate::store::connection::Connection;
use crate::store::dead_letters::bulk_jobs::{BulkJobProgress, Plan};
use crate::usecases::dead_letters::export::{Destination, export};
use crate::usecases::dead_letters::run::{self, Outcome};

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
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
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
    context: &mut Context,
) -> anyhow::Result<Exit> {
    let actor = args.who.with_reason()?;
    let filter = args.filter.filter(&args.ids, connection, &context.config).await?;
    let dead_letters_max = args.limit.map(i64::from);
    let plan = Plan {
        kind: BulkJobKind::Export,
        filter,
        actor,
        dead_letters_max,
        dead_letters_per_second: None,
        overrides_publisher: false,
    };
    let mut file = match &args.file {
        Some(path) => File(Box::new(private_file::create(path).await?)),
        None => File(Box::new(tokio::io::stdout())),
    };
    let runner = format!("cli {}", Uuid::now_v7());
    let job = run::begin(connection, plan, Some(&runner)).await?;
    let cancelling = cancel_on_interrupt(&context.config, job.id);
    let mut progress = Progress::new("export", u64::try_from(job.matched).ok());
    let mut told = 0;
    let observe = |so_far: &BulkJobProgress| {
        progress.add(u64::try_from(so_far.done - told).unwrap_or_default());
        told = so_far.done;
    };
    let config = &context.config;
    let exported = export(connection, config, &job, &runner, &mut file, observe).await;
    drop(cancelling);
    progress.finish();
    // Without its cause: a closed pipe is no success here, for the bulk job has failed.
    let Outcome { end, progress, .. } = exported
        .map_err(|error| anyhow::anyhow!("export {} failed: {error}; begin a new one", job.id))?;
    if end == BulkJobState::Cancelled {
        return Err(
            Refusal::Conflict(format!("cancelled after {} letter(s)", progress.done)).into()
        );
    }
    if progress.done == 0 {
        return Err(Refusal::NotFound("no dead letter matches".to_owned()).into());
    }
    note(&format!("exported {} letter(s)", progress.done));
    Ok(Exit::Success)
}

/// A file or standard output.
struct File(Box<dyn AsyncWrite + Send + Unpin>);

impl Destination for File {
    async fn write(&mut self, lines: Vec<u8>) -> io::Result<()> {
        self.0.write_all(&lines).await?;
        // What the system refuses is known then.
        self.0.flush().await
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.0.flush().await
    }
}
