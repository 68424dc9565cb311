//! Tells which commands of a batch can't touch each other, so that they need not wait for each
//! other either.
//!
//! Two commands belong together if they may mean the same customer, name the same membership id,
//! carry the same id, or one names a membership id that the other's customer holds. What belongs
//! together stays together and in order; groups that don't are free of each other.

use std::collections::HashMap;

use crate::domain::command::Command;
use crate::domain::enrolment::Membership;
use crate::domain::identity::CustomerId;
use crate::domain::needs;
use crate::domain::program::{Org, OrgId};
use crate::domain::resolve;
use crate::domain::snapshot::Snapshot;

/// A command to be grouped, and its id: commands with the same id belong to one group.
pub struct BatchCommand<'a> {
    /// The tenant.
    pub org: &'a Org,
    /// What is asked.
    pub command: &'a Command,
    /// The publisher's id of it.
    pub id: &'a str,
}

/// Some of a batch's commands, free of the others.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SubBatch {
    /// Their places in the batch, in order.
    pub places: Vec<usize>,
    /// The customers that they may mean.
    pub customers: Vec<(OrgId, CustomerId)>,
    /// The membership ids that they name.
    pub memberships: Vec<Membership>,
}

/// What the sub-batches of a batch were told apart by. Facts that are loaded later may contradict it: then two
/// sub-batches touch each other after all.
#[derive(Debug, Default)]
pub struct Boundary {
    customers: HashMap<(OrgId, CustomerId), usize>,
    memberships: HashMap<Membership, usize>,
}

impl Boundary {
    /// The boundary between sub-batches, each of which is named by its index.
    #[must_use]
    pub fn between(sub_batches: &[SubBatch]) -> Self {
        let mut boundary = Self::default();
        for (index, sub_batch) in sub_batches.iter().enumerate() {
            boundary
                .customers
                .extend(sub_batch.customers.iter().map(|customer| (*customer, index)));
            boundary.memberships.extend(sub_batch.memberships.iter().map(|id| (id.clone(), index)));
        }
        boundary
    }

    /// A membership id that connects sub-batch `index` to another one, by what was loaded for it: a customer
    /// of the one holds what the other one names.
    #[must_use]
    pub fn crossing(&self, index: usize, loaded: &Snapshot) -> Option<String> {
        let is_of_another =
            |sub_batch: Option<&usize>| sub_batch.is_some_and(|sub_batch| *sub_batch != index);
        let mut members = loaded.members();
        let (_, _, membership_id, _) =
            members.find(|(org_id, program_id, membership_id, holder)| {
                is_of_another(self.customers.get(&(*org_id, *holder)))
                    || is_of_another(self.memberships.get(&(
                        *org_id,
                        *program_id,
                        (*membership_id).to_owned(),
                    )))
            })?;
        Some(membership_id.to_owned())
    }
}

