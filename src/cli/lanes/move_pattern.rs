//! `partner-program lanes move`

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::broker::connection::Connection as BrokerConnection;
use crate::cli::ask::WhoArgs;
use crate::cli::context::{Context, Refusal};
use crate::cli::output::{Row, note};
use crate::cli::topology::refusal;
use crate::config;
use crate::store::connection::Connection;
use crate::store::lookup;
use crate::store::routing::Move;
use crate::store::routing::change::Waiting;
use crate::usecases::routing::move_pattern::{self, Plan, Progress};

/// Give a pattern, or an org, to another lane while commands come and wait, in order
#[derive(clap::Args)]
#[command(after_help = "\
The lane that gets the pattern stands still until the other one has processed everything that came
before; between two lanes other than main the way leads through main. A move that was cut off goes on
by --resume. Deploy the new configuration first: workers with it wait, and take over when the move
ends; from then on workers with the old one do not subscribe.

Examples:
  partner-program lanes move 'acme.#' --to vip --dry-run
  partner-program lanes move --org acme --to vip --reason 'OPS-21: acme gets a lane of its own'
  partner-program lanes move 'acme.#' --to main --reason 'OPS-22: back'
  partner-program lanes move --resume")]
pub(in crate::cli) struct MoveArgs {
    /// A pattern of the routing map, or a new one
    #[arg(value_name = "PATTERN", conflicts_with_all = ["org", "resume"])]
    pattern: Option<String>,
    /// All routing keys of an org: the pattern `ORG.#`
    #[arg(long, value_name = "ORG", conflicts_with = "resume")]
    org: Option<String>,
    /// The lane that gets it
    #[arg(long, value_name = "LANE", conflicts_with = "resume")]
    to: Option<String>,
    /// Show what would be done, do nothing
    #[arg(long, conflicts_with = "resume")]
    dry_run: bool,
    /// Go on with the move that was cut off
    #[arg(long)]
    resume: bool,
    /// How long to wait for lanes to be drained; the move itself stays under way after that
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600)]
    timeout_s: u64,
    #[command(flatten)]
    who: WhoArgs,
}

pub(super) async fn run(
    args: &MoveArgs,
    database: &mut Connection,
    context: &mut Context,
) -> anyhow::Result<()> {
    let url = context.config.amqp_url()?;
    let name = format!("partner-program move {}", context.config.worker_id);
    let broker = Arc::new(BrokerConnection::open(url, &name).await?);
    let moved = if args.resume { Ok(true) } else { begin(args, database, &broker, context).await };
    let moved = match moved {
        Ok(true) => {
            let mut shown = String::new();
            let mut show = |progress: Progress| {
                let line = line(&progress);
                if line != shown {
                    note(&line);
                    shown = line;
                }
            };
            let timeout = Duration::from_secs(args.timeout_s);
            let run = move_pattern::run(database, &broker, timeout, &mut show).await;
            run.map_err(refusal)
        }
        Ok(false) => Ok(()),
        Err(error) => Err(error),
    };
    broker.close().await;
    moved
}

/// Whether the move is under way now.
async fn begin(
    args: &MoveArgs,
    database: &mut Connection,
    broker: &BrokerConnection,
    context: &mut Context,
) -> anyhow::Result<bool> {
    let pattern = match (&args.pattern, &args.org) {
        (Some(pattern), None) => pattern.clone(),
        (None, Some(org)) => {
            if lookup::org(database, org).await?.is_none() {
                return Err(Refusal::NotFound(format!("no org has the code `{org}`")).into());
            }
            format!("{org}.#")
        }
        _ => return Err(Refusal::Usage("name a pattern, or an org by --org".into()).into()),
    };
    config::check_pattern(&pattern, "PATTERN")?;
    let Some(to) = &args.to else {
        return Err(Refusal::Usage("name the lane that gets it: --to LANE".into()).into());
    };
    let lanes: Vec<&str> = context.config.lanes.iter().map(|lane| lane.name.as_str()).collect();
    let plan = move_pattern::plan(database, broker, &lanes, &pattern, to).await.map_err(refusal)?;
    if args.dry_run {
        context.output.rows(&rows(&plan))?;
        let Waiting { holds, parked } = plan.behind_dead_letters;
        if holds > 0 || parked > 0 {
            note(&format!(
                "{holds} dead letters hold {parked} parked commands: only the pattern of a whole org takes them along; otherwise replay or discard them before the move"
            ));
        }
        return Ok(false);
    }
    let actor = args.who.with_reason()?;
    move_pattern::begin(database, broker, &plan, &actor).await.map_err(refusal)?;
    Ok(true)
}

fn line(progress: &Progress) -> String {
    match progress {
        Progress::Rerouted(Move { pattern, leg_from, leg_to, .. }) => format!(
            "new commands of `{pattern}` go to lane `{leg_to}`, which stands still; lane `{leg_from}` is being drained"
        ),
        Progress::Draining { of, consumers: 0, ready } => format!(
            "lane `{}`: {ready} messages wait, and no worker is subscribed: start one, or resume the lane",
            of.leg_from
        ),
        Progress::Draining { of, ready, .. } => {
            format!("lane `{}`: {ready} messages wait", of.leg_from)
        }
        Progress::BehindDeadLetters { of, waiting: Waiting { holds, parked } } => format!(
            "lane `{}`: {holds} dead letters hold {parked} parked commands; discard them (a replay waits for the move)",
            of.leg_from
        ),
        Progress::LegFinished(Move { pattern, leg_to, to, .. }) if leg_to == to => {
            format!(
                "lane `{leg_to}` goes on; it takes `{pattern}` now, and workers whose configuration says \
                 otherwise do not subscribe any more"
            )
        }
        Progress::LegFinished(Move { leg_to, to, .. }) => {
            format!("lane `{leg_to}` goes on; next comes the way from there to lane `{to}`")
        }
    }
}

fn rows(plan: &Plan) -> Vec<StepRow> {
    let mut steps = Vec::new();
    for leg in &plan.legs {
        let (pattern, from, to) = (&plan.pattern, &leg.from, &leg.to);
        let each = [
            format!("hold lane `{to}`"),
            format!("route `{pattern}` to lane `{to}`, from lane `{from}`"),
            format!("drain lane `{from}`: {} commands wait", leg.ready),
            format!("release lane `{to}`"),
        ];
        steps.extend(each);
    }
    let steps = steps.into_iter().enumerate();
    steps.map(|(index, what)| StepRow { step: index + 1, what }).collect()
}

#[derive(Serialize)]
struct StepRow {
    step: usize,
    what: String,
}

impl Row for StepRow {
    const HEADERS: &'static [&'static str] = &["STEP", "WHAT"];

    fn cells(&self) -> Vec<String> {
        vec![self.step.to_string(), self.what.clone()]
    }
}
