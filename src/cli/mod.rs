//! The command line: one file a subcommand, each with its `Args` and its `run`.
//!
//! Data goes to standard output, everything else to standard error, so that a pipe gets data
//! only. Deliberately absent: any rule of the domain and any SQL; the subcommands call `usecases`,
//! `worker` and the layers below, and this module decides only how that is asked for and shown.

mod ask;
mod completions;
mod console;
pub mod context;
mod dead_letters;
mod demo;
mod doctor;
mod import;
mod lanes;
mod man;
mod migrate;
mod output;
mod publish;
mod results;
mod run;
mod show;
mod topology;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand};

use crate::cli::context::{Context, Exit, exit_of, one_line};
use crate::config::Config;
use crate::telemetry;
use output::{Format, Output};

/// Where the help shows the options of every subcommand.
const EVERYWHERE: &str = "Options of every command";

const AFTER_HELP: &str = "\
From nothing to running:
  export DATABASE_URL=postgres://user:password@localhost/app AMQP_URL=amqp://localhost
  partner-program migrate
  partner-program topology apply
  partner-program import catalogue catalogue.toml
  partner-program import customers customers.csv
  partner-program doctor
  partner-program run

Settings come from the file, every key also from PARTNER_PROGRAM_<KEY>; the environment wins.
Secrets may be files: DATABASE_URL_FILE, AMQP_URL_FILE.

Exit codes: 0 ok, 1 failure, 2 usage or settings, 3 not found, 5 conflict, 6 partly failed.";

/// Applies link, update and delink commands of a loyalty partner program, exactly once and in
/// order, and answers each with a result event.
#[derive(Parser)]
#[command(name = "partner-program", version, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Cli {
    /// The settings, in TOML
    #[arg(
        long,
        global = true, help_heading = EVERYWHERE,
        value_name = "FILE",
        env = "PARTNER_PROGRAM_CONFIG"
    )]
    #[arg(hide_env_values = true)]
    config: Option<PathBuf>,

    /// How data is printed: table, json (one document) or ndjson (one line a row)
    #[arg(short, long, global = true, help_heading = EVERYWHERE, value_enum)]
    #[arg(default_value_t = Format::Table, hide_possible_values = true)]
    output: Format,

    /// What is logged, in the syntax of `RUST_LOG`: `debug`, or `warn,partner_program_worker=debug`
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "FILTER")]
    log: Option<String>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Args),
    Migrate(migrate::Args),
    #[command(subcommand)]
    Topology(topology::Action),
    #[command(subcommand)]
    Import(import::Action),
    Publish(publish::Args),
    #[command(subcommand)]
    Results(results::Action),
    #[command(subcommand)]
    Show(show::Action),
    Console(console::Args),
    #[command(subcommand)]
    DeadLetters(dead_letters::Action),
    #[command(subcommand)]
    Lanes(lanes::Action),
    Doctor(doctor::Args),
    Demo(demo::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// Reads the arguments. Help, version and complaints are printed here, hence only the exit code.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, Exit> {
    Cli::try_parse_from(arguments).map_err(|error| {
        // If even this can't be written there is no way to tell.
        let _unprintable = error.print();
        if error.use_stderr() { Exit::Usage } else { Exit::Success }
    })
}

/// Does what was asked for, and says on standard error why it could not.
pub async fn run(cli: Cli) -> Exit {
    match attempt(cli).await {
        Ok(exit) => exit,
        Err(error) => match exit_of(&error) {
            Exit::Success => Exit::Success,
            exit => fail(&one_line(&error), exit),
        },
    }
}

async fn attempt(cli: Cli) -> anyhow::Result<Exit> {
    let Cli { config, output, log, command } = cli;
    let output = Output::new(output);
    match command {
        Command::Completions(args) => return completions::run(&args, Cli::command(), output),
        Command::Man(args) => return man::run(&args, Cli::command(), output),
        Command::Console(console::Args { action: Some(action) }) => {
            return console::prepare(&action, output);
        }
        _ => {}
    }
    let env = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let mut config = Config::load(config.as_deref(), env)?;
    let log_is_asked_for = log.is_some();
    if let Some(log) = log {
        config.log = log;
    }
    if matches!(command, Command::Demo(_)) && !log_is_asked_for {
        // The demo shows on purpose what a log would warn of.
        "error".clone_into(&mut config.log);
    }
    telemetry::init(&config.log, config.log_format)?;
    let mut context = Context { config, output };
    match command {
        Command::Run(args) => run::run(&args, &mut context).await,
        Command::Migrate(args) => migrate::run(&args, &mut context).await,
        Command::Topology(action) => topology::run(&action, &mut context).await,
        Command::Import(action) => import::run(action, &mut context).await,
        Command::Publish(args) => publish::run(args, &mut context).await,
        Command::Results(action) => results::run(action, &mut context).await,
        Command::Show(action) => show::run(action, &mut context).await,
        Command::DeadLetters(action) => Box::pin(dead_letters::run(action, &mut context)).await,
        Command::Lanes(action) => lanes::run(&action, &mut context).await,
        Command::Demo(args) => demo::run(&args, &mut context).await,
        Command::Console(_) => console::run(&context).await,
        Command::Doctor(args) => doctor::run(&args, &mut context).await,
        Command::Completions(_) | Command::Man(_) => Ok(Exit::Success),
    }
}

/// Prints the complaint.
#[must_use]
pub fn fail(text: &str, exit: Exit) -> Exit {
    output::note(&format!("partner-program: {text}"));
    exit
}
