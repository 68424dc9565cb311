//! `partner-program topology`

use std::sync::Arc;

use clap::Subcommand;
use serde::Serialize;

use crate::broker;
use crate::broker::connection::Connection;
use crate::broker::topology::{self, Topology};
use crate::cli::ask::WhoArgs;
use crate::cli::context::{Context, Exit, Refusal};
use crate::cli::output::{Row, note};
use crate::config::Config;
use crate::domain::routing::{Difference, RoutingMap};
use crate::store;
use crate::store::connection;
use crate::store::routing;
use crate::usecases::installation;
use crate::usecases::routing::Error;
use crate::usecases::routing::apply::{self, Applied};

/// Apply, check or export the exchanges, queues, bindings and the routing map
#[derive(Subcommand)]
#[command(after_help = "\
The routing map says which lane gets which routing key. `apply` makes it that of the configuration;
workers with another configuration do not subscribe. Applying is safe to repeat. A queue that exists
with other arguments is never touched: check says what differs.

It makes the broker that of the database's installation, too, and refuses that of another one: no
worker and no replay touches a broker that is not its database's.

While commands wait in a lane, its routing keys are given to another one by: partner-program lanes move

Examples:
  partner-program topology apply
  partner-program topology check -o ndjson
  partner-program topology export > definitions.json && rabbitmqctl import_definitions definitions.json")]
pub(super) enum Action {
    Apply(ApplyArgs),
    /// Say what is missing or differs, change nothing; exits with 5 if anything does
    Check,
    /// Print it as definitions for `rabbitmqctl import_definitions`; needs no broker, and the database
    /// only for the installation's exchanges
    Export,
}

/// Declare what is missing, bind the lanes, and make the configuration's lanes the routing map
#[derive(clap::Args)]
pub(super) struct ApplyArgs {
    /// Take a broker that belongs to another installation for this database; wants a --reason
    #[arg(long, conflicts_with = "new_installation")]
    adopt: bool,
    /// Give this database, a copy of another, an id of its own first; wants a --reason
    #[arg(long)]
    new_installation: bool,
    #[command(flatten)]
    who: WhoArgs,
}

pub(super) async fn run(action: &Action, context: &mut Context) -> anyhow::Result<Exit> {
    let map = of(&context.config)?;
    match action {
        Action::Apply(args) => apply(args, &map, context).await,
        Action::Check => check(map, context).await,
        Action::Export => export(map, context).await,
    }
}

/// The exchanges of the installation are known to the database alone.
async fn export(map: RoutingMap, context: &mut Context) -> anyhow::Result<Exit> {
    let mut document = topology::export::export(&Topology { map });
    match context.config.database_url() {
        Ok(url) => {
            let mut database = connection::connect(url, &context.config.worker_id).await?;
            let id = store::installation::id(&mut database).await?;
            if let Some(exchanges) = document["exchanges"].as_array_mut() {
                exchanges.extend(broker::installation::definitions(id));
            }
        }
        Err(_not_set) => note(
            "without DATABASE_URL the installation's exchanges are left out: run `partner-program topology apply` \
             once these definitions are imported",
        ),
    }
    context.output.document(&document)?;
    Ok(Exit::Success)
}

async fn apply(args: &ApplyArgs, map: &RoutingMap, context: &Context) -> anyhow::Result<Exit> {
    let actor = if args.adopt || args.new_installation {
        args.who.with_reason()?
    } else {
        args.who.of_program("topology apply", &context.config.worker_id)
    };
    let config = &context.config;
    let mut database = connection::connect(config.database_url()?, &config.worker_id).await?;
    let broker = Arc::new(Connection::open(config.amqp_url()?, &config.worker_id).await?);
    let applied = async {
        if args.adopt {
            let adopted = installation::adopt(&mut database, &broker, map, &actor).await;
            match adopted.map_err(of_installation)? {
                Some(owner) => {
                    note(&format!("the broker was that of {owner}, and is this database's now"));
                }
                None => note("the broker is this database's already: nothing was adopted"),
            }
        }
        if args.new_installation {
            let renewed = installation::renew(&mut database, &broker, &actor).await;
            let id = renewed.map_err(of_installation)?;
            note(&format!("the database is of installation {id} now"));
        }
        apply::apply(&mut database, &broker, map, &actor).await.map_err(refusal)
    };
    let applied = applied.await;
    broker.close().await;
    let Applied { version, changes } = applied?;
    for difference in changes {
        note(&change(&difference));
    }
    let lanes = map.lanes.len();
    note(&format!(
        "applied: exchanges, dead letters and {lanes} lane(s); the routing map has version {version}"
    ));
    Ok(Exit::Success)
}

