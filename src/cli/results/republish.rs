//! `partner-program results republish`

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio::time::Instant;

use crate::broker;
use crate::broker::publisher::{Publisher, Receipt};
use crate::cli::output::{Progress, Row, note};
use crate::cli::{Context, Exit, Refusal, show};
use crate::domain::program::OrgId;
use crate::store::command_log::{self, CommandKey, Stored};
use crate::store::connection::{self, Connection};
use crate::store::results::{self, Selection};
use crate::worker::window;

/// Most results that are read, and await their confirms, at once.
const BATCH_MAX: usize = 500;

/// Most keys that are held at once: some ten megabytes.
const KEYS_MAX: i64 = 100_000;

/// Announce stored results again, in the order in which they were stored
#[derive(clap::Args)]
#[command(after_help = "\
For subscribers that have lost results. The events are those announced before, to the byte, with
the same message ids; every subscriber gets them again, and knows them by that. Replies are not
sent again. Results are kept for the configured retention.

Exits with 3 if nothing matches, and with 6 if the broker refused some or some --command-id is not
known.

Examples:
  partner-program results republish --org acme --command-id 42 --command-id 43
  partner-program results republish --org acme --since 2026-02-01T00:00:00Z --dry-run
  partner-program results republish --org acme --since 2026-02-01T00:00:00Z --rate 200")]
#[command(group(clap::ArgGroup::new("which").required(true).args(["command_id", "since"])))]
pub(in crate::cli) struct RepublishArgs {
    /// The org's code
    #[arg(long, value_name = "CODE")]
    org: String,
    /// The result of this command; may be repeated
    #[arg(long, value_name = "ID", conflicts_with = "since")]
    command_id: Vec<String>,
    /// What was stored from here on, in RFC 3339
    #[arg(long, value_name = "TIME")]
    since: Option<DateTime<Utc>>,
    /// What was stored before, in RFC 3339
    #[arg(long, value_name = "TIME", requires = "since")]
    until: Option<DateTime<Utc>>,
    /// Stop after so many
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// At most so many a second
    #[arg(long, value_name = "COUNT")]
    rate: Option<NonZeroU32>,
    /// Announce nothing, print what would be
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(args: RepublishArgs, context: &mut Context) -> anyhow::Result<Exit> {
    let url = context.config.database_url()?;
    let mut connection = connection::connect(url, &context.config.worker_id).await?;
    let org = show::org(&mut connection, &args.org).await?;
    let announcer = if args.dry_run { None } else { Some(Announcer::open(&args, context).await?) };
    let mut republishing =
        Republishing { connection, org_id: org.id, announcer, sent: Sent::default() };
    republishing.run(&args, context).await?;
    let Republishing { announcer, sent, .. } = republishing;
    if let Some(announcer) = announcer {
        announcer.connection.close().await;
    }
    sent.exit(&args)
}

struct Republishing {
    connection: Connection,
    org_id: OrgId,
    /// `None` in a dry run.
    announcer: Option<Announcer>,
    sent: Sent,
}

impl Republishing {
    async fn run(&mut self, args: &RepublishArgs, context: &mut Context) -> anyhow::Result<()> {
        let selection = selection(args);
        let mut progress = Progress::new("republishing", args.limit);
        let mut after = 0;
        let mut left = args.limit.unwrap_or(u64::MAX);
        while left > 0 {
            let limit = i64::try_from(left).unwrap_or(KEYS_MAX).min(KEYS_MAX);
            let connection = &mut self.connection;
            let page = results::keys(connection, self.org_id, &selection, after, limit).await?;
            let Some((last, _)) = page.last() else {
                break;
            };
            after = *last;
            left -= u64::try_from(page.len())?;
            let keys: Vec<CommandKey> = page.into_iter().map(|(_, key)| key).collect();
            let size = self.announcer.as_ref().map_or(BATCH_MAX, Announcer::batch_size);
            for batch in keys.chunks(size) {
                let found = command_log::find(&mut self.connection, batch).await?;
                self.send(batch, &found, context).await?;
                progress.add(u64::try_from(batch.len())?);
            }
        }
        progress.finish();
        Ok(())
    }

