//! `dead-letters list` and `dead-letters groups`

use crate::cli::context::{Context, Exit, Refusal};
use crate::cli::dead_letters::filter::FilterArgs;
use crate::cli::dead_letters::views::{GroupRow, LetterRow};
use crate::cli::output::note;
use crate::store::connection::Connection;
use crate::store::dead_letters::filter::Cursor;
use crate::store::dead_letters::{groups, list};

/// Letters, newest first
#[derive(clap::Args)]
#[command(after_help = "\
Shows letters of every state unless --state says which. Nothing here is personal data.

Examples:
  partner-program dead-letters list --state open --since 1h
  partner-program dead-letters list --customer +919876543210
  partner-program dead-letters list --org acme --text 'membership' -o ndjson | jq -r .id")]
pub(in crate::cli) struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Go on behind this letter: the `cursor` of the last one
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
}

/// Letters that failed alike, those with most open letters first
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  partner-program dead-letters groups
  partner-program dead-letters groups --org acme --state open
  partner-program dead-letters groups -o json | jq '.[] | select(.failed_again > 0) | .group'")]
pub(in crate::cli) struct GroupsArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

pub(super) async fn list(
    args: &ListArgs,
    connection: &mut Connection,
    context: &mut Context,
) -> anyhow::Result<Exit> {
    let filter = args.filter.filter(&[], connection, &context.config).await?;
    let unreadable = || Refusal::Usage("--after: give the `cursor` of a letter".to_owned());
    let after = args.after.as_deref();
    let after = after.map(|text| Cursor::parse(text).ok_or_else(unreadable)).transpose()?;
    let letters = list::list(connection, &filter, after, args.limit.into()).await?;
    let count = list::count(connection, &filter).await?;
    let rows: Vec<LetterRow> = letters.into_iter().map(LetterRow::of).collect();
    context.output.rows(&rows)?;
    let more = if count.is_exact { "" } else { "more than " };
    note(&format!("{} of {more}{} letter(s)", rows.len(), count.letters));
    Ok(Exit::Success)
}

pub(super) async fn groups(
    args: &GroupsArgs,
    connection: &mut Connection,
    context: &mut Context,
) -> anyhow::Result<Exit> {
    let filter = args.filter.filter(&[], connection, &context.config).await?;
    let groups = groups::groups(connection, &filter, args.limit.into()).await?;
    let rows: Vec<GroupRow> = groups.into_iter().map(GroupRow::of).collect();
    context.output.rows(&rows)?;
    if rows.is_empty() {
        note("no dead letters");
    }
    Ok(Exit::Success)
}
