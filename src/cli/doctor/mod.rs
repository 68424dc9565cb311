//! `partner-program doctor`

mod check;
mod clocks;
mod database;
mod installation;
mod memory;
mod rabbitmq;
mod routing;

use crate::broker::connection::Connection;
use crate::broker::topology::{self, Topology};
use crate::cli::context::{Context, Exit, one_line};
use crate::cli::doctor::check::{Check, State};
use crate::config::Config;

/// Check settings, database, broker and topology, and say what to do about what is wrong
#[derive(clap::Args)]
#[command(after_help = "\
Changes nothing; a queue `partner-program.doctor.…` is declared and deleted. Exits with 1 if any check fails; warnings alone exit with 0.

Examples:
  partner-program doctor
  partner-program doctor -o ndjson | jq -r 'select(.state != \"ok\") | .remedy'")]
pub(super) struct Args {}

pub(super) async fn run(_args: &Args, context: &mut Context) -> anyhow::Result<Exit> {
    let mut checks = settings(&context.config);
    checks.extend(database::checks(&context.config).await);
    checks.extend(broker(&context.config).await);
    checks.extend(installation::check(&context.config).await);
    checks.push(clocks::of_broker(&context.config).await);
    if let Ok(map) = crate::cli::topology::of(&context.config) {
        checks.extend(routing::checks(&context.config, &map).await);
    }
    context.output.rows(&checks)?;
    let failed = checks.iter().any(|check| check.state == State::Fail);
    Ok(if failed { Exit::Failure } else { Exit::Success })
}

fn settings(config: &Config) -> Vec<Check> {
    let lanes = match crate::cli::topology::of(config) {
        Ok(map) => {
            let names: Vec<&str> = map.lanes.iter().map(String::as_str).collect();
            Check::ok("lanes", names.join(", "))
        }
        Err(refusal) => Check::fail("lanes", refusal.to_string(), "narrow one of the patterns"),
    };
    let publishers = if config.publishers.is_empty() {
        let remedy = "list users and their orgs under [publishers]";
        Check::warn("publishers", "every broker user may publish for every org", remedy)
    } else {
        Check::ok("publishers", format!("{} users are bound to orgs", config.publishers.len()))
    };
    vec![lanes, publishers, memory::check(config)]
}

async fn broker(config: &Config) -> Vec<Check> {
    let url = match config.amqp_url() {
        Ok(url) => url,
        Err(error) => return vec![Check::fail("broker", error.to_string(), "set AMQP_URL")],
    };
    let shown = config.amqp_url.as_ref().map(ToString::to_string).unwrap_or_default();
    let connection = match Connection::open(url, &config.worker_id).await {
        Ok(connection) => connection,
        Err(error) => {
            let detail = format!("{shown}: {}", one_line(&error.into()));
            let remedy = "start the broker, or mend address, user and virtual host in AMQP_URL";
            return vec![Check::fail("broker", detail, remedy)];
        }
    };
    let mut checks = vec![Check::ok("broker", shown)];
    checks.extend(rabbitmq::checks(&connection, config).await);
    if let Ok(map) = crate::cli::topology::of(config) {
        match topology::declare::verify(&connection, &Topology { map }).await {
            Ok(differences) if differences.is_empty() => {
                checks.push(Check::ok("topology", "as configured"));
            }
            Ok(differences) => checks.extend(differences.iter().map(|difference| {
                let remedy = "partner-program topology apply; what differs must be deleted first";
                Check::fail("topology", difference.to_string(), remedy)
            })),
            Err(error) => {
                let remedy = "see the broker's log; the user needs the configure right";
                checks.push(Check::fail("topology", one_line(&error.into()), remedy));
            }
        }
    }
    connection.close().await;
    checks
}
