//! `partner-program results`

mod republish;

use clap::{Subcommand, ValueEnum};
use serde::Serialize;
use serde_json::Value;

use crate::broker::connection::Connection;
use crate::broker::follower::Follower;
use crate::cli::context::{Context, Exit};
use crate::cli::output::{Row, note, or_dash};
use crate::message::Message;
use crate::wire::result::{COMMAND_ID, ITEMS_FAILED, ITEMS_SUCCEEDED, ITEMS_TOTAL};
use republish::RepublishArgs;

/// Follow the result events, or publish stored ones again
#[derive(Subcommand)]
pub(super) enum Action {
    Follow(FollowArgs),
    Republish(RepublishArgs),
}

/// Print each result as it comes, until Ctrl-C
#[derive(clap::Args)]
#[command(after_help = "\
Listens on a queue of its own: it takes nothing away from any subscriber, and sees what is published
from now on. Bodies hold personal data; they are printed with -o ndjson only.

Examples:
  partner-program results follow
  partner-program results follow --org acme --verdict failed --verdict rejected
  partner-program results follow -o ndjson | jq -c 'select(.items_failed > 0) | .body'")]
pub(super) struct FollowArgs {
    /// Only of this org
    #[arg(long, value_name = "CODE")]
    org: Option<String>,
    /// Only of these operations
    #[arg(long, value_enum)]
    operation: Vec<OperationFilter>,
    /// Only these verdicts
    #[arg(long, value_enum)]
    verdict: Vec<VerdictFilter>,
    /// Stop after so many
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OperationFilter {
    Link,
    Update,
    Delink,
    /// Rejected before the operation was known
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum VerdictFilter {
    Succeeded,
    Partial,
    Failed,
    Rejected,
    /// Waits for a dead letter of its customer; its result follows
    Parked,
}

pub(super) async fn run(action: Action, context: &mut Context) -> anyhow::Result<Exit> {
    match action {
        Action::Follow(args) => follow(&args, context).await,
        Action::Republish(args) => republish::run(args, context).await,
    }
}

async fn follow(args: &FollowArgs, context: &mut Context) -> anyhow::Result<Exit> {
    let url = context.config.amqp_url()?;
    let connection = Connection::open(url, &context.config.worker_id).await?;
    let mut follower = Follower::open(&connection, &patterns(args)).await?;
    note("following; Ctrl-C ends it");
    let mut shown = 0;
    while args.limit.is_none_or(|limit| shown < limit) {
        let message = tokio::select! {
            message = follower.next() => message?,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                break;
            }
        };
        context.output.follow(&ResultEvent::of(&message))?;
        shown += 1;
    }
    connection.close().await;
    Ok(Exit::Success)
}

/// Every combination of the filters as a topic pattern.
fn patterns(args: &FollowArgs) -> Vec<String> {
    let org = args.org.as_deref().unwrap_or("*");
    let operations = words(&args.operation);
    let verdicts = words(&args.verdict);
    operations
        .iter()
        .flat_map(|operation| verdicts.iter().map(move |v| format!("{org}.{operation}.{v}")))
        .collect()
}

fn words<V: ValueEnum>(filters: &[V]) -> Vec<String> {
    if filters.is_empty() {
        return vec!["*".to_owned()];
    }
    let named = |filter: &V| Some(filter.to_possible_value()?.get_name().to_owned());
    filters.iter().filter_map(named).collect()
}

/// The last word of the routing key of a command that waits.
pub(super) const PARKED: &str = "parked";

/// A result, a rejection or the notice that a command waits, as subscribers get it.
#[derive(Debug, Serialize)]
pub(super) struct ResultEvent {
    org: String,
    operation: String,
    pub(super) verdict: String,
    pub(super) command_id: Option<String>,
    correlation_id: Option<String>,
    items_total: Option<u64>,
    items_succeeded: Option<u64>,
    items_failed: Option<u64>,
    body: Value,
}

impl ResultEvent {
    pub(super) fn of(message: &Message) -> Self {
        let mut words = message.routing_key.splitn(3, '.').map(str::to_owned);
        let mut word = || words.next().unwrap_or_default();
        let properties = &message.properties;
        let count = |name: &str| properties.headers.get(name).and_then(Value::as_u64);
        let body: Value = serde_json::from_slice(&message.body).unwrap_or_default();
        let in_header = properties.headers.get(COMMAND_ID).and_then(Value::as_str);
        let in_body = body.get("commandId").and_then(Value::as_str);
        Self {
            org: word(),
            operation: word(),
            verdict: word(),
            command_id: in_header.or(in_body).map(str::to_owned),
            correlation_id: properties.correlation_id.clone(),
            items_total: count(ITEMS_TOTAL),
            items_succeeded: count(ITEMS_SUCCEEDED),
            items_failed: count(ITEMS_FAILED),
            body,
        }
    }
}

impl Row for ResultEvent {
    const HEADERS: &'static [&'static str] = &["ORG", "OPERATION", "VERDICT", "ITEMS", "COMMAND"];

    fn cells(&self) -> Vec<String> {
        let said = || self.body.get("reason").or_else(|| self.body.get("deadLetterId"))?.as_str();
        let items = if let (Some(succeeded), Some(total)) = (self.items_succeeded, self.items_total)
        {
            format!("{succeeded}/{total}")
        } else {
            said().unwrap_or("-").to_owned()
        };
        vec![
            self.org.clone(),
            format!("{:<6}", self.operation),
            format!("{:<9}", self.verdict),
            items,
            or_dash(self.command_id.as_ref()),
        ]
    }
}
