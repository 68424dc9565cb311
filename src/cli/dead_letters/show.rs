//! `dead-letters show`

use serde_json::{Value, json};
use uuid::Uuid;

use crate::cli::ask::WhoArgs;
use crate::cli::context::{Context, Exit};
use crate::cli::dead_letters::views::ActionRow;
use crate::cli::output::{moment, note, or_dash};
use crate::store::connection::Connection;
use crate::store::dead_letters::audit::{self, AuditAction};
use crate::store::dead_letters::show::{self, Letter};
use crate::usecases::dead_letters::eligible;
use crate::usecases::dead_letters::error::Error;
use crate::usecases::dead_letters::mask::masked;
use crate::usecases::dead_letters::{export, json_text};

/// A letter: what it was, why it died, what was done with it
#[derive(clap::Args)]
#[command(after_help = "\
Values in body and headers are hidden, for they may be personal data; --unmask shows them, which
is noted. Exits with 3 if there is no such letter.

Examples:
  partner-program dead-letters show 0e5ad0a4-5a54-8d7b-9c62-6f0d7d7c3b0a
  partner-program dead-letters show 0e5ad0a4-5a54-8d7b-9c62-6f0d7d7c3b0a --unmask --reason why")]
pub(in crate::cli) struct Args {
    /// The letter
    #[arg(value_name = "ID")]
    id: Uuid,
    /// Show personal data, and note who did
    #[arg(long)]
    unmask: bool,
    #[command(flatten)]
    who: WhoArgs,
}

pub(super) async fn run(
    args: &Args,
    connection: &mut Connection,
    context: &mut Context,
) -> anyhow::Result<Exit> {
    let letter = show::show(connection, args.id).await?.ok_or(Error::NotFound(args.id))?;
    if args.unmask {
        let actor = args.who.with_reason_or("no reason given")?;
        audit::note(connection, &[args.id], AuditAction::Unmask, &actor, None).await?;
    }
    let timeline = audit::timeline(connection, args.id).await?;
    let timeline: Vec<ActionRow> = timeline.into_iter().map(ActionRow::of).collect();
    let mut view = export::line(&letter);
    if !args.unmask {
        hide(&mut view, &letter);
    }
    view["timeline"] = serde_json::to_value(&timeline)?;
    context.output.record(&view, &fields(&letter))?;
    if context.output.is_for_people() {
        context.output.rows(&timeline)?;
        match (view.get("body"), view.get("body_base64")) {
            _ if args.unmask => {
                let (text, not_utf8) = json_text::escaped(&letter.body);
                if let Some(at) = not_utf8 {
                    note(&format!(
                        "byte {at} of the body is no UTF-8: `\\x` stands before such bytes"
                    ));
                }
                context.output.text(&json_text::readable(&text))?;
            }
            (Some(Value::Null) | None, None) => {
                note(&format!(
                    "the body, {} bytes, is no JSON: --unmask shows it",
                    letter.body.len()
                ));
            }
            (Some(body), _) | (_, Some(body)) => context.output.document(body)?,
        }
    }
    Ok(Exit::Success)
}

/// Leaves of body and headers only what is not personal.
fn hide(view: &mut Value, letter: &Letter) {
    if let Some(view) = view.as_object_mut() {
        view.remove("body_base64");
    }
    view["body"] = masked(&letter.body).unwrap_or_default();
    let names = letter.headers.as_object().into_iter().flat_map(|headers| headers.keys());
    view["headers"] = names.map(|name| (name.clone(), json!("•••"))).collect();
}

/// How much of the body was kept.
fn body(letter: &Letter) -> String {
    let bytes = letter.body.len();
    match eligible::whole_body(letter) {
        Some((length, hash)) => format!("the first {bytes} of {length} bytes, SHA-256 {hash}"),
        None => format!("{bytes} bytes"),
    }
}

/// Its place in the order of death among the letters of its lane.
fn in_queue(letter: &Letter) -> String {
    match letter.lane_epoch.zip(letter.delivery_tag) {
        Some((epoch, tag)) => format!("epoch {epoch}, delivery {tag}"),
        None => "not known: ordered by its time of death".to_owned(),
    }
}

/// A property as the publisher set it.
fn property(letter: &Letter, name: &str) -> String {
    match letter.properties.get(name) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn fields(letter: &Letter) -> Vec<(&'static str, String)> {
    let ids = |ids: &[Uuid]| {
        let ids: Vec<String> = ids.iter().map(Uuid::to_string).collect();
        if ids.is_empty() { "-".to_owned() } else { ids.join(", ") }
    };
    vec![
        ("letter", letter.id.to_string()),
        ("state", letter.state.to_string()),
        ("reason", letter.reason.clone()),
        ("detail", letter.detail.clone()),
        ("place", or_dash(letter.pointer.as_ref())),
        ("group", letter.fingerprint.clone()),
        ("org", or_dash(letter.org.as_ref())),
        ("operation", letter.operation.clone()),
        ("command", or_dash(letter.command_id.as_ref())),
        ("correlation", or_dash(letter.correlation_id.as_ref())),
        (
            "from",
            format!("{} as {}", or_dash(letter.app_id.as_ref()), or_dash(letter.user_id.as_ref())),
        ),
        ("sent", or_dash(letter.sent_at.map(moment).as_ref())),
        ("routing key", letter.routing_key.clone()),
        ("priority", property(letter, "priority")),
        ("expiration", property(letter, "expiration")),
        ("lane", or_dash(letter.lane.as_ref())),
        ("in its queue", in_queue(letter)),
        ("body", body(letter)),
        ("attempts", letter.attempts.to_string()),
        ("first death", moment(letter.first_died_at)),
        ("last death", moment(letter.last_died_at)),
        ("deaths", letter.deaths.to_string()),
        ("replay of", or_dash(letter.replay_of.as_ref())),
        ("came back as", ids(&letter.replay_died_as)),
        ("edited from", or_dash(letter.edited_from.as_ref())),
        ("superseded by", or_dash(letter.superseded_by.as_ref())),
    ]
}
