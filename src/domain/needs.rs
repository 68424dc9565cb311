//! The questions that commands will ask of a snapshot: what to load before they are evaluated.

use std::collections::BTreeSet;

use crate::domain::command::{Command, Entry, LinkItem, given, stored_text};
use crate::domain::enrolment::Membership;
use crate::domain::identity::{CustomerId, Lookup};
use crate::domain::program::{Org, OrgId, ProgramId};

/// Sets of keys, each in order and without repetition.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    customers: BTreeSet<(OrgId, CustomerId)>,
    mobiles: BTreeSet<(OrgId, String)>,
    emails: BTreeSet<(OrgId, String)>,
    external_ids: BTreeSet<(OrgId, String)>,
    membership_ids: BTreeSet<Membership>,
}

impl Needs {
    /// Adds what `command` will ask. The enrolments of the customers found are needed as well.
    pub fn add_command(&mut self, org: &Org, command: &Command) {
        for identifiers in command.identifiers() {
            // One that can't be looked up asks nothing.
            if let Ok(lookup) = Lookup::parse(identifiers) {
                self.add_lookup(org, lookup);
            }
        }
        self.membership_ids.extend(membership_ids(org, command));
    }

    fn add_lookup(&mut self, org: &Org, lookup: Lookup) {
        self.customers.extend(lookup.id.map(|id| (org.id, id)));
        let mobiles = lookup.mobile.iter().flat_map(|m| m.candidates(&org.country_code));
        self.mobiles.extend(mobiles.map(|mobile| (org.id, mobile)));
        self.emails.extend(lookup.email.map(|email| (org.id, email.as_str().to_owned())));
        let external_id = lookup.external_id.map(|id| (org.id, id.as_str().to_owned()));
        self.external_ids.extend(external_id);
    }

    /// Whether nothing is asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.customers.is_empty()
            && self.mobiles.is_empty()
            && self.emails.is_empty()
            && self.external_ids.is_empty()
    }

    /// Customers by their own key.
    pub fn customers(&self) -> impl Iterator<Item = (OrgId, CustomerId)> {
        self.customers.iter().copied()
    }

    /// Digits.
    pub fn mobiles(&self) -> impl Iterator<Item = (OrgId, &str)> {
        self.mobiles.iter().map(|(org_id, mobile)| (*org_id, mobile.as_str()))
    }

    /// In lower case.
    pub fn emails(&self) -> impl Iterator<Item = (OrgId, &str)> {
        self.emails.iter().map(|(org_id, email)| (*org_id, email.as_str()))
    }

    /// As given, trimmed.
    pub fn external_ids(&self) -> impl Iterator<Item = (OrgId, &str)> {
        self.external_ids.iter().map(|(org_id, id)| (*org_id, id.as_str()))
    }

    /// Membership ids that customers may hold.
    pub fn membership_ids(&self) -> impl Iterator<Item = (OrgId, ProgramId, &str)> {
        self.membership_ids
            .iter()
            .map(|(org_id, program_id, id)| (*org_id, *program_id, id.as_str()))
    }
}

/// The membership ids that a command names.
pub(super) fn membership_ids<'a>(
    org: &'a Org,
    command: &'a Command,
) -> impl Iterator<Item = Membership> + use<'a> {
    let entries: &[Entry<LinkItem>] = match command {
        Command::Link(entries) => entries,
        Command::Update(_) | Command::Delink(_) => &[],
    };
    entries.iter().flat_map(|entry| &entry.items).filter_map(|item| {
        let program = given(item.program_name.as_ref()).and_then(|name| org.program(name))?;
        let reference = item.reference.as_ref()?;
        let membership_id = stored_text(reference.membership_id.as_ref()).ok()??;
        Some((org.id, program.id, membership_id.to_owned()))
    })
}
