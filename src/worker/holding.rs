//! What a window has to do with dead letters that hold their customers: who of it waits, and whose
//! letter is done with.
//!
//! Only lanes with `after_dead_letter = "hold-customer"` ask. They have one hand, so that each part
//! of a window sees what the parts before it have put into the line.

use std::collections::HashMap;

use uuid::Uuid;

use crate::domain::holds::{Admission, Customer, Line, Place, Standing};
use crate::domain::needs::Needs;
use crate::domain::program::{Catalogue, OrgId};
use crate::domain::rejection::{Reason, Rejection};
use crate::domain::resolve;
use crate::domain::snapshot::Snapshot;
use crate::message::Message;
use crate::store;
use crate::store::command_log::CommandKey;
use crate::store::connection::Connection;
use crate::store::error::Error;
use crate::store::fence::Fence;
use crate::store::holds::{Changes, Hold, Kind, Parking, Question};
use crate::store::session::Session;
use crate::wire::{parked, rejected};
use crate::worker::dead_letter;
use crate::worker::intake::Taken;

/// The line, as far as a window is concerned, and what the window changes in it.
pub(super) struct Holding {
    line: Line,
    /// Letters by their own ids and by those of their commands, with their places.
    letters: HashMap<(OrgId, Uuid), (Uuid, i64)>,
    dead: HashMap<CommandKey, (Uuid, i64)>,
    /// The hashes of the bodies of parked commands.
    parked: HashMap<CommandKey, Vec<u8>>,
    /// How many may yet be parked, and the bound on that.
    room: usize,
    parked_max: usize,
    pub(super) changes: Changes,
}

/// A command that asks whether it may go.
pub(super) struct Asking<'a> {
    pub(super) taken: &'a Taken,
    pub(super) key: &'a CommandKey,
    pub(super) body_hash: &'a [u8; 32],
    /// Its place in the window.
    pub(super) index: usize,
    /// Whom it may mean, as things are now.
    pub(super) customers: Vec<Customer>,
}

/// Whether a command may go.
pub(super) enum Leave {
    Granted,
    Parked,
    Refused(Rejection),
}

impl Holding {
    /// Asks the database about the window; `parked_max` bounds the lane's parked commands.
    pub(super) async fn load(
        connection: &mut Connection,
        lane: &str,
        parked_max: usize,
        question: &Question,
    ) -> Result<Self, Error> {
        let found = store::holds::find(connection, lane, question).await?;
        let count =
            if found.is_empty() { 0 } else { store::holds::count(connection, lane).await? };
        if count >= parked_max {
            tracing::warn!(
                lane,
                parked = count,
                "no more commands may be parked: those of held customers go to the dead letters themselves; replay or discard the letters that hold them, or raise parked_max"
            );
        }
        let mut holding = Self {
            line: Line::default(),
            letters: HashMap::new(),
            dead: HashMap::new(),
            parked: HashMap::new(),
            room: parked_max.saturating_sub(count),
            parked_max,
            changes: Changes::default(),
        };
        for one in found {
            let sequence = one.standing.sequence;
            holding.line.stand(Place::InLine(sequence), &one.standing.customers);
            match one.kind {
                Kind::Letter(id) => {
                    holding.letters.insert((one.key.org_id, id), (id, sequence));
                    holding.dead.insert(one.key, (id, sequence));
                }
                Kind::Parked(body_hash) => {
                    holding.parked.insert(one.key, body_hash);
                }
            }
        }
        Ok(holding)
    }

    /// Whether the command may be applied now. If so, whoever comes later need not wait for it, nor
    /// for the letter that it replays.
    pub(super) fn ask(&mut self, asking: &Asking<'_>) -> Leave {
        let Asking { taken, key, body_hash, index, customers } = asking;
        if taken.parked.is_none()
            && let Some(known) = self.parked.get(*key)
        {
            return if known == body_hash {
                Leave::Parked
            } else {
                Leave::Refused(Rejection::new(
                    Reason::MessageIdReused,
                    "a command with this message_id and another body waits for a dead letter: give each command an id of its own",
                ))
            };
        }
        let letter = self.replayed(&taken.message, key);
        let in_line = taken.parked.or(letter.map(|(_, sequence)| sequence));
        let place = in_line.map_or(Place::Delivered(*index), Place::InLine);
        let (customers, added) = match self.line.admit(place, customers) {
            Admission::Granted => {
                self.changes.applied.extend(taken.parked);
                self.changes.released.extend(letter.map(|(id, _)| id));
                return Leave::Granted;
            }
            Admission::Waits { customers, added } => (customers, added),
        };
        if let Some(sequence) = taken.parked {
            if !added.is_empty() {
                self.changes.widened.push(Standing { sequence, customers: added });
            }
            return Leave::Parked;
        }
        if self.room == 0 {
            return Leave::Refused(self.refuse(asking, customers));
        }
        // A replay that has to wait takes its letter's place.
        self.room -= 1;
        self.parked.insert((*key).clone(), body_hash.to_vec());
        self.changes.released.extend(letter.map(|(id, _)| id));
        self.changes.parked.push(Parking {
            key: (*key).clone(),
            body_hash: **body_hash,
            message: parked::encode(&taken.message),
            body: taken.message.body.clone(),
            customers,
            sequence: in_line,
        });
        Leave::Parked
    }

