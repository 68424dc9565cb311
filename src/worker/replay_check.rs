//! Which replays of a window still count: each is judged by its letter, whatever its headers say.

use std::collections::{HashMap, HashSet};

use crate::config::{self, Publishers};
use crate::domain::program::Org;
use crate::domain::rejection::{Reason, Rejection};
use crate::domain::replay::{Arrival, Replay, ReplayedLetter};
use crate::domain::resolve;
use crate::domain::snapshot::Snapshot;
use crate::store::command_log::CommandKey;
use crate::store::connection::Connection;
use crate::store::dead_letters::replayed;
use crate::store::error::Error;
use crate::store::history;
use crate::wire::{envelope, replay};
use crate::worker::intake::{Read, Taken};

/// What becomes of a replay that the inbox does not know.
pub(super) enum Verdict {
    /// It is processed; what comes of it is noted of its letter.
    Counts(Replay),
    /// Its letter was taken back.
    TakenBack,
    /// The history has its command, which the inbox has forgotten.
    AlreadyApplied(Replay),
    Refused(Rejection),
}

/// The letters of a window's replays.
#[derive(Default)]
pub(super) struct ReplayCheck {
    letters: HashMap<uuid::Uuid, ReplayedLetter>,
    applied: HashSet<CommandKey>,
}

impl ReplayCheck {
    /// Asks the database, if the window has replays.
    pub(super) async fn load(connection: &mut Connection, taken: &[&Taken]) -> Result<Self, Error> {
        let ids: Vec<_> = replays(taken).map(|replay| replay.letter_id).collect();
        if ids.is_empty() {
            return Ok(Self::default());
        }
        let letters = replayed::find(connection, &ids).await?;
        Ok(Self { letters, applied: HashSet::new() })
    }

    /// Asks the history for the replays among these commands, by the customers that they mean.
    pub(super) async fn load_history(
        &mut self,
        connection: &mut Connection,
        snapshot: &Snapshot,
        commands: impl Iterator<Item = (&Org, &Read)>,
    ) -> Result<(), Error> {
        if self.letters.is_empty() {
            return Ok(());
        }
        let ids: HashSet<&str> =
            self.letters.values().map(|letter| letter.command_id.as_str()).collect();
        let mut asked = Vec::new();
        for (org, read) in commands {
            if ids.contains(read.command_id.as_str()) {
                let key = CommandKey { org_id: org.id, command_id: read.command_id.clone() };
                asked.push((key, resolve::meant(org, snapshot, &read.command)));
            }
        }
        self.applied = history::commands(connection, &asked).await?;
        Ok(())
    }

    /// What becomes of a message; nothing if it is no replay. `key` is that of its command, where it
    /// can be read.
    pub(super) fn judge(
        &self,
        taken: &Taken,
        key: Option<&CommandKey>,
        publishers: &Publishers,
    ) -> Option<Verdict> {
        let replay = replay::read(&taken.message)?;
        let org_code = envelope::org(&taken.message.routing_key);
        let Some(letter) = self.letters.get(&replay.letter_id) else {
            // A restored database may not have it: then it is not known who published the command.
            return refuse(None, org_code, publishers).map(Verdict::Refused);
        };
        match letter.judge(replay, taken.message.properties.message_id.as_deref()) {
            Arrival::Unrelated => refuse(None, org_code, publishers).map(Verdict::Refused),
            Arrival::TakenBack => Some(Verdict::TakenBack),
            Arrival::Counts if key.is_some_and(|key| self.applied.contains(key)) => {
                Some(Verdict::AlreadyApplied(replay))
            }
            Arrival::Counts if letter.is_publisher_overridden => Some(Verdict::Counts(replay)),
            Arrival::Counts => {
                let refused = refuse(letter.user_id.as_deref(), org_code, publishers);
                Some(refused.map_or(Verdict::Counts(replay), Verdict::Refused))
            }
        }
    }
}

fn replays<'a>(taken: &'a [&Taken]) -> impl Iterator<Item = Replay> + 'a {
    taken.iter().filter_map(|taken| replay::read(&taken.message))
}

/// Why the user that published a replayed command may not act for its org.
fn refuse(
    user: Option<&str>,
    org_code: Option<&str>,
    publishers: &Publishers,
) -> Option<Rejection> {
    let may = config::may_publish(publishers, user, org_code.unwrap_or_default());
    let who = user.map_or_else(|| "an unknown user".to_owned(), |user| format!("user `{user}`"));
    (!may).then(|| {
        Rejection::new(
            Reason::PublisherNotAllowed,
            format!("{who} published the replayed command and may not act for its org: replay it alone with --override-publisher"),
        )
    })
}
