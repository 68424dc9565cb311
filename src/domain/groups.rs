//! Tells which commands of a window can't touch each other, so that they need not wait for each
//! other either.
//!
//! Two commands belong together if they may mean the same customer, name the same membership id,
//! carry the same id, or one names a membership id that the other's customer holds. What belongs
//! together stays together and in order; groups that don't are free of each other.

use std::collections::HashMap;

use super::command::Command;
use super::identity::{CustomerId, Lookup};
use super::needs;
use super::program::{Org, OrgId, ProgramId};
use super::resolve;
use super::snapshot::Snapshot;

/// A membership id of a program.
pub type Membership = (OrgId, ProgramId, String);

/// A command to be grouped, and the id under which it must not stand in two groups.
pub struct Member<'a> {
    /// The tenant.
    pub org: &'a Org,
    /// What is asked.
    pub command: &'a Command,
    /// The publisher's id of it.
    pub id: &'a str,
}

/// Some of a window's commands, free of the others.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Their places in the window, in order.
    pub places: Vec<usize>,
    /// The customers that they may mean.
    pub customers: Vec<(OrgId, CustomerId)>,
}

/// Cuts a window into at most `most` parts of about the same size. Places without a member are
/// free of everything.
///
/// `known` has the customers; `holders` tells who holds or may hold a membership id.
#[must_use]
pub fn parts(
    window: &[Option<Member<'_>>],
    known: &Snapshot,
    holders: &dyn Fn(&Membership) -> Vec<CustomerId>,
    most: usize,
) -> Vec<Part> {
    let mut groups = Groups::of(window.len());
    let mut customers: Vec<Vec<(OrgId, CustomerId)>> = Vec::with_capacity(window.len());
    for (place, member) in window.iter().enumerate() {
        let mut meant = Vec::new();
        if let Some(Member { org, command, id }) = member {
            groups.claim(place, Claim::Command(org.id, (*id).to_owned()));
            let lookups = command.identifiers().filter_map(|given| Lookup::parse(given).ok());
            for lookup in lookups {
                let found = resolve::matches(org, known, &lookup);
                meant.extend(found.into_iter().filter_map(|(_, id)| Some((org.id, id?))));
            }
            for customer in &meant {
                groups.claim(place, Claim::Customer(*customer));
            }
            for membership in needs::membership_ids(org, command) {
                for holder in holders(&membership) {
                    groups.claim(place, Claim::Customer((org.id, holder)));
                }
                groups.claim(place, Claim::Membership(membership));
            }
        }
        customers.push(meant);
    }
    let mut parts: Vec<Part> = (0..most.max(1)).map(|_| Part::default()).collect();
    for group in groups.in_order() {
        if let Some(least) = parts.iter_mut().min_by_key(|part| part.places.len()) {
            least.places.extend(group);
        }
    }
    for part in &mut parts {
        part.places.sort_unstable();
        part.customers = part.places.iter().flat_map(|place| customers[*place].clone()).collect();
        part.customers.sort_unstable();
        part.customers.dedup();
    }
    parts.retain(|part| !part.places.is_empty());
    parts
}

/// What only one group may have.
#[derive(PartialEq, Eq, Hash)]
enum Claim {
    Command(OrgId, String),
    Customer((OrgId, CustomerId)),
    Membership(Membership),
}

/// Disjoint sets of places, each named by the earliest of its places.
struct Groups {
    parents: Vec<usize>,
    claimed: HashMap<Claim, usize>,
}

impl Groups {
    fn of(count: usize) -> Self {
        Self { parents: (0..count).collect(), claimed: HashMap::new() }
    }

    fn claim(&mut self, place: usize, claim: Claim) {
        let holder = *self.claimed.entry(claim).or_insert(place);
        let (one, other) = (self.root(place), self.root(holder));
        self.parents[one.max(other)] = one.min(other);
    }

    fn root(&mut self, mut place: usize) -> usize {
        while self.parents[place] != place {
            self.parents[place] = self.parents[self.parents[place]];
            place = self.parents[place];
        }
        place
    }

    /// The groups by their first place; each in order.
    fn in_order(&mut self) -> Vec<Vec<usize>> {
        let mut groups: Vec<Vec<usize>> = vec![Vec::new(); self.parents.len()];
        for place in 0..self.parents.len() {
            let root = self.root(place);
            groups[root].push(place);
        }
        groups.retain(|group| !group.is_empty());
        groups
    }
}
