//! The facts that a batch of commands needs, and what its commands have made of them so far.
//!
//! `store` fills it from the database before a batch and writes [`Snapshot::changes`] after
//! it. In between later commands see what earlier ones did. Customers never change here.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::domain::enrolment::{Enrolment, EnrolmentKey};
use crate::domain::identity::{Customer, CustomerId};
use crate::domain::program::{OrgId, ProgramId};

/// Customers, enrolments and holders of membership ids, each with an answer for every question
/// that the batch's commands can ask.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Shared by its clones.
    customers: Arc<Customers>,
    enrolments: HashMap<EnrolmentKey, Enrolment>,
    members: HashMap<(OrgId, ProgramId), HashMap<String, CustomerId>>,
    /// How the enrolments that have changed were loaded; `None` where there was no row.
    loaded: BTreeMap<EnrolmentKey, Option<Enrolment>>,
}

#[derive(Clone, Debug, Default)]
struct Customers {
    known: HashMap<(OrgId, CustomerId), Customer>,
    mobiles: HashMap<(OrgId, String), CustomerId>,
    emails: HashMap<(OrgId, String), CustomerId>,
    external_ids: HashMap<(OrgId, String), CustomerId>,
}

/// The net change of one enrolment over a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change<'a> {
    /// Which enrolment.
    pub key: EnrolmentKey,
    /// The version to find in the database; 0: no row.
    pub loaded_version: i64,
    /// The state to store; its version is the new one.
    pub after: &'a Enrolment,
    /// Whether the membership id that it held when loaded belongs to another enrolment now: it
    /// has to let go before the other one is stored.
    pub membership_id_passes_on: bool,
}

impl Snapshot {
    /// Adds a customer as registered.
    pub fn add_customer(&mut self, org_id: OrgId, customer: Customer) {
        let customers = Arc::make_mut(&mut self.customers);
        if let Some(mobile) = &customer.mobile {
            customers.mobiles.insert((org_id, mobile.clone()), customer.id);
        }
        if let Some(email) = &customer.email {
            customers.emails.insert((org_id, email.to_lowercase()), customer.id);
        }
        if let Some(external_id) = &customer.external_id {
            customers.external_ids.insert((org_id, external_id.clone()), customer.id);
        }
        customers.known.insert((org_id, customer.id), customer);
    }

    /// Adds an enrolment as it is in the database.
    pub fn add_enrolment(&mut self, key: EnrolmentKey, enrolment: Enrolment) {
        if let Some(membership_id) = held_membership_id(&enrolment) {
            let membership_id = membership_id.to_owned();
            self.add_holder(key.org_id, key.program_id, membership_id, key.customer_id);
        }
        self.enrolments.insert(key, enrolment);
    }

    /// Adds the linked customer that has a membership id in the database.
    pub fn add_holder(
        &mut self,
        org_id: OrgId,
        program_id: ProgramId,
        membership_id: String,
        holder: CustomerId,
    ) {
        self.members.entry((org_id, program_id)).or_default().insert(membership_id, holder);
    }

    /// Who holds which membership id, as far as it was loaded.
    pub(super) fn members(&self) -> impl Iterator<Item = (OrgId, ProgramId, &str, CustomerId)> {
        self.members.iter().flat_map(|((org_id, program_id), members)| {
            members.iter().map(|(id, holder)| (*org_id, *program_id, id.as_str(), *holder))
        })
    }

    /// What has changed since loading, ordered by key so that any two writers lock rows alike.
    #[must_use]
    pub fn changes(&self) -> Vec<Change<'_>> {
        self.loaded
            .iter()
            .filter_map(|(key, loaded)| {
                let loaded = loaded.as_ref();
                let held = loaded.and_then(held_membership_id);
                let holder = held.and_then(|membership_id| self.holder(*key, membership_id));
                Some(Change {
                    key: *key,
                    loaded_version: loaded.map_or(0, |loaded| loaded.version),
                    after: self.enrolments.get(key)?,
                    membership_id_passes_on: holder.is_some_and(|holder| holder != key.customer_id),
                })
            })
            .collect()
    }

    pub(super) fn customer(&self, org_id: OrgId, id: CustomerId) -> Option<&Customer> {
        self.customers.known.get(&(org_id, id))
    }

    pub(super) fn by_mobile(&self, org_id: OrgId, mobile: String) -> Option<CustomerId> {
        self.customers.mobiles.get(&(org_id, mobile)).copied()
    }

    pub(super) fn by_email(&self, org_id: OrgId, lower_case: String) -> Option<CustomerId> {
        self.customers.emails.get(&(org_id, lower_case)).copied()
    }

    pub(super) fn by_external_id(&self, org_id: OrgId, id: String) -> Option<CustomerId> {
        self.customers.external_ids.get(&(org_id, id)).copied()
    }

    pub(super) fn enrolment(&self, key: EnrolmentKey) -> Option<&Enrolment> {
        self.enrolments.get(&key)
    }

    pub(super) fn holder(&self, key: EnrolmentKey, membership_id: &str) -> Option<CustomerId> {
        self.members.get(&(key.org_id, key.program_id))?.get(membership_id).copied()
    }

    /// Puts an enrolment in its new state and keeps who holds which membership id.
    pub(super) fn put(&mut self, key: EnrolmentKey, after: Enrolment) {
        let members = self.members.entry((key.org_id, key.program_id)).or_default();
        let before = self.enrolments.get(&key);
        if let Some(membership_id) = before.and_then(held_membership_id) {
            members.remove(membership_id);
        }
        if let Some(membership_id) = held_membership_id(&after) {
            members.insert(membership_id.to_owned(), key.customer_id);
        }
        let before = self.enrolments.insert(key, after);
        self.loaded.entry(key).or_insert(before);
    }
}

/// The membership id that an enrolment keeps others from.
fn held_membership_id(enrolment: &Enrolment) -> Option<&str> {
    enrolment.membership_id.as_deref().filter(|_| enrolment.linked)
}
