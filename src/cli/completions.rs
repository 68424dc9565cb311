//! `partner-program completions`

use clap_complete::Shell;

use crate::cli::context::Exit;
use crate::cli::output::Output;

/// Print the script that completes commands and options in a shell
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  partner-program completions bash > /etc/bash_completion.d/partner-program
  partner-program completions zsh > ~/.zfunc/_partner-program
  partner-program completions fish > ~/.config/fish/completions/partner-program.fish")]
pub(super) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(
    args: &Args,
    mut command: clap::Command,
    mut output: Output,
) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "partner-program", &mut script);
    output.raw(&script)?;
    Ok(Exit::Success)
}
