//! Letters whose commands have taken effect, as the history says when the inbox has forgotten them.

use uuid::Uuid;

use crate::broker::topology;
use crate::domain::needs::Needs;
use crate::domain::resolve;
use crate::domain::snapshot::Snapshot;
use crate::store::command_log::CommandKey;
use crate::store::connection::Connection;
use crate::store::dead_letters::applied;
use crate::store::dead_letters::show::Letter;
use crate::store::{catalogue, history, load};
use crate::usecases::dead_letters::eligible;
use crate::usecases::dead_letters::error::Error;
use crate::wire::decode;
use crate::wire::envelope::Envelope;

/// Notes of those letters whose commands the history has that they are applied, and returns them. What
/// can't be read as a command has never taken effect.
pub(super) async fn note_applied(
    connection: &mut Connection,
    letters: &[Letter],
) -> Result<Vec<Uuid>, Error> {
    let catalogue = catalogue::load(connection).await?;
    let mut needs = Needs::default();
    let mut commands = Vec::new();
    for letter in letters.iter().filter(|letter| eligible::has_own_id(letter)) {
        let message = eligible::original(letter, topology::COMMANDS);
        let Ok(envelope) = Envelope::parse(&message) else { continue };
        let Ok(command) = decode::decode(&message.body, envelope.operation) else { continue };
        let Some(org) = catalogue.orgs.get(&envelope.org_code) else { continue };
        needs.add_command(org, &command);
        let command_id = letter.command_id.clone().unwrap_or_else(|| letter.id.to_string());
        commands.push((letter.id, org, CommandKey { org_id: org.id, command_id }, command));
    }
    let mut snapshot = Snapshot::default();
    if !needs.is_empty() {
        load::customers(connection, &needs, &mut snapshot).await?;
    }
    let meant = commands
        .iter()
        .map(|(_, org, key, command)| (key.clone(), resolve::meant(org, &snapshot, command)));
    let asked: Vec<_> = meant.collect();
    let applied = history::commands(connection, &asked).await?;
    let ids = commands.iter().filter(|(_, _, key, _)| applied.contains(key)).map(|(id, ..)| *id);
    let ids: Vec<Uuid> = ids.collect();
    applied::mark_by_history(connection, &ids).await?;
    Ok(ids)
}
