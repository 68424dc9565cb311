//! `dead-letters edit`

use std::fs::{self, OpenOptions};
use std::io::{IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use serde_json::json;
use uuid::Uuid;

use crate::cli::ask::WhoArgs;
use crate::cli::context::{Context, Exit, Refusal};
use crate::cli::output::note;
use crate::domain::bulk_job::BulkJobKind;
use crate::domain::dead_letter::State;
use crate::store::connection::Connection;
use crate::store::dead_letters::audit::{self, AuditAction};
use crate::store::dead_letters::bulk_jobs::Plan;
use crate::store::dead_letters::filter::Filter;
use crate::store::dead_letters::show::{self, Letter};
use crate::usecases::dead_letters::error::Error;
use crate::usecases::dead_letters::run;
use crate::usecases::dead_letters::{edit, json_text};

/// Replay a corrected copy of a letter
#[derive(clap::Args)]
#[command(after_help = "\
Without --file the body is opened in $VISUAL or $EDITOR, and again for as long as a worker would
refuse it. The copy has a new command id; from the same moment on the original is superseded. Exits
with 5 if the letter is not open, or the file would be refused.

Examples:
  partner-program dead-letters edit 0e5ad0a4-5a54-8d7b-9c62-6f0d7d7c3b0a --reason OPS-12
  partner-program dead-letters edit 0e5ad0a4-5a54-8d7b-9c62-6f0d7d7c3b0a --file f.json --reason why")]
pub(in crate::cli) struct Args {
    /// The letter
    #[arg(value_name = "ID")]
    id: Uuid,
    /// The corrected body; `-` is standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Another routing key: {org}.{link|update|delink}, perhaps with a bucket
    #[arg(long, value_name = "KEY")]
    routing_key: Option<String>,
    /// Keep the copy among the open letters, do not replay it
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    who: WhoArgs,
}

pub(super) async fn run(
    args: &Args,
    connection: &mut Connection,
    context: &mut Context,
) -> anyhow::Result<Exit> {
    let actor = args.who.with_reason()?;
    if !args.keep {
        run::check_broker(connection, &context.config).await?;
    }
    let letter = show::show(connection, args.id).await?.ok_or(Error::NotFound(args.id))?;
    if letter.state != State::Open {
        let text =
            format!("letter {} is {}: only an open one can be edited", args.id, letter.state);
        return Err(Refusal::Conflict(text).into());
    }
    edit::check_has_its_body(&letter)?;
    let routing_key = args.routing_key.as_deref().unwrap_or(&letter.routing_key);
    let body = if let Some(file) = &args.file {
        read(file)?
    } else {
        if !std::io::stdin().is_terminal() {
            return Err(Refusal::Usage("--file: there is no terminal to edit in".to_owned()).into());
        }
        // The editor shows what show would hide.
        audit::note(connection, &[args.id], AuditAction::Unmask, &actor, None).await?;
        let Some(body) = in_editor(&letter, routing_key)? else {
            note("nothing was changed");
            return Ok(Exit::Success);
        };
        body
    };
    let copy = edit::edit(connection, args.id, args.routing_key.as_deref(), &body, &actor).await?;
    let mut replayed = false;
    if !args.keep {
        let plan = Plan {
            kind: BulkJobKind::Replay,
            filter: Filter::of_ids(vec![copy]),
            actor,
            dead_letters_max: None,
            dead_letters_per_second: None,
            overrides_publisher: false,
        };
        let runner = format!("cli {}", Uuid::now_v7());
        let job = run::begin(connection, plan, Some(&runner)).await?;
        let outcome = run::run(connection, &context.config, job, &runner, |_| {}).await?;
        for why in outcome.skipped.keys() {
            note(&format!("the copy is kept open: {why}"));
        }
        replayed = outcome.progress.done == 1;
    }
    let view = json!({ "copy": copy, "superseded": args.id, "replayed": replayed });
    let fields = [
        ("copy", copy.to_string()),
        ("superseded", args.id.to_string()),
        ("replayed", if replayed { "yes" } else { "no, it is open" }.to_owned()),
    ];
    context.output.record(&view, &fields)?;
    Ok(if replayed || args.keep { Exit::Success } else { Exit::PartlyFailed })
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut body).context("can't read standard input")?;
    } else {
        body = fs::read(file).with_context(|| format!("can't read {}", file.display()))?;
    }
    Ok(body)
}

/// The body as the operator has corrected it; `None` if nothing was changed.
fn in_editor(letter: &Letter, routing_key: &str) -> anyhow::Result<Option<Vec<u8>>> {
    let original = json_text::text(&letter.body).map_err(|why| {
        let id = letter.id;
        Refusal::Conflict(format!(
            "{why}: get it with `dead-letters download {id} --file F`, change it there, and use --file F"
        ))
    })?;
    let given = json_text::readable(original);
    let file = Scratch::with(given.as_bytes())?;
    note(&format!("{}: {}", letter.reason, letter.detail));
    loop {
        file.open_editor()?;
        let edited = fs::read(&file.0).context("the edited file is gone")?;
        // An editor may end the last line.
        if edited.trim_ascii_end() == given.trim_ascii_end().as_bytes() {
            return Ok(None);
        }
        let body = match str::from_utf8(&edited) {
            Ok(edited) => json_text::merged(original, edited).into_bytes(),
            Err(_) => edited,
        };
        match edit::check(letter, routing_key, &body) {
            Ok(()) => return Ok(Some(body)),
            Err(error) => note(&format!("{error}; Enter opens it again, Ctrl-C gives up")),
        }
        std::io::stdin().read_line(&mut String::new())?;
    }
}

/// A file that no other user may read, deleted when this is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn with(content: &[u8]) -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("dead-letter-{}.json", Uuid::new_v4()));
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&path)?;
        let scratch = Self(path);
        file.write_all(content)?;
        Ok(scratch)
    }

    fn open_editor(&self) -> anyhow::Result<()> {
        let set = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
        let editor = set("VISUAL").or_else(|| set("EDITOR")).unwrap_or_else(|| "vi".to_owned());
        let mut words = editor.split_whitespace();
        let program = words.next().unwrap_or("vi");
        let status = Command::new(program).args(words).arg(&self.0).status();
        let status = status.with_context(|| format!("can't start the editor {program}"))?;
        anyhow::ensure!(status.success(), "the editor {program} ended with {status}");
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if fs::remove_file(&self.0).is_err() {
            note(&format!("{} holds personal data and could not be removed", self.0.display()));
        }
    }
}
