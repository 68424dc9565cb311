//! Which replays of a batch still count: the dead letter of each decides, whatever the message's headers say.

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
use crate::worker::lane::receive::{DecodedCommand, Delivery};

/// What becomes of a replay that the inbox does not know.
pub(crate) enum Verdict {
    /// It is processed, and its outcome becomes that of its dead letter.
    Counts(Replay),
    /// The replay was taken back.
    TakenBack,
    /// The history has its command, which the inbox has forgotten.
    AlreadyApplied(Replay),
    Refused(Rejection),
}

/// The dead letters of a batch's replays.
#[derive(Default)]
pub(crate) struct ReplayCheck {
    letters: HashMap<uuid::Uuid, ReplayedLetter>,
    applied: HashSet<CommandKey>,
}

impl ReplayCheck {
    /// Asks the database, if the batch has replays.
    pub(crate) async fn load(
        connection: &mut Connection,
        deliveries: &[&Delivery],
    ) -> Result<Self, Error> {
        let ids: Vec<_> = replays(deliveries).map(|replay| replay.dead_letter_id).collect();
        if ids.is_empty() {
            return Ok(Self::default());
        }
        let letters = replayed::find(connection, &ids).await?;
        Ok(Self { letters, applied: HashSet::new() })
    }

    /// Asks the history for the replays among these commands, by the customers that they mean.
    pub(crate) async fn load_history(
        &mut self,
        connection: &mut Connection,
        snapshot: &Snapshot,
        commands: impl Iterator<Item = (&Org, &DecodedCommand)>,
    ) -> Result<(), Error> {
        if self.letters.is_empty() {
            return Ok(());
        }
        let ids: HashSet<&str> =
            self.letters.values().map(|letter| letter.command_id.as_str()).collect();
        let mut asked = Vec::new();
        for (org, decoded) in commands {
            if ids.contains(decoded.command_id.as_str()) {
                let key = CommandKey { org_id: org.id, command_id: decoded.command_id.clone() };
                asked.push((key, resolve::meant(org, snapshot, &decoded.command)));
            }
        }
        self.applied = history::commands(connection, &asked).await?;
        Ok(())
    }

    /// What becomes of a message; nothing if it is no replay. `key` is that of its command, where it
    /// can be read.
    pub(crate) fn check(
        &self,
        delivery: &Delivery,
        key: Option<&CommandKey>,
        publishers: &Publishers,
    ) -> Option<Verdict> {
        let replay = replay::read(&delivery.message)?;
        let org_code = envelope::org(&delivery.message.routing_key);
        let Some(letter) = self.letters.get(&replay.dead_letter_id) else {
            // A restored database may not have it: then it is not known who published the command.
            return refuse(None, org_code, publishers).map(Verdict::Refused);
        };
        match letter.check(replay, delivery.message.properties.message_id.as_deref()) {
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

fn replays<'a>(delivery: &'a [&Delivery]) -> impl Iterator<Item = Replay> + 'a {
    delivery.iter().filter_map(|delivery| replay::read(&delivery.message))
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
