//! Decides which commands of a batch wait for a dead letter of their customer, and which dead letters
//! they release.
//!
//! Only lanes with `after_dead_letter = "hold-customer"` have a wait queue. They have one executor, so that each
//! part of a batch sees what the parts before it have put into it. Another lane only looks up the dead letters
//! that its commands may replay: a replay may come through any lane.

use std::collections::HashMap;

use uuid::Uuid;

use crate::config::Config;
use crate::config::lane::AfterDeadLetter;
use crate::domain::holds::{Admission, Customer, Entry, Position, WaitQueue};
use crate::domain::needs::Needs;
use crate::domain::program::Catalogue;
use crate::domain::rejection::{Reason, Rejection};
use crate::domain::resolve;
use crate::domain::snapshot::Snapshot;
use crate::message::Message;
use crate::store;
use crate::store::command_log::CommandKey;
use crate::store::connection::Connection;
use crate::store::error::Error;
use crate::store::fence::Fence;
use crate::store::held_letters::{HeldLetter, Hold};
use crate::store::holds::{Changes, Kind, Parking, Question};
use crate::store::session::Session;
use crate::wire::parked_event::Waiting;
use crate::wire::{parked, replay};
use crate::worker::lane::dead_letter;
use crate::worker::lane::receive::Delivery;

/// What a lane asks about the dead letters that hold their customers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// The lane holds customers, and parks at most so many commands.
    Here { parked_max: usize },
    /// Another lane holds customers: a command of this one may release them.
    Elsewhere,
    /// No lane holds customers: only a replay may release what an earlier configuration has held.
    Nowhere,
}

impl Holds {
    /// What the configuration says of the lane.
    pub(crate) fn of(config: &Config, name: &str) -> Self {
        let mut is_elsewhere = false;
        for lane in &config.lanes {
            match lane.after_dead_letter {
                AfterDeadLetter::HoldCustomer { parked_max } if lane.name == name => {
                    return Self::Here { parked_max };
                }
                AfterDeadLetter::HoldCustomer { .. } => is_elsewhere = true,
                AfterDeadLetter::Skip => {}
            }
        }
        if is_elsewhere { Self::Elsewhere } else { Self::Nowhere }
    }

    /// Whether the lane holds customers itself.
    pub(crate) const fn is_here(self) -> bool {
        matches!(self, Self::Here { .. })
    }
}

/// The dead letters that commands of a batch may be replays of.
#[derive(Default)]
struct HeldLetters {
    /// By their own ids and by those of the dead letters that their replays became.
    by_id: HashMap<Uuid, HeldLetter>,
    by_command: HashMap<CommandKey, HeldLetter>,
}

impl HeldLetters {
    fn of(letters: Vec<HeldLetter>) -> Self {
        let mut all = Self::default();
        for letter in letters {
            for id in [Some(letter.dead_letter_id), letter.replay_died_as].into_iter().flatten() {
                all.by_id.insert(id, letter.clone());
            }
            all.by_command.insert(letter.key.clone(), letter);
        }
        all
    }

    /// The dead letter that a command replays: the command names it, or has its id. A command of another org is
    /// believed only if it is the edited copy that went to that org.
    fn replayed_by(&self, message: &Message, key: &CommandKey) -> Option<&HeldLetter> {
        let named =
            replay::dead_letter_id(message).and_then(|id| self.by_id.get(&id)).filter(|letter| {
                let is_copy = letter.replay_org_id == Some(key.org_id)
                    && letter.key.command_id == key.command_id;
                letter.key.org_id == key.org_id || is_copy
            });
        named.or_else(|| self.by_command.get(key))
    }
}

/// The wait queue, as far as a batch is concerned, and what the batch changes in it.
pub(crate) struct BatchHolds {
    lane: String,
    /// Of the lane, in which the batch was delivered.
    epoch: i64,
    /// Whether the lane holds customers: in other lanes no command waits.
    has_wait_queue: bool,
    wait_queue: WaitQueue,
    letters: HeldLetters,
    /// The dead letters by their positions in the wait queue.
    letter_positions: HashMap<Position, Uuid>,
    /// The positions of parked commands, and the hashes of their bodies.
    parked: HashMap<CommandKey, (Position, Vec<u8>)>,
    /// How many may yet be parked, and the bound on that.
    room: usize,
    parked_max: usize,
    pub(crate) changes: Changes,
}

/// A command that asks whether it may be applied.
pub(crate) struct AdmissionRequest<'a> {
    pub(crate) delivery: &'a Delivery,
    pub(crate) key: &'a CommandKey,
    pub(crate) body_hash: &'a [u8; 32],
    /// Its place in the batch.
    pub(crate) index: usize,
    /// The customers that it may name, by the facts of this batch.
    pub(crate) customers: Vec<Customer>,
}

