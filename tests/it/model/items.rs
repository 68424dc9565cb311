//! What the law says of one item: every check in the contract's order, then the effect.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::model::reading::{date, rank, text};
use crate::model::{Customer, Enrolment, Event, Key, Model, Org, Program};

/// An item that passed every check.
pub(super) struct Done {
    key: Key,
    kind: String,
    after: Enrolment,
    reason: Option<String>,
    pub(super) tier_fields_ignored: bool,
}

impl Model {
    /// The checks, in the contract's order; the first that fails answers.
    pub(super) fn item(
        &self,
        org: &Org,
        customer: &Customer,
        operation: &str,
        item: &Value,
        named: &mut BTreeSet<String>,
    ) -> Result<Done, u16> {
        // Program name given, program named once, program known, program active.
        let name = text(&item["partnerProgramName"]).ok_or(2002_u16)?;
        if !named.insert(name.to_lowercase()) {
            return Err(2106);
        }
        let program = org
            .programs
            .iter()
            .find(|program| program.name.to_lowercase() == name.to_lowercase())
            .ok_or(2006_u16)?;
        let over = program.ends_at.is_some_and(|end| end <= self.now);
        if operation != "delink" && (!program.active || over) {
            return Err(2104);
        }
        let key = (org.code.to_owned(), customer.id, program.name.to_owned());
        let stored = self.enrolments.get(&key);
        let linked = stored.filter(|row| row.linked);
        match operation {
            "link" if linked.is_some() => Err(2005),
            "link" => self.link(program, key, stored, item),
            "update" => self.update(program, key, linked.ok_or(2004_u16)?, item),
            _ => {
                let row = linked.ok_or(2004_u16)?;
                let reason = text(&item["reason"]);
                fits(reason.as_ref())?;
                let mut after = row.clone();
                after.linked = false;
                after.version += 1;
                Ok(Done {
                    key,
                    kind: "DELINK".to_owned(),
                    after,
                    reason,
                    tier_fields_ignored: false,
                })
            }
        }
    }

    fn link(
        &self,
        program: &Program,
        key: Key,
        stored: Option<&Enrolment>,
        item: &Value,
    ) -> Result<Done, u16> {
        let reference = &item["customerPartnerReference"];
        if reference.is_null() {
            return Err(2002);
        }
        // Membership id given, membership id not too long, membership id free.
        let membership_id = text(&reference["partnerMembershipId"]);
        if membership_id.is_none() && program.external {
            return Err(2102);
        }
        fits(membership_id.as_ref())?;
        let taken = self.enrolments.iter().any(|((org, _, other), row)| {
            *org == key.0
                && *other == key.2
                && row.linked
                && row.membership_id.is_some()
                && row.membership_id == membership_id
        });
        if taken {
            return Err(2103);
        }
        // Tier, date.
        let tier_name = text(&reference["partnerTierName"]);
        let date = date(&reference["partnerTierExpiryDate"]);
        let mut tier = None;
        let mut tier_expires_at = None;
        let mut tier_fields_ignored = false;
        if program.tiers.is_empty() {
            tier_fields_ignored = tier_name.is_some() || date != Ok(None);
        } else {
            let rank = tier_name.and_then(|name| rank(program, &name)).ok_or(2007_u16)?;
            tier = Some(program.tiers[rank].to_owned());
            tier_expires_at = date.map_err(|()| 2105_u16)?;
            if tier_expires_at.is_some_and(|at| at <= self.now) {
                return Err(2003);
            }
        }
        let after = Enrolment {
            linked: true,
            membership_id,
            tier,
            tier_expires_at,
            linked_since: self.now,
            version: stored.map_or(1, |row| row.version + 1),
        };
        Ok(Done { key, kind: "ENROLMENT".to_owned(), after, reason: None, tier_fields_ignored })
    }

    fn update(
        &self,
        program: &Program,
        key: Key,
        row: &Enrolment,
        item: &Value,
    ) -> Result<Done, u16> {
        // Tier.
        if program.tiers.is_empty() {
            return Err(2007);
        }
        let details = &item["updateDetails"];
        let tier_name = text(&details["updatedTierName"]).ok_or(2002_u16)?;
        let to = rank(program, &tier_name).ok_or(2007_u16)?;
        // Update type.
        let kind = text(&item["updateType"]).ok_or(2002_u16)?;
        if !["UPGRADE", "RENEW", "DOWNGRADE"].contains(&kind.as_str()) {
            return Err(2009);
        }
        // Direction. No stored tier is lower than every tier.
        let date = date(&details["updatedTierExpiryDate"]);
        let from = row.tier.as_ref().and_then(|tier| rank(program, tier));
        let fits = match kind.as_str() {
            "UPGRADE" => Some(to) > from,
            "DOWNGRADE" => Some(to) < from,
            _ => Some(to) == from && date != Ok(None),
        };
        if !fits {
            return Err(2101);
        }
        // Date.
        let expiry = date.map_err(|()| 2105_u16)?.or(row.tier_expires_at);
        if expiry.is_some_and(|at| at <= self.now) {
            return Err(2003);
        }
        let mut after = row.clone();
        after.tier = Some(program.tiers[to].to_owned());
        after.tier_expires_at = expiry;
        after.version += 1;
        Ok(Done { key, kind, after, reason: None, tier_fields_ignored: false })
    }

    pub(super) fn put(&mut self, message_id: Option<&str>, done: Done) {
        let before = self.enrolments.insert(done.key.clone(), done.after.clone());
        self.history.push(Event {
            key: done.key,
            kind: done.kind,
            command_id: message_id.map(ToOwned::to_owned),
            before,
            after: done.after,
            reason: done.reason,
        });
    }
}

/// A membership id or a reason has at most 255 characters.
fn fits(text: Option<&String>) -> Result<(), u16> {
    if text.is_some_and(|text| text.chars().count() > 255) { Err(2107) } else { Ok(()) }
}
