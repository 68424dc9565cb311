//! The contract in executable form: one command at a time, on JSON values, in plain maps.
//!
//! It was written from the contract's pages, not from `src/domain`, and shares no code with it:
//! where the two agree, two readings of the law agree. Deliberately absent: anything that would
//! make it fast, and the judgement of malformed bodies, which is the generator's to label.

mod answers;
mod reading;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::model::answers::{
    array, echo, failed_customer, known_customer, object, status, warning, words,
};
use crate::model::reading::{date, find, rank, text};

/// A partner program of an org.
#[derive(Clone, Debug)]
pub struct Program {
    pub name: &'static str,
    pub external: bool,
    pub active: bool,
    pub ends_at: Option<DateTime<Utc>>,
    /// Lowest first; empty: not tier-based.
    pub tiers: &'static [&'static str],
}

/// A registered customer.
#[derive(Clone, Debug)]
pub struct Customer {
    pub id: i64,
    pub mobile: Option<String>,
    pub email: Option<String>,
    pub external_id: Option<String>,
    /// `active`, `not_enrolled`, `merged` or `fraud`.
    pub state: &'static str,
}

/// A tenant.
#[derive(Clone, Debug)]
pub struct Org {
    pub code: &'static str,
    pub country_code: &'static str,
    pub programs: Vec<Program>,
    pub customers: Vec<Customer>,
}

/// A row that must stand in the database afterwards.
#[derive(Clone, Debug, PartialEq)]
pub struct Enrolment {
    pub linked: bool,
    pub membership_id: Option<String>,
    /// The tier's name, as the catalogue writes it.
    pub tier: Option<String>,
    pub tier_expires_at: Option<DateTime<Utc>>,
    pub linked_since: DateTime<Utc>,
    pub version: i64,
}

/// Org code, customer id and program name.
pub type Key = (String, i64, String);

/// A history row that must have been written.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub key: Key,
    pub kind: String,
    /// `None`: the command had no message id, so the worker made one up.
    pub command_id: Option<String>,
    pub before: Option<Enrolment>,
    pub after: Enrolment,
    pub reason: Option<String>,
}

/// What must come out for one delivered command.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Result {
        verdict: &'static str,
        total: usize,
        succeeded: usize,
        body: String,
    },
    /// A dead letter, for this reason.
    Rejected(&'static str),
}

/// The law's view of the world.
#[derive(Clone, Debug)]
pub struct Model {
    pub now: DateTime<Utc>,
    pub orgs: Vec<Org>,
    pub enrolments: BTreeMap<Key, Enrolment>,
    pub history: Vec<Event>,
    inbox: BTreeMap<(String, String), (Vec<u8>, Answer)>,
}

/// An item that passed every check.
struct Done {
    key: Key,
    kind: String,
    after: Enrolment,
    reason: Option<String>,
    tier_fields_ignored: bool,
}

impl Model {
    pub fn new(now: DateTime<Utc>, orgs: Vec<Org>) -> Self {
        Self {
            now,
            orgs,
            enrolments: BTreeMap::new(),
            history: Vec::new(),
            inbox: BTreeMap::new(),
        }
    }

    /// Applies a well-formed command.
    pub fn apply(
        &mut self,
        org: &str,
        operation: &str,
        message_id: Option<&str>,
        body: &[u8],
    ) -> Answer {
        let inbox_key = message_id.map(|id| (org.to_owned(), id.to_owned()));
        if let Some((first_body, first_answer)) =
            inbox_key.as_ref().and_then(|key| self.inbox.get(key))
        {
            return if first_body == body {
                first_answer.clone()
            } else {
                Answer::Rejected("message-id-reused")
            };
        }
        let answer = self.answer(org, operation, message_id, body);
        if let Some(key) = inbox_key {
            self.inbox.insert(key, (body.to_vec(), answer.clone()));
        }
        answer
    }

