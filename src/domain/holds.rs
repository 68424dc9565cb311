//! Who waits for whom behind a dead letter, in lanes that hold a customer's later commands.
//!
//! Letters and parked commands stand in one line, each at a place of its own. A command may go if
//! no customer that it stands for stands at an earlier place. One that may not stands in the line
//! itself, for all of its customers: so a command that shares a customer with it waits behind it.
//! A replay has the place of its letter, ahead of all that waits for it.
//!
//! An entry stands for the customers that it meant when it was put into the line, and for those
//! that it has turned out to mean since: an import may move an identifier meanwhile. These are
//! stored, and all decisions go by what is stored. [`free`] says which parked commands are due; a
//! due command is resolved anew, and [`Line::admit`] adds what is new to its entry before it decides.
//! So a command that is due and may not go has a larger entry afterwards, is due no more, and no
//! pass over the line is made twice for nothing.

use std::collections::{BTreeSet, HashMap};

use crate::domain::identity::CustomerId;
use crate::domain::program::OrgId;

/// A customer of a tenant.
pub type Customer = (OrgId, CustomerId);

/// Where a command stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// In the line, by the number that it has in the database.
    InLine(i64),
    /// Just delivered, by its place in the batch: behind the whole line.
    Delivered(usize),
}

/// The line, as far as the customers at hand are concerned.
#[derive(Clone, Debug, Default)]
pub struct Line {
    standing: HashMap<Customer, BTreeSet<Place>>,
    customers: HashMap<Place, BTreeSet<Customer>>,
}

/// Whether a command may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is out of the line, and nothing waits for it.
    Granted,
    /// It stands in the line.
    Waits {
        /// All customers that it stands for.
        customers: Vec<Customer>,
        /// Those among them that it did not stand for before.
        added: Vec<Customer>,
    },
}

impl Line {
    /// Adds an entry, or customers to one.
    pub fn stand(&mut self, place: Place, customers: &[Customer]) {
        for customer in customers {
            self.standing.entry(*customer).or_default().insert(place);
        }
        self.customers.entry(place).or_default().extend(customers);
    }

    /// Takes an entry out: nothing waits for it any longer.
    fn leave(&mut self, place: Place) {
        for customer in self.customers.remove(&place).unwrap_or_default() {
            if let Some(places) = self.standing.get_mut(&customer) {
                places.remove(&place);
            }
        }
    }

    /// Whether no customer of the entry stands at an earlier place.
    fn is_due(&self, place: Place) -> bool {
        let first = |customer| self.standing.get(customer).and_then(BTreeSet::first);
        let customers = self.customers.get(&place).into_iter().flatten();
        customers.filter_map(first).all(|first| *first >= place)
    }

    /// The places that the command at this place waits for: those ahead of it of its own customers, and
    /// those that these wait for.
    #[must_use]
    pub fn ahead_of(&self, place: Place) -> BTreeSet<Place> {
        let mut ahead = BTreeSet::new();
        let mut looked_at = vec![place];
        while let Some(place) = looked_at.pop() {
            let customers = self.customers.get(&place).into_iter().flatten();
            let standing = customers.filter_map(|customer| self.standing.get(customer));
            for earlier in standing.flat_map(|places| places.range(..place)) {
                if ahead.insert(*earlier) {
                    looked_at.push(*earlier);
                }
            }
        }
        ahead
    }

    /// Decides on the command at this place, which means these customers now.
    pub fn admit(&mut self, place: Place, means: &[Customer]) -> Admission {
        let before = self.customers.get(&place).cloned().unwrap_or_default();
        self.stand(place, means);
        if self.is_due(place) {
            self.leave(place);
            return Admission::Granted;
        }
        let customers = self.customers.get(&place).cloned().unwrap_or_default();
        let added = customers.difference(&before).copied().collect();
        Admission::Waits { customers: customers.into_iter().collect(), added }
    }
}

/// Something in the line, with its customers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its number.
    pub sequence: i64,
    /// Whom it means.
    pub customers: Vec<Customer>,
}

