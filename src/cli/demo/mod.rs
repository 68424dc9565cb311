//! `partner-program demo`

mod environment;
mod json;
mod steps;
mod view;

use chrono::{DateTime, Utc};

use crate::cli::context::{Context, Exit};
use environment::Environment;

/// Show the system at work: commands in, Postgres, results out
#[derive(clap::Args)]
#[command(after_help = "\
Needs DATABASE_URL and AMQP_URL of servers that may be written to; `make demo` starts private ones.
It migrates the database, declares the topology, imports an org `acme`, runs a worker inside this
process and checks what it shows: it exits with 1 if anything is not as it should be.

Example:
  scripts/with-servers.sh partner-program demo")]
pub(super) struct Args {}

/// When the samples were written: their dates are in the future then.
const CLOCK_START: DateTime<Utc> = match DateTime::from_timestamp(1_669_194_000, 0) {
    Some(start) => start,
    None => DateTime::UNIX_EPOCH,
};

pub(super) async fn run(_args: &Args, context: &mut Context) -> anyhow::Result<Exit> {
    let mut environment = Environment::set_up(&context.config, CLOCK_START).await?;
    let output = &mut context.output;
    output.raw(view::opening(&context.config.worker_id, CLOCK_START).as_bytes())?;
    let shown = steps::all(&mut environment, output).await;
    environment.tear_down().await?;
    shown?;
    output
        .raw(view::ending(std::env::var_os("KEEP").is_some_and(|keep| keep == "1")).as_bytes())?;
    Ok(Exit::Success)
}
