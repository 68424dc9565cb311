//! What must hold in each state, and what must be reachable for that to mean something.

use stateright::Property;

use super::{Attempts, Command, End, Kind, Lane, State, Step};

pub(super) const ONLY_CULPRITS: &str = "only a culprit is given up";
pub(super) const NOT_DROPPED: &str = "no command reaches the broker's delivery limit";
pub(super) const SAYS_WHY: &str = "a letter says of what its command died";
pub(super) const IN_ORDER: &str = "a command is done after all before it";
pub(super) const DRAINED: &str = "where nothing more can happen, every command is done";

/// Named so that the closures below know their arguments.
type Of = Property<Attempts>;

pub(super) fn all(model: &Attempts) -> Vec<Property<Attempts>> {
    let mut properties = vec![
        Of::always(ONLY_CULPRITS, |_, state| {
            commands(state).all(|command| command.kind != Kind::Good || !is_given_up(command))
        }),
        Of::always(NOT_DROPPED, |_, state| {
            commands(state).all(|command| command.end != Some(End::Dropped))
        }),
        Of::always(SAYS_WHY, |_, state| commands(state).all(says_why)),
        Of::always(IN_ORDER, |_, state| {
            state.lanes.iter().all(|lane| lane.commands.is_sorted_by_key(|c| c.end.is_none()))
        }),
        Of::always(DRAINED, |model, state| {
            commands(state).all(|command| command.end.is_some()) || !model.is_terminal(state)
        }),
        Of::sometimes("a culprit is given up", |_, state| commands(state).any(is_given_up)),
        Of::sometimes("a command was tried alone and has tries left", |_, state| {
            commands(state).any(|command| command.tries > 0 && command.end.is_none())
        }),
        Of::sometimes("both lanes try at once", |_, state| state.lanes.iter().all(tries)),
    ];
    if model.kills > 0 {
        properties.push(Of::sometimes("an innocent command is a suspect", |_, state| {
            commands(state).any(|command| command.kind == Kind::Good && command.is_suspect)
        }));
    }
    properties
}

fn commands(state: &State) -> impl Iterator<Item = Command> {
    state.lanes.iter().flat_map(|lane| &lane.commands).copied()
}

fn is_given_up(command: Command) -> bool {
    matches!(command.end, Some(End::GivenUp(_)))
}

fn says_why(command: Command) -> bool {
    match command.end {
        None | Some(End::Applied | End::Dropped) => true,
        Some(End::GivenUp(cause)) => command.latest == Some(cause),
    }
}

fn tries(lane: &Lane) -> bool {
    matches!(lane.step, Step::Trying { .. })
}