/// The parked commands, by their places, that are due: each may go once those before it have gone.
/// `parked` is in order.
#[must_use]
pub fn free(letters: &[Standing], parked: &[Standing]) -> Vec<i64> {
    let mut line = Line::default();
    for letter in letters {
        line.stand(Place::InLine(letter.sequence), &letter.customers);
    }
    let due = parked.iter().filter(|command| {
        line.admit(Place::InLine(command.sequence), &command.customers) == Admission::Granted
    });
    due.map(|command| command.sequence).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::collection::{btree_set, vec};
    use proptest::prelude::{Just, Strategy, prop_assert, prop_assert_eq, prop_oneof, proptest};
    use proptest::test_runner::TestCaseError;

    use super::{Admission, Customer, CustomerId, Line, OrgId, Place, Standing, free};

    fn customers(ids: &[i64]) -> Vec<Customer> {
        ids.iter().map(|id| (OrgId(1), CustomerId(*id))).collect()
    }

    fn standing(sequence: i64, ids: &[i64]) -> Standing {
        Standing { sequence, customers: customers(ids) }
    }

    fn is_granted(line: &mut Line, place: Place, ids: &[i64]) -> bool {
        line.admit(place, &customers(ids)) == Admission::Granted
    }

    #[test]
    fn a_command_waits_for_all_that_those_ahead_of_it_wait_for() {
        let mut line = Line::default();
        for (place, ids) in [(1, &[1][..]), (2, &[1, 2]), (3, &[3]), (4, &[2, 4])] {
            line.stand(Place::InLine(place), &customers(ids));
        }
        let ahead = |place| -> Vec<Place> { line.ahead_of(place).into_iter().collect() };
        assert_eq!(ahead(Place::InLine(4)), [Place::InLine(1), Place::InLine(2)]);
        assert_eq!(ahead(Place::InLine(3)), []);
    }

    #[test]
    fn a_command_that_shares_a_customer_with_a_held_one_waits_behind_it() {
        let mut line = Line::default();
        line.stand(Place::InLine(1), &customers(&[1]));
        assert!(is_granted(&mut line, Place::Delivered(0), &[2]));
        assert!(!is_granted(&mut line, Place::Delivered(1), &[2, 1]));
        assert!(!is_granted(&mut line, Place::Delivered(2), &[2]));
        assert!(is_granted(&mut line, Place::Delivered(3), &[3]));
        assert!(is_granted(&mut line, Place::Delivered(4), &[]));
    }

    #[test]
    fn a_replay_goes_ahead_of_all_that_waits_for_its_letter() {
        let mut line = Line::default();
        line.stand(Place::InLine(5), &customers(&[1]));
        line.stand(Place::InLine(6), &customers(&[1, 2]));
        // An edited copy may mean somebody else, who waits for an earlier letter.
        let mut edited = line.clone();
        edited.stand(Place::InLine(4), &customers(&[3]));
        let waits = edited.admit(Place::InLine(5), &customers(&[3]));
        let (customers, added) = (customers(&[1, 3]), customers(&[3]));
        assert_eq!(waits, Admission::Waits { customers, added });

        assert!(is_granted(&mut line, Place::InLine(5), &[1]));
        assert!(!is_granted(&mut line, Place::Delivered(0), &[1]));
        assert!(is_granted(&mut line, Place::InLine(6), &[]));
        assert!(is_granted(&mut line, Place::Delivered(1), &[2]));
    }

    #[test]
    fn the_last_letter_of_a_customer_frees_what_is_left() {
        let letters = [standing(1, &[1]), standing(2, &[2])];
        let parked =
            [standing(3, &[1]), standing(4, &[1, 2]), standing(5, &[1]), standing(6, &[2])];
        assert_eq!(free(&letters, &parked), [0; 0]);
        assert_eq!(free(&letters[1..], &parked), [3]);
        assert_eq!(free(&letters[..1], &parked), [0; 0]);
        assert_eq!(free(&[], &parked), [3, 4, 5, 6]);
    }

    fn line() -> impl Strategy<Value = (Vec<Standing>, usize)> {
        vec(btree_set(0_i64..8, 0..4), 0..20).prop_flat_map(|all| {
            let count = all.len();
            let all: Vec<Standing> = (1..)
                .zip(all)
                .map(|(at, ids)| standing(at, &ids.into_iter().collect::<Vec<_>>()))
                .collect();
            (Just(all), 0..=count)
        })
    }

    proptest! {
        #[test]
        fn nobody_is_overtaken_and_nobody_waits_for_nothing((all, letters) in line()) {
            let (letters, parked) = all.split_at(letters);
            let free: HashSet<i64> = free(letters, parked).into_iter().collect();
            let shares = |one: &Standing, other: &Standing| {
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
            let mut line = Line::default();
            for one in &all {
                line.stand(Place::InLine(one.sequence), &one.customers);
            }
            for (delivered, one) in all.iter().enumerate() {
                let admission = line.admit(Place::Delivered(delivered), &one.customers);
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
                lane.take(step)?;
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
        /// One of the letters is replayed or discarded.
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
        letters: Vec<Standing>,
        parked: Vec<Standing>,
        /// What the commands name, by their places.
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

        fn line(&self) -> Line {
            let mut line = Line::default();
            for one in self.letters.iter().chain(&self.parked) {
                line.stand(Place::InLine(one.sequence), &one.customers);
            }
            line
        }

        fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
            match step {
                Step::Move(identifier, to) => self.meant[identifier] = to,
                Step::Deliver(identifiers, fails) => {
                    let sequence = i64::try_from(self.named.len()).unwrap();
                    let means = self.means(&identifiers);
                    self.named.push(identifiers);
                    match self.line().admit(Place::Delivered(0), &means) {
                        Admission::Granted if fails => {
                            self.letters.push(Standing { sequence, customers: means });
                        }
                        Admission::Granted => {}
                        Admission::Waits { customers, .. } => {
                            self.parked.push(Standing { sequence, customers });
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
                let mut line = self.line();
                let mut got_on = false;
                for sequence in due {
                    let means = self.means(&self.named[usize::try_from(sequence).unwrap()]);
                    let at = self.parked.iter().position(|one| one.sequence == sequence).unwrap();
                    match line.admit(Place::InLine(sequence), &means) {
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
                prop_assert!(got_on, "a pass over the line was made for nothing");
            }
        }

        fn assert_not_overtaking(
            &self,
            command: &Standing,
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
