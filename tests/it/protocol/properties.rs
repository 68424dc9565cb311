//! What must hold in each state, and what must be reachable for that to mean something.

use stateright::Property;

use crate::protocol::state::{Channel, Commands, Session, State, Step};
use crate::protocol::steps::{Protection, Protocol};

pub(super) const ONCE: &str = "a command takes effect once";
pub(super) const IN_ORDER: &str = "commands take effect in the order of the queue";
pub(super) const FACTS: &str = "a command is decided on the effects of all before it";
pub(super) const INBOX: &str = "an effect is that of a command, and its inbox row is there";
pub(super) const PUBLISHED: &str = "what is published is committed";
pub(super) const ANSWERS_IN_ORDER: &str = "commands are first answered in the order of the queue";
pub(super) const ACKED_DONE: &str = "an acked command is in the inbox or was given up";
pub(super) const ACKED_ANSWERED: &str = "an acked command's answer was confirmed";
pub(super) const EITHER: &str = "a command is either applied or dead-lettered";
pub(super) const DRAINED: &str = "where nothing more can happen, every command is done";

/// Named so that the closures below know their arguments.
type Of = Property<Protocol>;

pub(super) fn all(protocol: &Protocol) -> Vec<Property<Protocol>> {
    let mut properties = vec![
        Of::always(ONCE, |_, state| applied(state).len() == effect_count(state)),
        Of::always(IN_ORDER, |_, state| in_order(state)),
        Of::always(FACTS, |_, state| {
            (0..).zip(&state.database.history).all(|(place, effect)| effect.decided_after == place)
        }),
        Of::always(INBOX, |protocol, state| {
            let queued = Commands::first_of_queue(protocol.commands);
            queued.holds(applied(state)) && applied(state) == state.database.inbox
        }),
        Of::always(PUBLISHED, |_, state| state.database.inbox.holds(state.broker.published)),
        Of::always(ANSWERS_IN_ORDER, |_, state| answered(state).is_prefix()),
        Of::always(ACKED_DONE, |_, state| {
            state.database.inbox.plus(state.database.given_up).holds(state.broker.acked)
        }),
        Of::always(ACKED_ANSWERED, |_, state| answered(state).holds(state.broker.acked)),
        Of::always(EITHER, |_, state| !applied(state).meets(state.broker.dead_letters)),
        Of::always(DRAINED, |protocol, state| {
            is_done(protocol, state) || !protocol.is_terminal(state)
        }),
        Of::sometimes("a result is published twice", |_, state| {
            !state.broker.published_again.is_empty()
        }),
        Of::sometimes("a commit's outcome is unknown", |_, state| {
            state.database.in_flight.is_some()
        }),
        Of::sometimes("a batch is loaded while the last is published", |_, state| {
            any(state, |session| is_loaded(session) && !session.publishing.is_empty())
        }),
        Of::sometimes("a zombie has a batch ready to commit", |_, state| {
            any(state, |session| is_loaded(session) && session.channel == Channel::Closed)
        }),
    ];
    if protocol.has(Protection::Fence) {
        properties.push(Of::sometimes("a zombie is fenced off at its commit", |_, state| {
            any(state, |session| session.is_fenced_off() && session.channel == Channel::Closed)
        }));
    }
    if protocol.give_ups > 0 {
        properties.push(Of::sometimes("a command after a given-up one is done", |_, state| {
            state.database.given_up.contains(0) && state.broker.acked.contains(1)
        }));
    }
    properties
}

/// Without faults of the protocol and without given-up commands, this is to say that the history
/// is a prefix of the queue. A command that takes effect again is the matter of [`ONCE`].
fn in_order(state: &State) -> bool {
    let mut before = Commands::NONE;
    state.database.history.iter().all(|effect| {
        let ahead = Commands::before(effect.command);
        let is_in_order = before.contains(effect.command)
            || before.plus(state.database.given_up).holds(ahead) && ahead.holds(before);
        before = before.plus(Commands::only(effect.command));
        is_in_order
    })
}

fn is_done(protocol: &Protocol, state: &State) -> bool {
    let all = Commands::first_of_queue(protocol.commands);
    state.broker.acked == all
        && answered(state) == all
        && state.database.inbox.plus(state.database.given_up) == all
}

fn applied(state: &State) -> Commands {
    let commands = state.database.history.iter().map(|effect| Commands::only(effect.command));
    commands.fold(Commands::NONE, Commands::plus)
}

fn effect_count(state: &State) -> u32 {
    u32::try_from(state.database.history.len()).unwrap()
}

fn answered(state: &State) -> Commands {
    state.broker.published.plus(state.broker.dead_letters)
}

fn is_loaded(session: &Session) -> bool {
    session.batch.as_ref().is_some_and(|batch| matches!(batch.step, Step::Loaded(_)))
}

fn any(state: &State, is: impl Fn(&Session) -> bool) -> bool {
    state.sessions.iter().flatten().any(is)
}
