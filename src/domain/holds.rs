//! Who waits for whom behind a dead letter, in lanes that hold a customer's later commands.
//!
//! Dead letters and parked commands are entries of one wait queue, each at a position of its own. A command
//! may be applied if none of its customers has an entry at an earlier position. Otherwise the command
//! becomes an entry itself, with all of its customers: so a command that shares a customer with it waits
//! behind it. A replay has the position of its dead letter, ahead of all that waits for it.
//!
//! An entry has the customers that it named when it was put into the wait queue, and those that it has
//! named since: an import may move an identifier meanwhile. These are stored, and all decisions use
//! what is stored. [`free`] says which parked commands are due; a
//! due command is resolved anew, and [`WaitQueue::admit`] adds what is new to its entry before it decides.
//! So a command that is due and may not go has a larger entry afterwards, is due no more, and no
//! pass over the wait queue is made twice for nothing.

use std::collections::{BTreeSet, HashMap};

use crate::domain::identity::CustomerId;
use crate::domain::program::OrgId;

/// A customer of a tenant.
pub type Customer = (OrgId, CustomerId);

/// The position of a command in the wait queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Position {
    /// In the wait queue, by the number that it has in the database.
    Queued(i64),
    /// Just delivered, by its index in the batch: behind the whole wait queue.
    Delivered(usize),
}

/// The wait queue, as far as the customers at hand are concerned.
#[derive(Clone, Debug, Default)]
pub struct WaitQueue {
    entries: HashMap<Customer, BTreeSet<Position>>,
    customers: HashMap<Position, BTreeSet<Customer>>,
}

/// Whether a command may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is out of the wait queue, and nothing waits for it.
    Granted,
    /// It is an entry of the wait queue.
    Waits {
        /// All customers of the entry.
        customers: Vec<Customer>,
        /// Those among them that the entry did not have before.
        added: Vec<Customer>,
    },
}

impl WaitQueue {
    /// Adds an entry, or customers to one.
    pub fn enqueue(&mut self, position: Position, customers: &[Customer]) {
        for customer in customers {
            self.entries.entry(*customer).or_default().insert(position);
        }
        self.customers.entry(position).or_default().extend(customers);
    }

    /// Removes an entry: nothing waits for it afterwards.
    fn remove(&mut self, position: Position) {
        for customer in self.customers.remove(&position).unwrap_or_default() {
            if let Some(positions) = self.entries.get_mut(&customer) {
                positions.remove(&position);
            }
        }
    }

    /// Whether no customer of the entry has another entry at an earlier position.
    fn is_due(&self, position: Position) -> bool {
        let first = |customer| self.entries.get(customer).and_then(BTreeSet::first);
        let customers = self.customers.get(&position).into_iter().flatten();
        customers.filter_map(first).all(|first| *first >= position)
    }

    /// The positions that the command at this position waits for: those ahead of it of its own customers, and
    /// those that these wait for.
    #[must_use]
    pub fn ahead_of(&self, position: Position) -> BTreeSet<Position> {
        let mut ahead = BTreeSet::new();
        let mut looked_at = vec![position];
        while let Some(position) = looked_at.pop() {
            let customers = self.customers.get(&position).into_iter().flatten();
            let entries = customers.filter_map(|customer| self.entries.get(customer));
            for earlier in entries.flat_map(|positions| positions.range(..position)) {
                if ahead.insert(*earlier) {
                    looked_at.push(*earlier);
                }
            }
        }
        ahead
    }

    /// Decides on the command at this position, which means these customers now.
    pub fn admit(&mut self, position: Position, means: &[Customer]) -> Admission {
        let before = self.customers.get(&position).cloned().unwrap_or_default();
        self.enqueue(position, means);
        if self.is_due(position) {
            self.remove(position);
            return Admission::Granted;
        }
        let customers = self.customers.get(&position).cloned().unwrap_or_default();
        let added = customers.difference(&before).copied().collect();
        Admission::Waits { customers: customers.into_iter().collect(), added }
    }
}

/// An entry of the wait queue, with its customers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub sequence: i64,
    /// Whom it means.
    pub customers: Vec<Customer>,
}