/// Whether a command may be applied.
pub(crate) enum AdmissionOutcome {
    Granted,
    /// It waits. Its publisher is told, unless it has waited before.
    Parked(Option<Waiting>),
    Refused(Rejection),
}

impl BatchHolds {
    /// Asks the database about the batch; nothing, if there is nothing to ask.
    pub(crate) async fn load(
        connection: &mut Connection,
        fence: &Fence,
        holds: Holds,
        question: &Question,
    ) -> Result<Option<Self>, Error> {
        let parked_max = match holds {
            Holds::Here { parked_max } => parked_max,
            Holds::Nowhere if question.letters.is_empty() => return Ok(None),
            Holds::Elsewhere | Holds::Nowhere => {
                let letters = replayed(connection, question).await?;
                return Ok(Some(Self { letters, ..Self::without_wait_queue(fence) }));
            }
        };
        let lane = &fence.lane;
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
        let mut holds_of_batch = Self {
            has_wait_queue: true,
            room: parked_max.saturating_sub(count),
            parked_max,
            ..Self::without_wait_queue(fence)
        };
        if found.iter().any(|one| matches!(one.kind, Kind::Letter(_))) {
            holds_of_batch.letters = replayed(connection, question).await?;
        }
        for one in found {
            let position = Position::Queued(one.entry.sequence);
            holds_of_batch.wait_queue.enqueue(position, &one.entry.customers);
            match one.kind {
                Kind::Letter(dead_letter_id) => {
                    holds_of_batch.letter_positions.insert(position, dead_letter_id);
                }
                Kind::Parked(body_hash) => {
                    holds_of_batch.parked.insert(one.key, (position, body_hash));
                }
            }
        }
        Ok(Some(holds_of_batch))
    }

    fn without_wait_queue(fence: &Fence) -> Self {
        Self {
            lane: fence.lane.clone(),
            epoch: fence.epoch,
            has_wait_queue: false,
            wait_queue: WaitQueue::default(),
            letters: HeldLetters::default(),
            letter_positions: HashMap::new(),
            parked: HashMap::new(),
            room: 0,
            parked_max: 0,
            changes: Changes::default(),
        }
    }

    /// Whether commands may have to wait in this lane.
    pub(crate) const fn has_wait_queue(&self) -> bool {
        self.has_wait_queue
    }

    /// Whether the command may be applied now. If so, later commands wait neither for it nor for the dead
    /// letter that it replays.
    pub(crate) fn admit(&mut self, request: &AdmissionRequest<'_>) -> AdmissionOutcome {
        let AdmissionRequest { delivery, key, body_hash, index, customers } = request;
        if !self.has_wait_queue {
            self.is_answered(delivery, key);
            return AdmissionOutcome::Granted;
        }
        if delivery.parked.is_none()
            && let Some((position, known)) = self.parked.get(*key)
        {
            return if known == body_hash {
                // It was delivered again: whether its publisher was told is not known.
                AdmissionOutcome::Parked(Some(self.waiting(*position)))
            } else {
                AdmissionOutcome::Refused(Rejection::new(
                    Reason::MessageIdReused,
                    "a command with this message_id and another body waits for a dead letter: give each command an id of its own",
                ))
            };
        }
        let letter = self.letters.replayed_by(&delivery.message, key).cloned();
        let in_line = delivery.parked.or(letter.as_ref().map(|letter| letter.sequence));
        let position = in_line.map_or(Position::Delivered(*index), Position::Queued);
        let (customers, added) = match self.wait_queue.admit(position, customers) {
            Admission::Granted => {
                self.changes.applied.extend(delivery.parked);
                self.changes.released.extend(letter.map(|letter| letter.dead_letter_id));
                return AdmissionOutcome::Granted;
            }
            Admission::Waits { customers, added } => (customers, added),
        };
        if let Some(sequence) = delivery.parked {
            if !added.is_empty() {
                self.changes.widened.push(Entry { sequence, customers: added });
            }
            return AdmissionOutcome::Parked(None);
        }
        if self.room == 0 {
            return AdmissionOutcome::Refused(self.refuse(request, customers));
        }
        // A replay that has to wait gets the position of its dead letter. Commands that wait in another lane
        // stay held by the dead letter until the replay is applied.
        self.room -= 1;
        self.parked.insert((*key).clone(), (position, body_hash.to_vec()));
        let waiting = self.waiting(position);
        let letter = letter.filter(|letter| letter.lane == self.lane);
        self.changes.released.extend(letter.map(|letter| letter.dead_letter_id));
        self.changes.parked.push(Parking {
            key: (*key).clone(),
            body_hash: **body_hash,
            message: parked::encode(&delivery.message),
            body: delivery.message.body.clone(),
            customers,
            sequence: in_line,
            position: delivery.position(self.epoch),
        });
        AdmissionOutcome::Parked(Some(waiting))
    }

