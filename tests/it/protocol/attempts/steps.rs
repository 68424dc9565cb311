//! What can happen next.

use stateright::{Model, Property};

use super::{
    Attempts, Cause, Command, End, Kind, Lane, Note, Outage, Protection, State, Step, properties,
};

/// The most commands that are tried together.
const BATCH: usize = 2;

/// The number is the lane's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Everything of the lane that is not done is delivered.
    Subscribe(usize),
    /// The channel closes because the lane could not commit for too long.
    Close(usize),
    /// The try at the lane's head begins: it is noted.
    Try(usize),
    /// The try ends otherwise than by the death of the process.
    Finish(usize),
    /// The canary runs after a refusal.
    RunCanary(usize),
    /// What the lane tries kills the process.
    Die(usize),
    /// The process is killed from outside.
    Kill,
    Start,
    BeginOutage(Outage),
    EndOutage,
}

impl Model for Attempts {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let command = |kind: &Kind| Command {
            kind: *kind,
            deliveries: 0,
            note: None,
            is_suspect: false,
            tries: 0,
            latest: None,
            stored: None,
            end: None,
        };
        let lane = |kinds: &[Kind]| Lane {
            is_subscribed: false,
            step: Step::Idle,
            is_split: false,
            commands: kinds.iter().map(command).collect(),
        };
        vec![State {
            is_up: true,
            outage: None,
            outages_left: self.outages,
            kills_left: self.kills,
            lanes: self.lanes.map(lane),
        }]
    }

    fn actions(&self, _: &State, actions: &mut Vec<Action>) {
        actions.extend([Action::Kill, Action::Start, Action::EndOutage]);
        actions.extend([Outage::Plain, Outage::Refusing].map(Action::BeginOutage));
        for lane in 0..2 {
            actions.extend(
                [
                    Action::Subscribe,
                    Action::Close,
                    Action::Try,
                    Action::Finish,
                    Action::RunCanary,
                    Action::Die,
                ]
                .map(|action| action(lane)),
            );
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        self.step(&mut state, action)?;
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = properties::all(self);
        properties.retain(|property| self.only.is_none_or(|only| property.name == only));
        properties
    }
}

/// Each of these is `None` where the step is not possible.
impl Attempts {
    fn has(&self, protection: Protection) -> bool {
        self.without != Some(protection)
    }

    pub(super) fn is_terminal(&self, state: &State) -> bool {
        let mut actions = Vec::new();
        self.actions(state, &mut actions);
        actions.into_iter().all(|action| self.next_state(state, action).is_none())
    }