fn change(difference: &Difference) -> String {
    match difference {
        Difference::Lane { lane, is_in_first: true } => format!("new lane `{lane}`"),
        Difference::Lane { lane, is_in_first: false } => format!(
            "lane `{lane}` is gone from the routing map; its queue is empty and can be deleted: \
             rabbitmqctl delete_queue {}",
            topology::lane_queue(lane)
        ),
        Difference::Pattern { pattern, first, second } => {
            format!("`{pattern}` goes to lane `{first}`, no longer to `{second}`")
        }
    }
}

/// With the exit code that it has.
pub(super) fn refusal(error: Error) -> anyhow::Error {
    match error {
        Error::Store(error) => error.into(),
        Error::Broker(error) => error.into(),
        Error::Installation(error) => of_installation(error),
        Error::Overlap(text) => Refusal::Usage(text).into(),
        Error::NotFound(text) => Refusal::NotFound(text).into(),
        Error::Schema(text)
        | Error::WouldReorder(text)
        | Error::UnderWay(text)
        | Error::StillWaiting(text) => Refusal::Conflict(text).into(),
    }
}

/// With the exit code that it has.
pub(super) fn of_installation(error: installation::Error) -> anyhow::Error {
    match error {
        installation::Error::NotOurs(text) | installation::Error::InUse(text) => {
            Refusal::Conflict(text).into()
        }
        installation::Error::Store(error) => error.into(),
        installation::Error::Broker(error) => error.into(),
    }
}

async fn check(map: RoutingMap, context: &mut Context) -> anyhow::Result<Exit> {
    let config = &context.config;
    let connection = Connection::open(config.amqp_url()?, &config.worker_id).await?;
    let lanes = map.lanes.len();
    let verified = topology::declare::verify(&connection, &Topology { map: map.clone() }).await;
    let mut differences: Vec<DifferenceRow> = verified?
        .iter()
        .map(|difference| DifferenceRow { difference: difference.to_string() })
        .collect();
    match config.database_url() {
        Ok(url) => {
            let mut database = connection::connect(url, &config.worker_id).await?;
            match installation::check(&mut database, &connection).await {
                Ok(()) => {}
                Err(installation::Error::NotOurs(difference)) => {
                    differences.push(DifferenceRow { difference });
                }
                Err(error) => return Err(of_installation(error)),
            }
            differences.extend(map_differences(&map, routing::load(&mut database).await?.as_ref()));
        }
        Err(_not_set) => {
            note("installation and routing map are not checked: DATABASE_URL is not set");
        }
    }
    connection.close().await;
    context.output.rows(&differences)?;
    if differences.is_empty() {
        note(&format!("as configured: exchanges, dead letters and {lanes} lane(s)"));
        Ok(Exit::Success)
    } else {
        Ok(Exit::Conflict)
    }
}

fn map_differences(map: &RoutingMap, applied: Option<&routing::Routing>) -> Vec<DifferenceRow> {
    let row = |difference| DifferenceRow { difference };
    let Some(applied) = applied else {
        return vec![row(
            "there is no routing map yet: run `partner-program topology apply`".into()
        )];
    };
    let under_way = applied.change.as_ref().map(|change| row(change.description()));
    let differences = map.differences(&applied.map);
    differences
        .iter()
        .map(|difference| row(difference.of_configuration()))
        .chain(under_way)
        .collect()
}

/// The routing map of the configured lanes, unless two of them would get the same command.
pub(super) fn of(config: &Config) -> Result<RoutingMap, Refusal> {
    let map = RoutingMap::of(&config.lanes);
    match map.overlap() {
        Some(overlap) => Err(Refusal::Usage(format!("lane: {overlap}"))),
        None => Ok(map),
    }
}

#[derive(Serialize)]
struct DifferenceRow {
    difference: String,
}

impl Row for DifferenceRow {
    const HEADERS: &'static [&'static str] = &["DIFFERENCE"];

    fn cells(&self) -> Vec<String> {
        vec![self.difference.clone()]
    }
}