    /// What the command at this position waits for.
    fn waiting(&self, position: Position) -> Waiting {
        let ahead = self.wait_queue.ahead_of(position);
        let dead_letter_id =
            ahead.iter().find_map(|position| self.letter_positions.get(position)).copied();
        let is_command = |position: &&Position| !self.letter_positions.contains_key(position);
        Waiting { dead_letter_id, position: ahead.iter().filter(is_command).count() + 1 }
    }

    /// Releases a dead letter whose command turns out to be answered already.
    pub(crate) fn is_answered(&mut self, delivery: &Delivery, key: &CommandKey) {
        let letter = self.letters.replayed_by(&delivery.message, key);
        self.changes.released.extend(letter.map(|letter| letter.dead_letter_id));
        self.changes.applied.extend(delivery.parked);
    }

    /// Ends the wait of a parked replay that an operator has taken back. Its dead letter holds the customers
    /// again, at the same position, unless it is closed.
    pub(crate) fn is_taken_back(&mut self, delivery: &Delivery) {
        if delivery.parked.is_some() {
            self.changes.applied.extend(delivery.parked);
            self.changes.reinstated.extend(replay::dead_letter_id(&delivery.message));
        }
    }

    /// The command becomes a dead letter, which is an entry of the wait queue instead of the command: order is
    /// kept.
    fn refuse(&mut self, request: &AdmissionRequest<'_>, customers: Vec<Customer>) -> Rejection {
        let message = &request.delivery.message;
        let position = request.delivery.position(self.epoch);
        let dead_letter_id =
            dead_letter::dead_letter_id(request.delivery, Reason::Held, &self.lane, position);
        self.letter_positions.insert(Position::Delivered(request.index), dead_letter_id);
        self.changes.held.push(Hold {
            dead_letter_id,
            key: request.key.clone(),
            customers,
            replay_of: replay::dead_letter_id(message),
            sequence: None,
        });
        let most = self.parked_max;
        let detail = format!(
            "a dead letter of its customer holds it, and {most} commands (parked_max) are parked already: replay or discard that letter, then replay this one"
        );
        Rejection::new(Reason::Held, detail)
    }
}

async fn replayed(connection: &mut Connection, question: &Question) -> Result<HeldLetters, Error> {
    let Question { letters, keys, .. } = question;
    Ok(HeldLetters::of(store::held_letters::find(connection, letters, keys).await?))
}

/// Makes the dead letter of a command that is given up hold the customers that the command names, and those
/// that it waited for while it was parked. A command that could not be read names no known customer.
pub(crate) async fn hold(
    session: &mut Session,
    fence: &Fence,
    delivery: &Delivery,
) -> Result<(), Error> {
    let Ok(decoded) = &delivery.decoded else { return Ok(()) };
    let catalogue = session.catalogue().await?;
    let Some(org) = catalogue.orgs.get(&decoded.envelope.org_code) else { return Ok(()) };
    let connection = session.connection().await?;
    let mut needs = Needs::default();
    needs.add_command(org, &decoded.command);
    let mut snapshot = Snapshot::default();
    if !needs.is_empty() {
        store::load::customers(connection, &needs, &mut snapshot).await?;
    }
    let mut customers = resolve::meant(org, &snapshot, &decoded.command);
    if let Some(sequence) = delivery.parked {
        customers.extend(store::parked::customers(connection, sequence).await?);
    }
    let (lane, position) = (&fence.lane, delivery.position(fence.epoch));
    let hold = Hold {
        dead_letter_id: dead_letter::dead_letter_id(
            delivery,
            Reason::ProcessingFailed,
            lane,
            position,
        ),
        key: CommandKey { org_id: org.id, command_id: decoded.command_id.clone() },
        customers,
        replay_of: replay::dead_letter_id(&delivery.message),
        sequence: delivery.parked,
    };
    store::held_letters::hold(connection, fence, &hold).await?;
    let customers = hold.customers.len();
    tracing::warn!(
        lane,
        dead_letter.id = %hold.dead_letter_id,
        "a dead letter holds {customers} customers: their later commands wait until it is replayed or discarded"
    );
    Ok(())
}

/// What a batch asks of the wait queue, or of the dead letters alone.
pub(crate) fn question<'a>(
    catalogue: &Catalogue,
    snapshot: &Snapshot,
    holds: Holds,
    deliveries: impl Iterator<Item = &'a Delivery>,
) -> Question {
    let mut question = Question::default();
    for delivery in deliveries {
        let letter = replay::dead_letter_id(&delivery.message);
        if holds == Holds::Nowhere && letter.is_none() {
            continue;
        }
        question.letters.extend(letter);
        let Ok(decoded) = &delivery.decoded else { continue };
        let Some(org) = catalogue.orgs.get(&decoded.envelope.org_code) else { continue };
        if holds.is_here() {
            question.customers.extend(resolve::meant(org, snapshot, &decoded.command));
        }
        let command_id = decoded.command_id.clone();
        question.keys.push(CommandKey { org_id: org.id, command_id });
    }
    question
}