    fn step(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Subscribe(lane) => self.subscribe(state, lane),
            Action::Close(lane) => {
                let is_outage = state.outage.is_some();
                let lane = &mut state.lanes[lane];
                require(is_outage && lane.is_subscribed && lane.step == Step::Waits)?;
                (lane.is_subscribed, lane.step, lane.is_split) = (false, Step::Idle, false);
                Some(())
            }
            Action::Try(lane) => self.try_head(state, lane),
            Action::Finish(lane) => self.finish(state, lane),
            Action::RunCanary(lane) => self.run_canary(state, lane),
            Action::Die(lane) => {
                let lane = &state.lanes[lane];
                let Step::Trying { size, .. } = lane.step else { return None };
                require(lane.head(size).iter().any(|command| command.kind == Kind::Kills))?;
                self.die(state);
                Some(())
            }
            Action::Kill => {
                let is_trying = |lane: &Lane| matches!(lane.step, Step::Trying { .. });
                require(state.is_up && state.lanes.iter().any(is_trying))?;
                state.kills_left = state.kills_left.checked_sub(1)?;
                self.die(state);
                Some(())
            }
            Action::Start => {
                require(!state.is_up)?;
                state.is_up = true;
                for command in state.lanes.iter_mut().flat_map(|lane| &mut lane.commands) {
                    self.read_note(command);
                }
                Some(())
            }
            Action::BeginOutage(outage) => {
                require(state.outage.is_none())?;
                require(state.lanes.iter().any(|lane| !lane.is_done()))?;
                state.outages_left = state.outages_left.checked_sub(1)?;
                state.outage = Some(outage);
                Some(())
            }
            Action::EndOutage => state.outage.take().map(drop),
        }
    }

    fn subscribe(&self, state: &mut State, lane: usize) -> Option<()> {
        require(state.is_up)?;
        require(state.outage.is_none() || !self.has(Protection::CanaryBeforeSubscribing))?;
        let lane = &mut state.lanes[lane];
        require(!lane.is_subscribed && !lane.is_done())?;
        lane.is_subscribed = true;
        for command in lane.commands.iter_mut().filter(|command| command.end.is_none()) {
            command.deliveries += 1;
            if command.deliveries > self.deliveries_max {
                command.end = Some(End::Dropped);
            }
        }
        Some(())
    }

    fn try_head(&self, state: &mut State, number: usize) -> Option<()> {
        let others_try = |alone: bool| {
            let others = state.lanes.iter().enumerate().filter(|(other, _)| *other != number);
            others.map(|(_, lane)| lane.step).any(|step| match step {
                Step::Trying { alone: its, .. } => alone || its,
                Step::Refused => true,
                Step::Idle | Step::Waits | Step::Stuck => false,
            })
        };
        let lane = &state.lanes[number];
        // In an outage it waits; without the protection it counts, and so it comes to an end.
        let waits = state.outage.is_some() && self.has(Protection::OutagesDontCount);
        let may_try = match lane.step {
            Step::Idle => true,
            Step::Waits => !waits,
            Step::Trying { .. } | Step::Refused | Step::Stuck => false,
        };
        require(state.is_up && lane.is_subscribed && may_try && !lane.is_done())?;
        let is_suspect = lane.is_split || lane.head(BATCH).iter().copied().any(is_suspect);
        let size = if is_suspect { 1 } else { BATCH.min(lane.head(BATCH).len()) };
        let head = lane.head(1)[0];
        if is_suspect && head.tries >= self.limit {
            let cause = head.stored.unwrap_or(Cause::Died);
            state.lanes[number].end_head(End::GivenUp(cause));
            return Some(());
        }
        if self.has(Protection::AloneInTheProcess) {
            require(!others_try(is_suspect))?;
        }
        let lane = &mut state.lanes[number];
        lane.step = Step::Trying { size, alone: is_suspect };
        let note = if is_suspect { Note::Alone } else { Note::Shared };
        for command in lane.head_mut(size).iter_mut().filter(|command| command.deliveries > 1) {
            command.note = Some(note);
        }
        Some(())
    }

    fn finish(&self, state: &mut State, number: usize) -> Option<()> {
        let outage = state.outage;
        let lane = &mut state.lanes[number];
        let Step::Trying { size, alone } = lane.step else { return None };
        require(lane.head(size).iter().all(|command| command.kind != Kind::Kills))?;
        let is_refused = lane.head(size).iter().any(|command| command.kind == Kind::Refused);
        let blocks = lane.head(size).iter().any(|command| command.kind == Kind::Blocks);
        lane.step = Step::Idle;
        match outage {
            Some(Outage::Plain) => {
                lane.step = Step::Waits;
                if !self.has(Protection::OutagesDontCount) {
                    lane.head_mut(size).iter_mut().for_each(|command| command.tries += 1);
                }
            }
            Some(Outage::Refusing) => lane.refuse(size, alone),
            None if is_refused => lane.refuse(size, alone),
            // As an outage it is waited out, until it turns out that there is none.
            None if blocks && size > 1 => lane.is_split = true,
            None if blocks && !self.has(Protection::BlockersCount) => lane.step = Step::Stuck,
            None if blocks => lane.refuse(size, alone),
            None => {
                for _ in 0..size {
                    lane.end_head(End::Applied);
                }
                return Some(());
            }
        }
        lane.head_mut(size).iter_mut().for_each(|command| command.note = None);
        Some(())
    }

    fn run_canary(&self, state: &mut State, number: usize) -> Option<()> {
        let passes = state.outage.is_none();
        let lane = &mut state.lanes[number];
        require(lane.step == Step::Refused)?;
        if !passes && self.has(Protection::Canary) {
            lane.step = Step::Waits;
            return Some(());
        }
        lane.step = Step::Idle;
        let command = &mut lane.head_mut(1)[0];
        command.tries += 1;
        (command.latest, command.stored) = (Some(Cause::Refused), Some(Cause::Refused));
        Some(())
    }

    fn die(&self, state: &mut State) {
        state.is_up = false;
        for lane in &mut state.lanes {
            (lane.is_subscribed, lane.step, lane.is_split) = (false, Step::Idle, false);
            if !self.has(Protection::ErrorsAreStored) {
                lane.commands.iter_mut().for_each(|command| command.stored = None);
            }
        }
    }

    /// What the death of the process left noted.
    fn read_note(&self, command: &mut Command) {
        match command.note.take() {
            None => {}
            Some(Note::Alone) => {
                command.tries += 1;
                (command.latest, command.stored) = (Some(Cause::Died), Some(Cause::Died));
            }
            Some(Note::Shared) => {
                command.is_suspect = true;
                if !self.has(Protection::SharedDeathsDontCount) {
                    command.tries += 1;
                }
            }
        }
    }
}

impl Lane {
    fn is_done(&self) -> bool {
        self.commands.iter().all(|command| command.end.is_some())
    }

    fn done(&self) -> usize {
        self.commands.iter().filter(|command| command.end.is_some()).count()
    }

    /// The first of what is to be done, at most so many.
    fn head(&self, size: usize) -> &[Command] {
        let rest = &self.commands[self.done()..];
        &rest[..size.min(rest.len())]
    }

    fn head_mut(&mut self, size: usize) -> &mut [Command] {
        let done = self.done();
        let rest = &mut self.commands[done..];
        let size = size.min(rest.len());
        &mut rest[..size]
    }

    fn end_head(&mut self, end: End) {
        let command = &mut self.head_mut(1)[0];
        if end == End::Applied {
            command.latest = None;
        }
        // What is done needs no memory.
        *command = Command {
            deliveries: 0,
            note: None,
            is_suspect: false,
            tries: 0,
            stored: None,
            end: Some(end),
            ..*command
        };
        (self.is_split, self.step) = (false, Step::Idle);
    }

    /// A refusal splits what was tried together, and is the canary's matter for one that was alone.
    fn refuse(&mut self, size: usize, alone: bool) {
        if size == 1 && alone {
            self.step = Step::Refused;
        } else {
            self.is_split = true;
        }
    }
}

fn is_suspect(command: Command) -> bool {
    command.is_suspect || command.tries > 0
}

fn require(possible: bool) -> Option<()> {
    possible.then_some(())
}