/// The parked commands, by their positions, that are due: each may go once those before it have gone.
/// `parked` is in order.
#[must_use]
pub fn free(letters: &[Entry], parked: &[Entry]) -> Vec<i64> {
    let mut queue = WaitQueue::default();
    for letter in letters {
        queue.enqueue(Position::Queued(letter.sequence), &letter.customers);
    }
    let due = parked.iter().filter(|command| {
        queue.admit(Position::Queued(command.sequence), &command.customers) == Admission::Granted
    });
    due.map(|command| command.sequence).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::collection::{btree_set, vec};
    use proptest::prelude::{Just, Strategy, prop_assert, prop_assert_eq, prop_oneof, proptest};
    use proptest::test_runner::TestCaseError;

    use super::{Admission, Customer, CustomerId, Entry, OrgId, Position, WaitQueue, free};

    fn customers(ids: &[i64]) -> Vec<Customer> {
        ids.iter().map(|id| (OrgId(1), CustomerId(*id))).collect()
    }

    fn entries(sequence: i64, ids: &[i64]) -> Entry {
        Entry { sequence, customers: customers(ids) }
    }

    fn is_granted(queue: &mut WaitQueue, position: Position, ids: &[i64]) -> bool {
        queue.admit(position, &customers(ids)) == Admission::Granted
    }

    #[test]
    fn a_command_waits_for_all_that_those_ahead_of_it_wait_for() {
        let mut queue = WaitQueue::default();
        for (position, ids) in [(1, &[1][..]), (2, &[1, 2]), (3, &[3]), (4, &[2, 4])] {
            queue.enqueue(Position::Queued(position), &customers(ids));
        }
        let ahead = |position| -> Vec<Position> { queue.ahead_of(position).into_iter().collect() };
        assert_eq!(ahead(Position::Queued(4)), [Position::Queued(1), Position::Queued(2)]);
        assert_eq!(ahead(Position::Queued(3)), []);
    }

    #[test]
    fn a_command_that_shares_a_customer_with_a_held_one_waits_behind_it() {
        let mut queue = WaitQueue::default();
        queue.enqueue(Position::Queued(1), &customers(&[1]));
        assert!(is_granted(&mut queue, Position::Delivered(0), &[2]));
        assert!(!is_granted(&mut queue, Position::Delivered(1), &[2, 1]));
        assert!(!is_granted(&mut queue, Position::Delivered(2), &[2]));
        assert!(is_granted(&mut queue, Position::Delivered(3), &[3]));
        assert!(is_granted(&mut queue, Position::Delivered(4), &[]));
    }

    #[test]
    fn a_replay_goes_ahead_of_all_that_waits_for_its_letter() {
        let mut queue = WaitQueue::default();
        queue.enqueue(Position::Queued(5), &customers(&[1]));
        queue.enqueue(Position::Queued(6), &customers(&[1, 2]));
        // An edited copy may name another customer, who waits for an earlier dead letter.
        let mut edited = queue.clone();
        edited.enqueue(Position::Queued(4), &customers(&[3]));
        let waits = edited.admit(Position::Queued(5), &customers(&[3]));
        let (customers, added) = (customers(&[1, 3]), customers(&[3]));
        assert_eq!(waits, Admission::Waits { customers, added });

        assert!(is_granted(&mut queue, Position::Queued(5), &[1]));
        assert!(!is_granted(&mut queue, Position::Delivered(0), &[1]));
        assert!(is_granted(&mut queue, Position::Queued(6), &[]));
        assert!(is_granted(&mut queue, Position::Delivered(1), &[2]));
    }

    #[test]
    fn the_last_letter_of_a_customer_frees_what_is_left() {
        let letters = [entries(1, &[1]), entries(2, &[2])];
        let parked = [entries(3, &[1]), entries(4, &[1, 2]), entries(5, &[1]), entries(6, &[2])];
        assert_eq!(free(&letters, &parked), [0; 0]);
        assert_eq!(free(&letters[1..], &parked), [3]);
        assert_eq!(free(&letters[..1], &parked), [0; 0]);
        assert_eq!(free(&[], &parked), [3, 4, 5, 6]);
    }

    fn queue() -> impl Strategy<Value = (Vec<Entry>, usize)> {
        vec(btree_set(0_i64..8, 0..4), 0..20).prop_flat_map(|all| {
            let count = all.len();
            let all: Vec<Entry> = (1..)
                .zip(all)
                .map(|(at, ids)| entries(at, &ids.into_iter().collect::<Vec<_>>()))
                .collect();
            (Just(all), 0..=count)
        })
    }

    proptest! {
        #[test]
        fn nobody_is_overtaken_and_nobody_waits_for_nothing((all, letters) in queue()) {
            let (letters, parked) = all.split_at(letters);
            let free: HashSet<i64> = free(letters, parked).into_iter().collect();
            let shares = |one: &Entry, other: &Entry| {
                one.customers.iter().any(|customer| other.customers.contains(customer))
            };
            for command in parked {
                let mut ahead = letters.iter().chain(parked.iter().filter(|other| {
                    other.sequence < command.sequence && !free.contains(&other.sequence)
                }));
                let waits = ahead.any(|other| shares(other, command));
                prop_assert_eq!(!waits, free.contains(&command.sequence));
            }
            // Delivered now, each would wait for whatever it shares a customer with.
            let mut queue = WaitQueue::default();
            for one in &all {
                queue.enqueue(Position::Queued(one.sequence), &one.customers);
            }
            for (delivered, one) in all.iter().enumerate() {
                let admission = queue.admit(Position::Delivered(delivered), &one.customers);
                prop_assert!(one.customers.is_empty() || admission != Admission::Granted);
            }
        }

        /// Commands name identifiers; imports move these between customers at any time.
        #[test]
        fn wherever_identifiers_move_each_pass_gets_on_and_nothing_is_overtaken(
            steps in vec(step(), 1..40),
        ) {
            let mut lane = Lane::default();
            for step in steps {
                lane.apply(step)?;
            }
            while let Some(letter) = lane.letters.pop() {
                drop(letter);
                lane.apply_due()?;
            }
            prop_assert!(lane.parked.is_empty(), "without letters nothing waits: {:?}", lane.parked);
        }
    }
    /// What can happen to a lane.
    #[derive(Clone, Debug)]
    enum Step {
        /// An identifier is given to a customer.
        Move(usize, i64),
        /// A command with these identifiers comes, and is given up if it is tried.
        Deliver(Vec<usize>, bool),
        /// One of the dead letters is replayed or discarded.
        Release(usize),
    }

    const IDENTIFIERS: usize = 5;

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..IDENTIFIERS, 0_i64..5).prop_map(|(identifier, to)| Step::Move(identifier, to)),
            (vec(0..IDENTIFIERS, 1..3), proptest::bool::weighted(0.3))
                .prop_map(|(identifiers, fails)| Step::Deliver(identifiers, fails)),
            (0_usize..4).prop_map(Step::Release),
        ]
    }

    /// A lane as the worker and the database have it.
    struct Lane {
        meant: [i64; IDENTIFIERS],
        letters: Vec<Entry>,
        parked: Vec<Entry>,
        /// What the commands name, by their positions.
        named: Vec<Vec<usize>>,
    }

    impl Default for Lane {
        fn default() -> Self {
            let meant = [0, 1, 2, 3, 4];
            Self { meant, letters: Vec::new(), parked: Vec::new(), named: Vec::new() }
        }
    }

    impl Lane {
        fn means(&self, identifiers: &[usize]) -> Vec<Customer> {
            customers(&identifiers.iter().map(|one| self.meant[*one]).collect::<Vec<_>>())
        }

        fn queue(&self) -> WaitQueue {
            let mut queue = WaitQueue::default();
            for one in self.letters.iter().chain(&self.parked) {
                queue.enqueue(Position::Queued(one.sequence), &one.customers);
            }
            queue
        }

        fn apply(&mut self, step: Step) -> Result<(), TestCaseError> {
            match step {
                Step::Move(identifier, to) => self.meant[identifier] = to,
                Step::Deliver(identifiers, fails) => {
                    let sequence = i64::try_from(self.named.len()).unwrap();
                    let means = self.means(&identifiers);
                    self.named.push(identifiers);
                    match self.queue().admit(Position::Delivered(0), &means) {
                        Admission::Granted if fails => {
                            self.letters.push(Entry { sequence, customers: means });
                        }
                        Admission::Granted => {}
                        Admission::Waits { customers, .. } => {
                            self.parked.push(Entry { sequence, customers });
                        }
                    }
                }
                Step::Release(letter) if letter < self.letters.len() => {
                    self.letters.remove(letter);
                    self.apply_due()?;
                }
                Step::Release(_) => {}
            }
            Ok(())
        }

        /// As the worker does it: pass after pass, until nothing is due.
        fn apply_due(&mut self) -> Result<(), TestCaseError> {
            loop {
                let due = free(&self.letters, &self.parked);
                if due.is_empty() {
                    return Ok(());
                }
                let mut queue = self.queue();
                let mut got_on = false;
                for sequence in due {
                    let means = self.means(&self.named[usize::try_from(sequence).unwrap()]);
                    let at = self.parked.iter().position(|one| one.sequence == sequence).unwrap();
                    match queue.admit(Position::Queued(sequence), &means) {
                        Admission::Granted => {
                            let command = self.parked.remove(at);
                            self.assert_not_overtaking(&command, &means)?;
                            got_on = true;
                        }
                        Admission::Waits { customers, added } => {
                            got_on |= !added.is_empty();
                            let before = &self.parked[at].customers;
                            prop_assert!(before.iter().all(|one| customers.contains(one)));
                            self.parked[at].customers = customers;
                        }
                    }
                }
                prop_assert!(got_on, "a pass over the wait queue was made for nothing");
            }
        }

        fn assert_not_overtaking(
            &self,
            command: &Entry,
            means: &[Customer],
        ) -> Result<(), TestCaseError> {
            for earlier in self.letters.iter().chain(&self.parked) {
                let mut both = command.customers.iter().chain(means);
                prop_assert!(
                    earlier.sequence > command.sequence
                        || !both.any(|customer| earlier.customers.contains(customer)),
                    "{command:?} overtakes {earlier:?}"
                );
            }
            Ok(())
        }
    }
}