    fn answer(
        &mut self,
        org: &str,
        operation: &str,
        message_id: Option<&str>,
        body: &[u8],
    ) -> Answer {
        let org = self
            .orgs
            .iter()
            .find(|known| known.code == org)
            .expect("a known org")
            .clone();
        let (root, list, status_key) = words(operation);
        let command: Value = serde_json::from_slice(body).expect("a well-formed body");
        let entries = command[root].as_array().expect("an array of customers");

        let mut warnings = Vec::new();
        if message_id.is_none() {
            warnings.push(warning(2203, String::new()));
        }
        let (mut total, mut succeeded, mut customers_failed) = (0, 0, 0);
        let mut outputs = Vec::new();
        for (i, entry) in entries.iter().enumerate() {
            let items = entry[list].as_array().expect("an array of programs");
            let found = if entries.len() > 50 {
                Err(1060)
            } else {
                find(&org, &entry["customer"])
            };
            let mut codes = Vec::new();
            let customer_output = match &found {
                Err(code) => {
                    customers_failed += 1;
                    codes.resize(items.len(), 2001);
                    failed_customer(&entry["customer"], *code)
                }
                Ok((customer, unmatched)) => {
                    for field in unmatched {
                        warnings.push(warning(2202, format!("/{root}/{i}/customer/{field}")));
                    }
                    let mut named = BTreeSet::new();
                    for (j, item) in items.iter().enumerate() {
                        let decided = if items.len() > 50 {
                            Err(2008)
                        } else {
                            self.item(&org, customer, operation, item, &mut named)
                        };
                        codes.push(match decided {
                            Err(code) => code,
                            Ok(done) => {
                                if done.tier_fields_ignored {
                                    warnings.push(warning(
                                        2201,
                                        format!("/{root}/{i}/{list}/{j}/customerPartnerReference"),
                                    ));
                                }
                                self.put(message_id, done);
                                200
                            }
                        });
                    }
                    known_customer(customer)
                }
            };
            total += codes.len();
            succeeded += codes.iter().filter(|code| **code == 200).count();
            let item_outputs: Vec<String> = items
                .iter()
                .zip(&codes)
                .map(|(item, code)| {
                    object(&[
                        ("partnerProgramName", echo(&item["partnerProgramName"])),
                        (
                            "updateType",
                            echo(&item["updateType"]).filter(|_| operation == "update"),
                        ),
                        (status_key, Some(status(*code))),
                    ])
                })
                .collect();
            outputs.push(object(&[
                ("customer", Some(customer_output)),
                (list, Some(array(&item_outputs))),
            ]));
        }
        let verdict = if succeeded == total && customers_failed == 0 {
            "succeeded"
        } else if succeeded > 0 {
            "partial"
        } else {
            "failed"
        };
        let body = object(&[
            (root, Some(array(&outputs))),
            ("warnings", Some(array(&warnings))),
        ]);
        Answer::Result {
            verdict,
            total,
            succeeded,
            body,
        }
    }

    /// The checks, in the contract's order; the first that fails answers.
    fn item(
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
                let mut after = row.clone();
                after.linked = false;
                after.version += 1;
                Ok(Done {
                    key,
                    kind: "DELINK".to_owned(),
                    after,
                    reason: text(&item["reason"]),
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
        // Membership id given, membership id free.
        let membership_id = text(&reference["partnerMembershipId"]);
        if membership_id.is_none() && program.external {
            return Err(2102);
        }
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
            let rank = tier_name
                .and_then(|name| rank(program, &name))
                .ok_or(2007_u16)?;
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
        Ok(Done {
            key,
            kind: "ENROLMENT".to_owned(),
            after,
            reason: None,
            tier_fields_ignored,
        })
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
        Ok(Done {
            key,
            kind,
            after,
            reason: None,
            tier_fields_ignored: false,
        })
    }

    fn put(&mut self, message_id: Option<&str>, done: Done) {
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
