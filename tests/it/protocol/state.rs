//! Where everything is at one moment: at the broker, in the database, in the workers.
//!
//! Commands are known by their place in the queue, so that sets of them are bits, and the order
//! of the queue is the order of numbers.

use std::fmt;

/// A place in the queue.
pub(super) type Command = u8;

/// A set of commands; walked in the order of the queue.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Commands(u8);

impl Commands {
    pub(super) const NONE: Self = Self(0);

    pub(super) fn first_of_queue(count: u8) -> Self {
        Self((1 << count) - 1)
    }

    pub(super) fn only(command: Command) -> Self {
        Self(1 << command)
    }

    pub(super) fn before(command: Command) -> Self {
        Self::first_of_queue(command)
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Command> {
        (0..8).filter(move |command| self.contains(*command))
    }

    pub(super) fn first(self) -> Option<Command> {
        self.iter().next()
    }

    pub(super) fn len(self) -> u32 {
        self.0.count_ones()
    }

    pub(super) fn is_empty(self) -> bool {
        self == Self::NONE
    }

    pub(super) fn contains(self, command: Command) -> bool {
        self.holds(Self::only(command))
    }

    pub(super) fn holds(self, others: Self) -> bool {
        others.minus(self).is_empty()
    }

    pub(super) fn meets(self, others: Self) -> bool {
        !self.and(others).is_empty()
    }

    pub(super) fn plus(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    pub(super) fn minus(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    pub(super) fn and(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }

    /// Whether no command is missing ahead of another.
    pub(super) fn is_prefix(self) -> bool {
        self.0.trailing_ones() == self.len()
    }
}

impl fmt::Debug for Commands {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.iter()).finish()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) broker: Broker,
    pub(super) database: Database,
    /// What the two workers have in memory. The workers are interchangeable: sorted, so that
    /// states which differ only in who is who are one.
    pub(super) sessions: [Option<Session>; 2],
    pub(super) faults_left: u8,
    pub(super) give_ups_left: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Broker {
    /// What the next delivery is taken from. A returned command gets its old place back.
    pub(super) ready: Commands,
    /// Those that were delivered before: the next time, the broker says so.
    pub(super) delivered: Commands,
    pub(super) acked: Commands,
    /// Results that the broker has taken and confirmed, whether or not the confirm arrived.
    pub(super) published: Commands,
    /// Those of them that it took more than once.
    pub(super) published_again: Commands,
    /// Commands whose dead letter the broker has taken.
    pub(super) dead_letters: Commands,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Database {
    pub(super) inbox: Commands,
    /// Append-only, in the order of the commits.
    pub(super) history: Vec<Effect>,
    /// Commands whose tries are used up. The count is in the database, and the lane's holder's.
    pub(super) given_up: Commands,
    /// A transaction whose connection broke during the commit. It holds its locks until the
    /// server has decided on it.
    pub(super) in_flight: Option<Transaction>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Effect {
    pub(super) command: Command,
    /// How many effects the facts held on which it was decided.
    pub(super) decided_after: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Transaction {
    /// Commands that were not in the inbox when the batch was loaded.
    pub(super) fresh: Commands,
    /// How long the history was when the batch was loaded.
    pub(super) loaded_after: u8,
}

impl Database {
    pub(super) fn apply(&mut self, transaction: Transaction) {
        let effects = transaction.fresh.iter().zip(transaction.loaded_after..);
        self.history
            .extend(effects.map(|(command, decided_after)| Effect { command, decided_after }));
        self.inbox = self.inbox.plus(transaction.fresh);
    }
}

/// A worker's channel generation. Without one, a worker has nothing in memory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Session {
    pub(super) channel: Channel,
    /// As the broker counts it.
    pub(super) unacked: Commands,
    /// Taken, and waiting for a batch.
    pub(super) held: Commands,
    /// Of those, the ones that the broker has delivered before.
    pub(super) redelivered: Commands,
    pub(super) fence: Fence,
    pub(super) batch: Option<Batch>,
    /// Settled batches, the first of which is being published.
    pub(super) publishing: Vec<Publication>,
}

impl Session {
    pub(super) fn new() -> Self {
        Self {
            channel: Channel::Active,
            unacked: Commands::NONE,
            held: Commands::NONE,
            redelivered: Commands::NONE,
            fence: Fence::Untaken,
            batch: None,
            publishing: Vec::new(),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.unacked.is_empty()
            && self.held.is_empty()
            && self.batch.is_none()
            && self.publishing.is_empty()
    }

    pub(super) fn is_fenced_off(&self) -> bool {
        self.batch.as_ref().is_some_and(|batch| batch.step == Step::FencedOff)
    }
}

/// What the broker makes of a worker; the worker does not see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Channel {
    /// The lane's single active consumer.
    Active,
    /// The consumer is gone, the channel and its unacked are not.
    Cancelled,
    /// The broker has given the worker up; acks go nowhere. The worker is a zombie.
    Closed,
}

/// A session's epoch, as compared to the lane's: no more than that is ever asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Fence {
    Untaken,
    Held,
    /// Another session took the lane since.
    Lost,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Batch {
    pub(super) commands: Commands,
    pub(super) step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Step {
    Gathered,
    Loaded(Transaction),
    /// The commit found another epoch: the generation will end.
    FencedOff,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Publication {
    pub(super) answer: Answer,
    pub(super) commands: Commands,
    pub(super) unconfirmed: Commands,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Answer {
    Result,
    DeadLetter,
}
