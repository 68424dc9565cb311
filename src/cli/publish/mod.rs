//! `partner-program publish`

mod inputs;

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use crate::broker::connection::Connection;
use crate::broker::follower::Follower;
use crate::broker::publisher::{Publisher, Receipt};
use crate::broker::topology::COMMANDS;
use crate::cli::ask::positive;
use crate::cli::context::{Context, Exit, Refusal};
use crate::cli::output::{Output, Progress, Row, note, or_dash};
use crate::cli::results::{PARKED, ResultEvent};
use crate::domain::command::Operation;
use crate::message::Message;
use crate::usecases::publish::{Envelope, Ids};
use inputs::Inputs;

/// Most messages that await their confirms at once.
const BATCH_MAX: usize = 256;

/// Publish commands: JSON documents from files or standard input
#[derive(clap::Args)]
#[command(after_help = "\
A file holds one JSON document, several, or one a line. Every document is one command; its bytes go
out as they stand. Without --message-id or --id-prefix each command gets a new id, so publishing a
file twice gives its commands twice; with --id-prefix the second time has no effect.

Exits with 6 if some commands were not taken by the broker, or, with --wait, if some result is
missing or is not `succeeded`.

Examples:
  partner-program publish --org acme link.json
  partner-program publish --org acme --wait link.json
  partner-program publish --org acme --id-prefix import-7- --rate 500 commands.ndjson
  generate | partner-program publish --org acme --dry-run -")]
pub(super) struct Args {
    /// Files with commands; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The org's code, the first word of the routing key
    #[arg(long, value_name = "CODE")]
    org: String,
    /// Of all commands; without it each document's root key says
    #[arg(long, value_enum)]
    operation: Option<OperationName>,
    /// The third word of the routing key
    #[arg(long, value_name = "WORD")]
    bucket: Option<String>,
    /// The idempotency key of a single command
    #[arg(long, value_name = "ID", conflicts_with_all = ["id_prefix", "no_message_id"])]
    message_id: Option<String>,
    /// Number the idempotency keys: this and 1, 2, 3, over all files
    #[arg(long, value_name = "TEXT", conflicts_with = "no_message_id")]
    id_prefix: Option<String>,
    /// Send no idempotency key: duplicates can't be detected then
    #[arg(long, conflicts_with = "wait")]
    no_message_id: bool,
    /// Echoed by the results
    #[arg(long, value_name = "ID")]
    correlation_id: Option<String>,
    /// The queue that gets copies of the results
    #[arg(long, value_name = "QUEUE")]
    reply_to: Option<String>,
    /// At most so many a second
    #[arg(long, value_name = "COUNT", value_parser = positive)]
    rate: Option<NonZeroU32>,
    /// Stop after so many
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Publish nothing, print what would be
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    /// Wait for the results and print each as it comes
    #[arg(long)]
    wait: bool,
    /// How long to wait after the last command was published, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, requires = "wait")]
    timeout: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OperationName {
    Link,
    Update,
    Delink,
}

pub(super) async fn run(args: Args, context: &mut Context) -> anyhow::Result<Exit> {
    let envelope = envelope(&args);
    envelope.check().map_err(|error| Refusal::Usage(error.to_string()))?;
    let mut inputs = Inputs::new(args.files.clone(), args.limit, envelope, context.config.clone());
    if args.dry_run {
        while let Some(message) = inputs.next().await? {
            context.output.follow(&Planned::of(&message))?;
        }
        return Ok(Exit::Success);
    }
    let url = context.config.amqp_url()?;
    let connection = Arc::new(Connection::open(url, &context.config.worker_id).await?);
    let results = if args.wait { Some(Results::open(&connection, &args.org).await?) } else { None };
    let publisher = Publisher::open(&connection, context.config.confirm_timeout()).await?;
    let mut publishing = Publishing { publisher, results, sent: Sent::default(), rate: args.rate };
    let exit = publishing.run(&mut inputs, &args, &mut context.output).await?;
    connection.close().await;
    Ok(exit)
}

fn envelope(args: &Args) -> Envelope {
    let ids = match (&args.message_id, &args.id_prefix, args.no_message_id) {
        (Some(id), _, _) => Ids::Given(id.clone()),
        (None, Some(prefix), _) => Ids::Numbered(prefix.clone()),
        (None, None, true) => Ids::Absent,
        (None, None, false) => Ids::Random,
    };
    Envelope {
        exchange: COMMANDS.to_owned(),
        org_code: args.org.clone(),
        bucket: args.bucket.clone(),
        operation: args.operation.map(|operation| match operation {
            OperationName::Link => Operation::Link,
            OperationName::Update => Operation::Update,
            OperationName::Delink => Operation::Delink,
        }),
        ids,
        correlation_id: args.correlation_id.clone(),
        reply_to: args.reply_to.clone(),
    }
}

/// What the broker said.
#[derive(Debug, Default, Serialize)]
struct Sent {
    published: u64,
    unroutable: u64,
    refused: u64,
}

struct Publishing {
    publisher: Publisher,
    results: Option<Results>,
    sent: Sent,
    rate: Option<NonZeroU32>,
}

impl Publishing {
    async fn run(
        &mut self,
        inputs: &mut Inputs,
        args: &Args,
        output: &mut Output,
    ) -> anyhow::Result<Exit> {
        let mut progress = Progress::new("publishing", args.limit);
        let begun = Instant::now();
        let size = self.rate.map_or(BATCH_MAX, |rate| {
            // Ten batches a second, so that a slow rate does not come in bursts.
            usize::try_from(rate.get()).unwrap_or(BATCH_MAX).div_ceil(10).min(BATCH_MAX)
        });
        let mut batch = Vec::with_capacity(size);
        let mut total: u64 = 0;
        loop {
            let message = inputs.next().await?;
            let ended = message.is_none();
            batch.extend(message);
            if batch.len() < size && !ended {
                continue;
            }
            total += u64::try_from(batch.len())?;
            if !batch.is_empty() {
                self.send(&batch).await?;
            }
            progress.add(u64::try_from(batch.len())?);
            batch.clear();
            if ended {
                break;
            }
            let due =
                self.rate.map_or(Duration::ZERO, |rate| Duration::from_secs(total) / rate.get());
            match &mut self.results {
                Some(results) => results.show_until(begun + due, false, output).await?,
                None => tokio::time::sleep_until(begun + due).await,
            }
        }
        progress.finish();
        self.say();
        if let Some(results) = &mut self.results {
            let end = Instant::now() + Duration::from_secs(args.timeout);
            results.show_until(end, true, output).await?;
        }
        Ok(self.exit())
    }

