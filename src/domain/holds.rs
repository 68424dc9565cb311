//! Who waits for whom behind a dead letter, in lanes that hold a customer's later commands.
//!
//! Letters and parked commands stand in one line, each at a place of its own. A command may go if
//! no customer that it means stands at an earlier place. One that may not stands in the line
//! itself, for all of its customers: so whoever shares a command with a held customer waits behind
//! it. A replay has the place of its letter, ahead of all that waits for it.

use std::collections::{BTreeSet, HashMap};

use super::identity::CustomerId;
use super::program::OrgId;

/// A customer of a tenant.
pub type Customer = (OrgId, CustomerId);

/// Where a command stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// In the line, by the number that it has in the database.
    InLine(i64),
    /// Just delivered, by its place in the window: behind the whole line.
    Delivered(usize),
}

/// The line, as far as the customers at hand are concerned.
#[derive(Clone, Debug, Default)]
pub struct Line {
    standing: HashMap<Customer, BTreeSet<Place>>,
    customers: HashMap<Place, Vec<Customer>>,
}

impl Line {
    /// Adds somebody who waits, or a letter.
    pub fn stand(&mut self, place: Place, customers: &[Customer]) {
        for customer in customers {
            self.standing.entry(*customer).or_default().insert(place);
        }
        self.customers.entry(place).or_default().extend(customers);
    }

    /// Nobody waits for that place any longer.
    pub fn leave(&mut self, place: Place) {
        for customer in self.customers.remove(&place).unwrap_or_default() {
            if let Some(places) = self.standing.get_mut(&customer) {
                places.remove(&place);
            }
        }
    }

    /// Whether none of the customers stands at an earlier place.
    #[must_use]
    pub fn is_free(&self, place: Place, customers: &[Customer]) -> bool {
        let first = |customer| self.standing.get(customer).and_then(BTreeSet::first);
        customers.iter().filter_map(first).all(|first| *first >= place)
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

/// The parked commands, by their places, that may be applied one after the other. `parked` is in
/// order.
#[must_use]
pub fn free(letters: &[Standing], parked: &[Standing]) -> Vec<i64> {
    let mut line = Line::default();
    for letter in letters {
        line.stand(Place::InLine(letter.sequence), &letter.customers);
    }
    let mut free = Vec::new();
    for Standing { sequence, customers } in parked {
        let place = Place::InLine(*sequence);
        if line.is_free(place, customers) {
            free.push(*sequence);
        } else {
            line.stand(place, customers);
        }
    }
    free
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::collection::{btree_set, vec};
    use proptest::prelude::{Just, Strategy, prop_assert, prop_assert_eq, proptest};

    use super::{Customer, CustomerId, Line, OrgId, Place, Standing, free};

    fn customers(ids: &[i64]) -> Vec<Customer> {
        ids.iter().map(|id| (OrgId(1), CustomerId(*id))).collect()
    }

    fn standing(sequence: i64, ids: &[i64]) -> Standing {
        Standing { sequence, customers: customers(ids) }
    }

    #[test]
    fn whoever_shares_a_command_with_a_held_customer_waits_behind_it() {
        let mut line = Line::default();
        line.stand(Place::InLine(1), &customers(&[1]));
        assert!(line.is_free(Place::Delivered(0), &customers(&[2])));
        assert!(!line.is_free(Place::Delivered(1), &customers(&[2, 1])));
        line.stand(Place::Delivered(1), &customers(&[2, 1]));
        assert!(!line.is_free(Place::Delivered(2), &customers(&[2])));
        assert!(line.is_free(Place::Delivered(2), &customers(&[3])));
        assert!(line.is_free(Place::Delivered(2), &[]));
    }

    #[test]
    fn a_replay_goes_ahead_of_all_that_waits_for_its_letter() {
        let mut line = Line::default();
        line.stand(Place::InLine(5), &customers(&[1]));
        line.stand(Place::InLine(6), &customers(&[1, 2]));
        assert!(line.is_free(Place::InLine(5), &customers(&[1])));
        // An edited copy may mean somebody else, who waits for an earlier letter.
        line.stand(Place::InLine(4), &customers(&[3]));
        assert!(!line.is_free(Place::InLine(5), &customers(&[1, 3])));
        line.leave(Place::InLine(5));
        assert!(!line.is_free(Place::Delivered(0), &customers(&[1])));
        line.leave(Place::InLine(6));
        assert!(line.is_free(Place::Delivered(0), &customers(&[1])));
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
            for one in &all {
                prop_assert!(
                    one.customers.is_empty() || !line.is_free(Place::Delivered(0), &one.customers)
                );
            }
        }
    }
}
