//! Who acts, and whether they mean it.

use std::io::{BufRead, IsTerminal};
use std::num::NonZeroU32;

use crate::cli::context::{Context, Refusal};
use crate::cli::output::note;
use crate::domain::actor::Actor;

/// Who acts and why, for the audit.
#[derive(clap::Args)]
pub(super) struct WhoArgs {
    /// Why: for those who look into it later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    by: ByArgs,
}

/// Who acts.
#[derive(clap::Args)]
pub(super) struct ByArgs {
    /// Who acts, if not the user of this machine
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
}

impl ByArgs {
    /// The name, for the audit: as it is given, or that of the machine's user.
    pub(super) fn name(&self) -> Result<String, Refusal> {
        let given = self.actor.as_deref().map(str::trim).filter(|name| !name.is_empty());
        let user = || set("SUDO_USER").or_else(|| set("USER")).or_else(|| set("LOGNAME"));
        given.map(str::to_owned).or_else(user).ok_or_else(|| {
            let text =
                "say who acts, as the audit keeps it: --actor NAME, or set the variable USER";
            Refusal::Usage(text.to_owned())
        })
    }
}

impl WhoArgs {
    /// Everything that changes something needs a reason.
    pub(super) fn with_reason(&self) -> Result<Actor, Refusal> {
        match self.reason.as_deref().map(str::trim) {
            Some(reason) if !reason.is_empty() => self.actor(reason),
            _ => Err(Refusal::Usage("say why: --reason 'OPS-12: the tier was missing'".to_owned())),
        }
    }

    pub(super) fn with_reason_or(&self, otherwise: &str) -> Result<Actor, Refusal> {
        self.actor(self.reason.as_deref().unwrap_or(otherwise))
    }

    /// For what a deployment runs without a person: `program` stands for one that is not known.
    pub(super) fn of_program(&self, reason: &str, program: &str) -> Actor {
        let name = self.by.name().unwrap_or_else(|_unknown| program.to_owned());
        let reason = self.reason.as_deref().unwrap_or(reason).to_owned();
        Actor { name, reason, source: source() }
    }

    fn actor(&self, reason: &str) -> Result<Actor, Refusal> {
        Ok(Actor { name: self.by.name()?, reason: reason.to_owned(), source: source() })
    }
}

/// The command line of this machine.
fn source() -> String {
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = set("HOSTNAME").or_else(host).unwrap_or_default();
    format!("cli {}", host.trim()).trim().to_owned()
}

/// A rate, or another count that is above zero.
pub(super) fn positive(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_| {
        "write a whole number from 1 on, or leave the option out for no bound".to_owned()
    })
}

/// A variable of the environment that says something.
fn set(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Asks before many letters are touched; a script says `--yes`.
pub(super) async fn confirm(question: &str, yes: bool, context: &Context) -> Result<bool, Refusal> {
    if yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() || !context.output.is_for_people() {
        return Err(Refusal::Usage(format!("{question} There is no terminal to ask: add --yes")));
    }
    note(&format!("{question} [y/N]"));
    let asking = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer).map(|_| answer)
    });
    let answer = match asking.await {
        Ok(Ok(answer)) => answer,
        _ => String::new(),
    };
    let means_it = matches!(answer.trim().to_lowercase().as_str(), "y" | "yes");
    if !means_it {
        note("nothing was done");
    }
    Ok(means_it)
}