    async fn send(
        &mut self,
        batch: &[CommandKey],
        found: &HashMap<CommandKey, Stored>,
        context: &mut Context,
    ) -> anyhow::Result<()> {
        // What has left the retention since its key was read is left out.
        let present: Vec<(&CommandKey, &Stored)> =
            batch.iter().filter_map(|key| found.get_key_value(key)).collect();
        self.sent.matched += u64::try_from(present.len())?;
        let Some(announcer) = &mut self.announcer else {
            for (key, stored) in present {
                context.output.follow(&Planned::of(key, stored))?;
            }
            return Ok(());
        };
        let messages: Vec<_> =
            present.iter().map(|(key, stored)| window::result_event(key, stored)).collect();
        let stopped = || format!("stopped after {} announced results", self.sent.announced);
        let receipts = announcer.publisher.publish(&messages).await.with_context(stopped)?;
        for ((key, _), receipt) in present.iter().zip(receipts) {
            match receipt {
                Receipt::Routed => self.sent.announced += 1,
                Receipt::Unroutable => self.sent.unroutable += 1,
                Receipt::Refused => {
                    self.sent.refused += 1;
                    note(&format!("refused by the broker: {}", key.command_id));
                }
            }
        }
        announcer.keep_rate(self.sent.matched).await;
        Ok(())
    }
}

fn selection(args: &RepublishArgs) -> Selection {
    match args.since {
        Some(since) => Selection::Stored { since, until: args.until },
        None => Selection::Commands(args.command_id.clone()),
    }
}

/// The way to the broker, at a rate.
struct Announcer {
    connection: Arc<broker::connection::Connection>,
    publisher: Publisher,
    rate: Option<NonZeroU32>,
    begun: Instant,
}

impl Announcer {
    async fn open(args: &RepublishArgs, context: &Context) -> anyhow::Result<Self> {
        let url = context.config.amqp_url()?;
        let name = &context.config.worker_id;
        let connection = Arc::new(broker::connection::Connection::open(url, name).await?);
        let publisher = Publisher::open(&connection, context.config.confirm_timeout()).await?;
        Ok(Self { connection, publisher, rate: args.rate, begun: Instant::now() })
    }

    /// Ten batches a second, so that a slow rate does not come in bursts.
    fn batch_size(&self) -> usize {
        self.rate.map_or(BATCH_MAX, |rate| {
            usize::try_from(rate.get()).unwrap_or(BATCH_MAX).div_ceil(10).min(BATCH_MAX)
        })
    }

    async fn keep_rate(&self, total: u64) {
        if let Some(rate) = self.rate {
            let due = Duration::from_secs(total) / rate.get();
            tokio::time::sleep_until(self.begun + due).await;
        }
    }
}

/// What the broker said.
#[derive(Debug, Default)]
struct Sent {
    matched: u64,
    announced: u64,
    unroutable: u64,
    refused: u64,
}

impl Sent {
    fn exit(&self, args: &RepublishArgs) -> anyhow::Result<Exit> {
        let Self { matched, announced, unroutable, refused } = *self;
        if matched == 0 {
            let text = format!("no stored result of org `{}` matches", args.org);
            return Err(Refusal::NotFound(text).into());
        }
        if args.dry_run {
            note(&format!("would announce {matched} result(s)"));
        } else {
            let mut parts = vec![format!("announced {announced} result(s)")];
            if unroutable > 0 {
                parts.push(format!("{unroutable} went nowhere: nobody subscribes to them"));
            }
            if refused > 0 {
                parts.push(format!("{refused} refused by the broker: announce these again"));
            }
            note(&parts.join("; "));
        }
        let mut wanted: Vec<&String> = args.command_id.iter().collect();
        wanted.sort_unstable();
        wanted.dedup();
        let wanted = u64::try_from(wanted.len())?.min(args.limit.unwrap_or(u64::MAX));
        let unknown = wanted.saturating_sub(matched);
        if unknown > 0 {
            note(&format!("{unknown} of the command ids are not known"));
        }
        Ok(if refused > 0 || unknown > 0 { Exit::PartlyFailed } else { Exit::Success })
    }
}

/// What a dry run shows of a result; not its body, which holds personal data.
#[derive(Serialize)]
struct Planned {
    org: String,
    operation: &'static str,
    verdict: &'static str,
    command_id: String,
}

impl Planned {
    fn of(key: &CommandKey, stored: &Stored) -> Self {
        Self {
            org: stored.org_code.clone(),
            operation: stored.operation.as_str(),
            verdict: stored.verdict.as_str(),
            command_id: key.command_id.clone(),
        }
    }
}

impl Row for Planned {
    const HEADERS: &'static [&'static str] = &["ORG", "OPERATION", "VERDICT", "COMMAND"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.org.clone(),
            format!("{:<6}", self.operation),
            format!("{:<9}", self.verdict),
            self.command_id.clone(),
        ]
    }
}