/// Cuts a batch into at most `most` sub-batches of about the same size. Places without a member are
/// free of everything.
///
/// `known` has the customers; `members` tells who holds or may hold a membership id.
#[must_use]
pub fn sub_batches(
    batch: &[Option<BatchCommand<'_>>],
    known: &Snapshot,
    members: &dyn Fn(&Membership) -> Vec<CustomerId>,
    most: usize,
) -> Vec<SubBatch> {
    let mut groups = Groups::of(batch.len());
    let mut customers: Vec<Vec<(OrgId, CustomerId)>> = Vec::with_capacity(batch.len());
    let mut memberships: Vec<Vec<Membership>> = Vec::with_capacity(batch.len());
    for (place, member) in batch.iter().enumerate() {
        let (mut meant, mut named) = (Vec::new(), Vec::new());
        if let Some(BatchCommand { org, command, id }) = member {
            groups.claim(place, Claim::Command(org.id, (*id).to_owned()));
            meant = resolve::meant(org, known, command);
            for customer in &meant {
                groups.claim(place, Claim::Customer(*customer));
            }
            for membership in needs::membership_ids(org, command) {
                for holder in members(&membership) {
                    groups.claim(place, Claim::Customer((org.id, holder)));
                }
                groups.claim(place, Claim::Membership(membership.clone()));
                named.push(membership);
            }
        }
        customers.push(meant);
        memberships.push(named);
    }
    let mut sub_batches: Vec<SubBatch> = (0..most.max(1)).map(|_| SubBatch::default()).collect();
    for group in groups.in_order() {
        if let Some(least) = sub_batches.iter_mut().min_by_key(|sub_batch| sub_batch.places.len()) {
            least.places.extend(group);
        }
    }
    for sub_batch in &mut sub_batches {
        sub_batch.places.sort_unstable();
        sub_batch.customers =
            sub_batch.places.iter().flat_map(|place| customers[*place].clone()).collect();
        sub_batch.customers.sort_unstable();
        sub_batch.customers.dedup();
        let named =
            sub_batch.places.iter().flat_map(|place| std::mem::take(&mut memberships[*place]));
        sub_batch.memberships = named.collect();
    }
    sub_batches.retain(|sub_batch| !sub_batch.places.is_empty());
    sub_batches
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::collection::vec;
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::{BatchCommand, sub_batches};
    use crate::domain::command::{Command, Entry, Identifiers, LinkItem, Reference};
    use crate::domain::identity::{Customer, CustomerId, CustomerState};
    use crate::domain::program::{Org, OrgId, Program, ProgramId, ProgramKind};
    use crate::domain::snapshot::Snapshot;

    const ORG: OrgId = OrgId(1);

    fn org() -> Org {
        let program = Program {
            id: ProgramId(1),
            name: "p".into(),
            kind: ProgramKind::External,
            active: true,
            ends_at: None,
            tiers: Vec::new(),
        };
        let programs = HashMap::from([("p".to_owned(), program)]);
        Org { id: ORG, code: "o".into(), country_code: "91".into(), programs }
    }

    fn known(count: i64) -> Snapshot {
        let mut known = Snapshot::default();
        for id in 0..count {
            let customer = Customer {
                id: CustomerId(id),
                mobile: None,
                email: None,
                external_id: Some(format!("x{id}")),
                state: CustomerState::Active,
            };
            known.add_customer(ORG, customer);
        }
        known
    }

    /// A link of the customer, by one identifier or the other, to a membership id.
    fn link((customer, by_id, membership): (i64, bool, u8)) -> Command {
        let customer = if by_id {
            Identifiers { id: Some(customer), ..Identifiers::default() }
        } else {
            Identifiers { external_id: Some(format!("x{customer}")), ..Identifiers::default() }
        };
        let reference =
            Reference { membership_id: Some(format!("m{membership}")), ..Reference::default() };
        let item = LinkItem { program_name: Some("p".into()), reference: Some(reference) };
        Command::Link(vec![Entry { customer, items: vec![item] }])
    }

    proptest! {
        #[test]
        fn what_belongs_together_is_in_one_part_and_nothing_is_left_out(
            links in vec((0_i64..30, proptest::bool::ANY, 0_u8..40), 0..60),
            held in vec((0_u8..40, 0_i64..30), 0..10),
            most in 1_usize..5,
        ) {
            let (org, known) = (org(), known(30));
            let held: HashMap<String, i64> =
                held.into_iter().map(|(m, customer)| (format!("m{m}"), customer)).collect();
            let commands: Vec<Command> = links.iter().copied().map(link).collect();
            let ids: Vec<String> = (0..links.len()).map(|n| n.to_string()).collect();
            let batch: Vec<Option<BatchCommand<'_>>> = commands
                .iter()
                .zip(&ids)
                .map(|(command, id)| Some(BatchCommand { org: &org, command, id }))
                .collect();
            let members = |membership: &super::Membership| {
                held.get(&membership.2).map(|id| CustomerId(*id)).into_iter().collect()
            };
            let sub_batches = sub_batches(&batch, &known, &members, most);

            prop_assert!(sub_batches.len() <= most);
            let mut all: Vec<usize> = sub_batches.iter().flat_map(|sub_batch| sub_batch.places.clone()).collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..links.len()).collect::<Vec<_>>());
            let part_of = |place| sub_batches.iter().position(|sub_batch| sub_batch.places.contains(&place));
            for (one, (customer, _, membership)) in links.iter().enumerate() {
                for (other, (another, _, its)) in links.iter().enumerate() {
                    let holder = held.get(&format!("m{its}"));
                    if customer == another || membership == its || holder == Some(customer) {
                        prop_assert_eq!(part_of(one), part_of(other));
                    }
                }
            }
            for sub_batch in &sub_batches {
                prop_assert!(sub_batch.places.is_sorted());
                for place in &sub_batch.places {
                    prop_assert!(sub_batch.customers.contains(&(ORG, CustomerId(links[*place].0))));
                }
            }
        }
    }
}