    /// Lets nobody wait for a letter whose command turns out to be answered already.
    pub(super) fn is_answered(&mut self, taken: &Taken, key: &CommandKey) {
        self.changes.released.extend(self.replayed(&taken.message, key).map(|(id, _)| id));
        self.changes.applied.extend(taken.parked);
    }

    /// The letter that a command is the replay of: it says so, or has the same id.
    fn replayed(&self, message: &Message, key: &CommandKey) -> Option<(Uuid, i64)> {
        let named = replay_of(message).and_then(|id| self.letters.get(&(key.org_id, id)));
        named.or_else(|| self.dead.get(key)).copied()
    }

    /// The command's letter stands in the line in its stead, so order is kept even so.
    fn refuse(&mut self, asking: &Asking<'_>, customers: Vec<Customer>) -> Rejection {
        let message = &asking.taken.message;
        self.changes.held.push(Hold {
            letter_id: rejected::dead_letter_id(message, Reason::Held),
            key: asking.key.clone(),
            customers,
            replay_of: replay_of(message),
            sequence: None,
        });
        let most = self.parked_max;
        let detail = format!(
            "a dead letter of its customer holds it, and {most} commands (parked_max) are parked already: replay or discard that letter, then replay this one"
        );
        Rejection::new(Reason::Held, detail)
    }
}

/// The letter that a message says it replays.
pub(super) fn replay_of(message: &Message) -> Option<Uuid> {
    let header = message.properties.headers.get("replay-of")?.as_str()?;
    Uuid::parse_str(header).ok()
}

/// Makes the letter of a command that is given up hold the customers that it means, and those that
/// it stood for while it was parked. One that could not be read means nobody that we know of.
pub(super) async fn hold(session: &mut Session, fence: &Fence, taken: &Taken) -> Result<(), Error> {
    let Ok(read) = &taken.read else { return Ok(()) };
    let catalogue = session.catalogue().await?;
    let Some(org) = catalogue.orgs.get(&read.envelope.org_code) else { return Ok(()) };
    let connection = session.connection().await?;
    let mut needs = Needs::default();
    needs.add_command(org, &read.command);
    let mut snapshot = Snapshot::default();
    if !needs.is_empty() {
        store::load::customers(connection, &needs, &mut snapshot).await?;
    }
    let mut customers = resolve::meant(org, &snapshot, &read.command);
    if let Some(sequence) = taken.parked {
        customers.extend(store::parked::customers(connection, sequence).await?);
    }
    let hold = Hold {
        letter_id: dead_letter::id(taken),
        key: CommandKey { org_id: org.id, command_id: read.command_id.clone() },
        customers,
        replay_of: replay_of(&taken.message),
        sequence: taken.parked,
    };
    store::holds::hold(connection, fence, &hold).await?;
    let (lane, customers) = (&fence.lane, hold.customers.len());
    tracing::warn!(
        lane,
        dead_letter.id = %hold.letter_id,
        "a dead letter holds {customers} customers: their later commands wait until it is replayed or discarded"
    );
    Ok(())
}

/// What a window asks of the line.
pub(super) fn question<'a>(
    catalogue: &Catalogue,
    snapshot: &Snapshot,
    taken: impl Iterator<Item = &'a Taken>,
) -> Question {
    let mut question = Question::default();
    for taken in taken {
        question.letters.extend(replay_of(&taken.message));
        let Ok(read) = &taken.read else { continue };
        let Some(org) = catalogue.orgs.get(&read.envelope.org_code) else { continue };
        question.customers.extend(resolve::meant(org, snapshot, &read.command));
        let command_id = read.command_id.clone();
        question.keys.push(CommandKey { org_id: org.id, command_id });
    }
    question
}
