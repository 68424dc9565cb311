//! `partner-program man`

use std::path::PathBuf;

use anyhow::Context as _;
use clap_mangen::Man;

use crate::cli::context::Exit;
use crate::cli::output::{Output, note};

/// Print the manual page, or write one for each subcommand to a folder
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  partner-program man | man -l -
  partner-program man --dir /usr/local/share/man/man1")]
pub(super) struct Args {
    /// Write all pages to this folder, which is made if need be
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

pub(super) fn run(args: &Args, command: clap::Command, mut output: Output) -> anyhow::Result<Exit> {
    if let Some(dir) = &args.dir {
        let failed = || format!("can't write the manual pages to {}", dir.display());
        std::fs::create_dir_all(dir).with_context(failed)?;
        clap_mangen::generate_to(command, dir).with_context(failed)?;
        note(&format!("manual pages are in {}", dir.display()));
    } else {
        let mut page = Vec::new();
        Man::new(command).render(&mut page)?;
        output.raw(&page)?;
    }
    Ok(Exit::Success)
}
