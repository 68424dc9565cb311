//! `partner-program results republish`

mod source;

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio::time::Instant;

use crate::broker;
use crate::broker::error::Error;
use crate::broker::publisher::{Alone, Publisher, Receipt};
use crate::cli::ask::positive;
use crate::cli::context::{Context, Exit, Refusal};
use crate::cli::output::{Progress, Row, note, or_dash};
use crate::cli::topology::of_installation;
use crate::message::Message;
use crate::store::connection::{self, Connection as DatabaseConnection};
use crate::store::lookup;
use crate::store::results::Selection;
use crate::usecases::installation;
use crate::wire::unavailable;
use source::{Answer, Source};

/// Most answers that await their confirms at once.
const BATCH_MAX: usize = 500;

/// Publish answers again: rejections, then results, each in their order
#[derive(clap::Args)]
#[command(after_help = "\
For subscribers that have lost events. They are those published before, to the byte, with the same
message ids; every subscriber gets them again, and knows them by that. Replies are not sent again.
Results are kept for the configured retention, rejections as long as their dead letters are.

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
    /// The answers to this command; may be repeated
    #[arg(long, value_name = "ID", conflicts_with = "since")]
    command_id: Vec<String>,
    /// What was stored or rejected from here on, in RFC 3339
    #[arg(long, value_name = "TIME")]
    since: Option<DateTime<Utc>>,
    /// What was stored or rejected before, in RFC 3339
    #[arg(long, value_name = "TIME", requires = "since")]
    until: Option<DateTime<Utc>>,
    /// Stop after so many
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// At most so many a second
    #[arg(long, value_name = "COUNT", value_parser = positive)]
    rate: Option<NonZeroU32>,
    /// Publish nothing, print what would be
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(args: RepublishArgs, context: &mut Context) -> anyhow::Result<Exit> {
    let url = context.config.database_url()?;
    let mut connection = connection::connect(url, &context.config.worker_id).await?;
    let org = lookup::org(&mut connection, &args.org).await?;
    let mut republisher = if args.dry_run {
        None
    } else {
        Some(Republisher::open(&mut connection, &args, context).await?)
    };
    let mut source =
        Source::new(connection, &args.org, org.map(|org| org.id), selection(&args)).await?;
    let mut sent = Sent::of(&args);
    let mut progress = Progress::new("republishing", args.limit);
    let mut left = args.limit.unwrap_or(u64::MAX);
    while left > 0 {
        let mut answers = source.next(left).await?;
        if answers.is_empty() {
            break;
        }
        answers.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        let count = u64::try_from(answers.len())?;
        left -= count;
        match &mut republisher {
            Some(republisher) => republisher.republish(answers, &mut sent).await?,
            None => {
                for answer in answers {
                    sent.note(&answer);
                    context.output.follow(&Planned::of(answer, &args.org))?;
                }
            }
        }
        progress.add(count);
    }
    progress.finish();
    if let Some(republisher) = republisher {
        republisher.connection.close().await;
    }
    sent.exit(&args)
}

fn selection(args: &RepublishArgs) -> Selection {
    let Some(since) = args.since else {
        let mut ids = args.command_id.clone();
        ids.sort_unstable();
        ids.dedup();
        return Selection::Commands(ids);
    };
    Selection::Stored { since, until: args.until }
}

/// The way to the broker, at a rate.
struct Republisher {
    connection: Arc<broker::connection::Connection>,
    publisher: Publisher,
    rate: Option<NonZeroU32>,
    begun: Instant,
}

impl Republisher {
    async fn open(
        database: &mut DatabaseConnection,
        args: &RepublishArgs,
        context: &Context,
    ) -> anyhow::Result<Self> {
        let url = context.config.amqp_url()?;
        let name = &context.config.worker_id;
        let connection = Arc::new(broker::connection::Connection::open(url, name).await?);
        installation::check(database, &connection).await.map_err(of_installation)?;
        let publisher = Publisher::open(&connection, context.config.confirm_timeout()).await?;
        Ok(Self { connection, publisher, rate: args.rate, begun: Instant::now() })
    }

