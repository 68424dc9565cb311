//! `partner-program console`

use anyhow::Context as _;
use clap::Subcommand;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::cli::context::{Context, Exit, Refusal};
use crate::cli::output::{Output, note};
use crate::cli::run::Signals;
use crate::console::{self, token};
use crate::worker::counters::LaneCounters;

/// Serve the web console alone, or make a token for it
#[derive(clap::Args)]
#[command(after_help = "\
`partner-program run` serves the console, too; this serves it where no worker runs. Operations that
are begun in it are run by the workers.

Examples:
  partner-program console
  PARTNER_PROGRAM_OPS_LISTEN=127.0.0.1:9000 partner-program console
  partner-program console token --name ana --role operator")]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) action: Option<Action>,
}

#[derive(Subcommand)]
pub(super) enum Action {
    Token(TokenArgs),
}

/// Make a token, and the settings that let it in
#[derive(clap::Args)]
#[command(after_help = "\
The token is printed once and kept nowhere: give it to its user, and put the lines with
its hash into the configuration. Roles: a viewer looks, without personal data; an operator replays,
discards and restores; an admin sees personal data, edits and exports, too.

Examples:
  partner-program console token --name ana --role operator
  partner-program console token --name bo --role viewer -o json")]
pub(super) struct TokenArgs {
    /// Whom the audit names
    #[arg(long, value_name = "NAME")]
    name: String,
    /// What they may do: viewer, operator or admin
    #[arg(long, value_name = "ROLE")]
    role: String,
}

#[derive(Serialize)]
struct Made {
    name: String,
    role: &'static str,
    token: String,
    sha256: String,
}

/// What comes before there are settings, and needs none: those that lack a token are refused.
pub(super) fn prepare(action: &Action, mut output: Output) -> anyhow::Result<Exit> {
    let Action::Token(args) = action;
    make(args, &mut output)
}

pub(super) async fn run(context: &Context) -> anyhow::Result<Exit> {
    let config = &context.config;
    config.database_url()?;
    config.amqp_url()?;
    let mut signals = Signals::listen()?;
    let Some(listener) = console::listen(config).await? else {
        let text = "ops_listen is off: write an address, such as 127.0.0.1:8080";
        return Err(Refusal::Usage(text.to_owned()).into());
    };
    let shutdown = CancellationToken::new();
    let serving = console::serve(listener, config, LaneCounters::default(), shutdown.clone());
    let stopping = async {
        signals.next().await;
        shutdown.cancel();
        signals.next().await;
    };
    tokio::select! {
        served = serving => {
            served?;
            Ok(Exit::Success)
        }
        () = stopping => Ok(Exit::Failure),
    }
}

fn make(args: &TokenArgs, output: &mut Output) -> anyhow::Result<Exit> {
    let role = crate::config::console::Role::parse(&args.role).ok_or_else(|| {
        let text = format!("--role: `{}` is no role: write viewer, operator or admin", args.role);
        Refusal::Usage(text)
    })?;
    let token = token::new();
    let made = Made {
        name: args.name.clone(),
        role: role.as_str(),
        sha256: hex::encode(token::hash(&token)),
        token,
    };
    if !output.is_for_people() {
        output.document(&serde_json::to_value(&made)?)?;
        return Ok(Exit::Success);
    }
    let name = toml::Value::from(made.name.as_str());
    let lines = format!(
        "[[console.token]]\nname = {name}\nrole = \"{}\"\nsha256 = \"{}\"\n",
        made.role, made.sha256
    );
    note("the token, shown this once:");
    output.raw(format!("{}\n", made.token).as_bytes()).context("the token")?;
    note("\nand for the configuration:");
    output.raw(lines.as_bytes()).context("the settings")?;
    Ok(Exit::Success)
}
