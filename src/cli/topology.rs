//! `partner-program topology`

use clap::Subcommand;
use serde::Serialize;

use super::output::{Row, note};
use super::{Context, Exit, Refusal};
use crate::broker::connection::Connection;
use crate::broker::topology;
use crate::broker::topology::Topology;
use crate::config::Config;

/// Declare, check or export the exchanges, queues and bindings on the broker
#[derive(Subcommand)]
#[command(after_help = "\
Declaring is safe to repeat. A queue that exists with other arguments is never touched: check says
what differs.

Examples:
  partner-program topology apply
  partner-program topology check -o ndjson
  partner-program topology export > definitions.json && rabbitmqctl import_definitions definitions.json")]
pub(super) enum Action {
    /// Declare what is missing
    Apply,
    /// Say what is missing or differs, change nothing; exits with 5 if anything does
    Check,
    /// Print it as definitions for `rabbitmqctl import_definitions`; needs no broker
    Export,
}

pub(super) async fn run(action: &Action, context: &mut Context) -> anyhow::Result<Exit> {
    let topology = of(&context.config)?;
    if let Action::Export = action {
        context.output.document(&topology::export(&topology))?;
        return Ok(Exit::Success);
    }
    let url = context.config.amqp_url()?;
    let connection = Connection::open(url, &context.config.worker_id).await?;
    let lanes = topology.lanes.len();
    let exit = match action {
        Action::Apply => {
            topology::declare(&connection, &topology).await?;
            note(&format!("declared: exchanges, dead letters and {lanes} lane(s)"));
            Exit::Success
        }
        Action::Check | Action::Export => {
            let differences: Vec<Difference> = topology::verify(&connection, &topology)
                .await?
                .iter()
                .map(|difference| Difference { difference: difference.to_string() })
                .collect();
            context.output.rows(&differences)?;
            if differences.is_empty() {
                note(&format!("as configured: exchanges, dead letters and {lanes} lane(s)"));
                Exit::Success
            } else {
                Exit::Conflict
            }
        }
    };
    connection.close().await;
    Ok(exit)
}

/// The topology of the configured lanes, unless two of them would get the same command.
pub(super) fn of(config: &Config) -> Result<Topology, Refusal> {
    let lanes: Vec<topology::Lane> = config
        .lanes
        .iter()
        .map(|lane| topology::Lane { name: lane.name.clone(), bindings: lane.bindings.clone() })
        .collect();
    if let Some([(lane, pattern), (other_lane, other)]) = topology::overlapping(&lanes) {
        return Err(Refusal::Usage(format!(
            "lane: `{pattern}` of lane `{lane}` and `{other}` of lane `{other_lane}` match the \
             same routing key, so its commands would be applied in both; narrow one of them"
        )));
    }
    Ok(Topology { lanes })
}

#[derive(Serialize)]
struct Difference {
    difference: String,
}

impl Row for Difference {
    const HEADERS: &'static [&'static str] = &["DIFFERENCE"];

    fn cells(&self) -> Vec<String> {
        vec![self.difference.clone()]
    }
}