    async fn send(&mut self, batch: &[Message]) -> anyhow::Result<()> {
        if let Some(results) = &mut self.results {
            // Before publishing: a result can be faster than the confirm.
            results.awaited.extend(batch.iter().filter_map(|m| m.properties.message_id.clone()));
        }
        let receipts =
            self.publisher.publish(batch).await.with_context(|| {
                format!("stopped after {} published commands", self.sent.published)
            })?;
        for (message, receipt) in batch.iter().zip(receipts) {
            let id = message.properties.message_id.as_ref();
            match receipt {
                Receipt::Routed => {
                    self.sent.published += 1;
                    continue;
                }
                Receipt::Unroutable => self.sent.unroutable += 1,
                Receipt::Refused => self.sent.refused += 1,
            }
            if let (Some(results), Some(id)) = (&mut self.results, id) {
                results.awaited.remove(id);
            }
            note(&format!("not taken ({receipt:?}): {} {}", message.routing_key, or_dash(id)));
        }
        Ok(())
    }

    fn say(&self) {
        let Sent { published, unroutable, refused } = self.sent;
        let mut parts = vec![format!("published {published} command(s)")];
        if unroutable > 0 {
            parts.push(format!("{unroutable} unroutable: `partner-program topology apply`"));
        }
        if refused > 0 {
            parts.push(format!("{refused} refused by the broker: publish these again"));
        }
        note(&parts.join("; "));
    }

    fn exit(&self) -> Exit {
        let answered = self.results.as_ref().is_none_or(|results| {
            if !results.awaited.is_empty() {
                note(&format!("{} result(s) did not come in time", results.awaited.len()));
            }
            results.awaited.is_empty() && results.all_succeeded
        });
        if answered && self.sent.unroutable == 0 && self.sent.refused == 0 {
            Exit::Success
        } else {
            Exit::PartlyFailed
        }
    }
}

/// The results of what was published, told apart from those of others by the command id.
struct Results {
    follower: Follower,
    awaited: HashSet<String>,
    all_succeeded: bool,
}

impl Results {
    async fn open(connection: &Connection, org: &str) -> anyhow::Result<Self> {
        let follower = Follower::open(connection, &[format!("{org}.*.*")]).await?;
        Ok(Self { follower, awaited: HashSet::new(), all_succeeded: true })
    }

    /// Prints results until `end`, or until none is awaited.
    async fn show_until(
        &mut self,
        end: Instant,
        until_all: bool,
        output: &mut Output,
    ) -> anyhow::Result<()> {
        while !until_all || !self.awaited.is_empty() {
            let Ok(message) = timeout_at(end, self.follower.next()).await else {
                break;
            };
            let event = ResultEvent::of(&message?);
            // It waits for a dead letter: its result follows.
            if event.verdict == PARKED {
                if event.command_id.as_ref().is_some_and(|id| self.awaited.contains(id)) {
                    output.follow(&event)?;
                }
            } else if event.command_id.as_ref().is_some_and(|id| self.awaited.remove(id)) {
                self.all_succeeded &= event.verdict == "succeeded";
                output.follow(&event)?;
            }
        }
        Ok(())
    }
}

/// What a dry run shows of a command; not its body, which holds personal data.
#[derive(Serialize)]
struct Planned {
    routing_key: String,
    message_id: Option<String>,
    bytes: usize,
}

impl Planned {
    fn of(message: &Message) -> Self {
        Self {
            routing_key: message.routing_key.clone(),
            message_id: message.properties.message_id.clone(),
            bytes: message.body.len(),
        }
    }
}

impl Row for Planned {
    const HEADERS: &'static [&'static str] = &["ROUTING KEY", "MESSAGE ID", "BYTES"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.routing_key.clone(),
            or_dash(self.message_id.as_ref()),
            format!("{} bytes", self.bytes),
        ]
    }
}
