//! Whether the replay of a dead letter counts when it arrives.
//!
//! A replayed message may wait in a queue for long, and the replay may be taken back meanwhile: then the
//! message has no effect, and its dead letter decides what becomes of the command.

use uuid::Uuid;

use crate::domain::dead_letter::State;

/// One replay of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Replay {
    /// The dead letter.
    pub dead_letter_id: Uuid,
    /// The first replay has number 1.
    pub number: i32,
}

/// The dead letter of a replay, as far as it decides whether the replay counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayedLetter {
    /// The dead letter's state.
    pub state: State,
    /// The number of its latest replay.
    pub number: i32,
    /// The id that its replays have as commands.
    pub command_id: String,
    /// The dead letter that a replay has become by failing again, if that one is open.
    pub replay_died_as: Option<Uuid>,
    /// The user that published the command, as the broker authenticated it then.
    pub user_id: Option<String>,
    /// Whether an operator has allowed the replay although that user may not act for the org.
    pub is_publisher_overridden: bool,
}

/// What becomes of a replay that the inbox does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It is processed, and its outcome becomes that of its dead letter.
    Counts,
    /// It is no replay of this dead letter, whatever it says: it is processed like any command.
    Unrelated,
    /// The replay was taken back: it has no effect.
    TakenBack,
}

impl ReplayedLetter {
    /// Checks a message that says it is this replay and has this command id.
    #[must_use]
    pub fn check(&self, replay: Replay, command_id: Option<&str>) -> Arrival {
        if command_id != Some(self.command_id.as_str()) {
            return Arrival::Unrelated;
        }
        if replay.number != self.number {
            return Arrival::TakenBack;
        }
        match self.state {
            State::Replaying | State::Replayed => Arrival::Counts,
            // The replay died again and was redelivered before its ack. It counts while the new dead letter is open.
            State::FailedAgain if self.replay_died_as.is_some() => Arrival::Counts,
            State::Open
            | State::Applied
            | State::FailedAgain
            | State::Discarded
            | State::Superseded => Arrival::TakenBack,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_counts_only_while_its_letter_waits_for_it() {
        let replay = Replay { dead_letter_id: Uuid::from_u128(1), number: 2 };
        for state in State::ALL.iter().copied() {
            let letter = |number, replay_died_as| ReplayedLetter {
                state,
                number,
                command_id: "c-1".to_owned(),
                replay_died_as,
                user_id: None,
                is_publisher_overridden: false,
            };
            let awaited = matches!(state, State::Replaying | State::Replayed);
            let expected = if awaited { Arrival::Counts } else { Arrival::TakenBack };
            assert_eq!(letter(2, None).check(replay, Some("c-1")), expected, "{state}");
            assert_eq!(letter(3, None).check(replay, Some("c-1")), Arrival::TakenBack);
            assert_eq!(letter(2, None).check(replay, Some("c-2")), Arrival::Unrelated);
            assert_eq!(letter(2, None).check(replay, None), Arrival::Unrelated);
            let back = letter(2, Some(Uuid::from_u128(3))).check(replay, Some("c-1"));
            assert_eq!(back == Arrival::Counts, awaited || state == State::FailedAgain);
        }
    }
}