    async fn republish(&mut self, answers: Vec<Answer>, sent: &mut Sent) -> anyhow::Result<()> {
        let size = self.batch_size();
        let mut answers = answers.into_iter();
        loop {
            let batch: Vec<Answer> = answers.by_ref().take(size).collect();
            if batch.is_empty() {
                return Ok(());
            }
            for answer in &batch {
                sent.note(answer);
            }
            let (names, messages): (Vec<Option<String>>, Vec<Message>) =
                batch.into_iter().map(|answer| (answer.command_id, answer.event)).unzip();
            let receipts = self.publish(messages, sent).await;
            let stopped = || format!("stopped after {} published answers", sent.published);
            let receipts = receipts.with_context(stopped)?;
            for (name, receipt) in names.into_iter().zip(receipts) {
                match receipt {
                    Receipt::Routed => sent.published += 1,
                    Receipt::Unroutable => sent.unroutable += 1,
                    Receipt::Refused => {
                        sent.refused += 1;
                        let name = name.unwrap_or_default();
                        note(&format!("refused by the broker: the answer to command {name}"));
                    }
                }
            }
            self.keep_rate(sent.matched).await;
        }
    }

    /// A message that closes the channel is found by sending each alone. One that is too large for the
    /// broker is published as a lane publishes it.
    async fn publish(
        &mut self,
        messages: Vec<Message>,
        sent: &mut Sent,
    ) -> Result<Vec<Receipt>, Error> {
        match self.publisher.publish(&messages).await {
            Ok(receipts) => return Ok(receipts),
            Err(Error::Unconfirmed(after)) => return Err(Error::Unconfirmed(after)),
            Err(error) if !self.publisher.is_connected() => return Err(error),
            Err(_closed) => self.publisher.reopen().await?,
        }
        let mut receipts = Vec::with_capacity(messages.len());
        for mut message in messages {
            let receipt = loop {
                match self.publisher.publish_alone(&message).await? {
                    Alone::Decided(receipt) => break receipt,
                    Alone::Unacceptable(why) => match unavailable::in_place_of(&message) {
                        Some(small) => {
                            sent.unavailable += 1;
                            message = small;
                        }
                        None => return Err(Error::Precondition(why)),
                    },
                }
            };
            receipts.push(receipt);
        }
        Ok(receipts)
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
    /// Commands that were asked for by their id and not found yet.
    unknown: HashSet<String>,
    matched: u64,
    published: u64,
    unroutable: u64,
    refused: u64,
    /// Answers replaced by a notice, as the broker does not take their size.
    unavailable: u64,
}

impl Sent {
    fn of(args: &RepublishArgs) -> Self {
        Self { unknown: args.command_id.iter().cloned().collect(), ..Self::default() }
    }

    fn note(&mut self, answer: &Answer) {
        self.matched += 1;
        if let Some(id) = &answer.command_id {
            self.unknown.remove(id);
        }
    }

    fn exit(&self, args: &RepublishArgs) -> anyhow::Result<Exit> {
        let Self { matched, published, unroutable, refused, unavailable, .. } = *self;
        if matched == 0 {
            let text = format!("no kept answer of org `{}` matches", args.org);
            return Err(Refusal::NotFound(text).into());
        }
        if args.dry_run {
            note(&format!("would publish {matched} answer(s)"));
        } else {
            let mut parts = vec![format!("published {published} answer(s)")];
            if unavailable > 0 {
                parts.push(format!(
                    "{unavailable} are too large for the broker, which got a notice instead"
                ));
            }
            if unroutable > 0 {
                parts.push(format!(
                    "{unroutable} reached no subscriber: no queue is bound for them"
                ));
            }
            if refused > 0 {
                parts.push(format!("{refused} refused by the broker: publish these again"));
            }
            note(&parts.join("; "));
        }
        // A limit may have ended it before they were reached.
        let ended_early = args.limit.is_some_and(|limit| matched >= limit);
        let unknown = if ended_early { 0 } else { self.unknown.len() };
        if unknown > 0 {
            note(&format!("{unknown} of the command ids are not known"));
        }
        Ok(if refused > 0 || unknown > 0 { Exit::PartlyFailed } else { Exit::Success })
    }
}

/// What a dry run shows of an answer; not its body, which holds personal data.
#[derive(Serialize)]
struct Planned {
    org: String,
    operation: String,
    verdict: &'static str,
    command_id: Option<String>,
}

impl Planned {
    fn of(answer: Answer, org: &str) -> Self {
        let Answer { command_id, operation, verdict, .. } = answer;
        Self { org: org.to_owned(), operation, verdict, command_id }
    }
}

impl Row for Planned {
    const HEADERS: &'static [&'static str] = &["ORG", "OPERATION", "VERDICT", "COMMAND"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.org.clone(),
            format!("{:<7}", self.operation),
            format!("{:<9}", self.verdict),
            or_dash(self.command_id.as_ref()),
        ]
    }
}
