//! The contract in executable form: one command at a time, on JSON values, in plain maps.
//!
//! It was written from the contract's pages, not from `src/domain`, and shares no code with it:
//! where the two agree, two readings of the law agree. Deliberately absent: anything that would
//! make it fast, and the judgement of malformed bodies, which is the generator's to label.

mod answers;
mod items;
mod reading;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::model::answers::{
    array, echo, failed_customer, known_customer, object, status, warning, words,
};
use crate::model::reading::find;

/// A partner program of an org.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) external: bool,
    pub(crate) active: bool,
    pub(crate) ends_at: Option<DateTime<Utc>>,
    /// Lowest first; empty: not tier-based.
    pub(crate) tiers: &'static [&'static str],
}

/// A registered customer.
#[derive(Clone, Debug)]
pub(crate) struct Customer {
    pub(crate) id: i64,
    pub(crate) mobile: Option<String>,
    pub(crate) email: Option<String>,
    pub(crate) external_id: Option<String>,
    /// `active`, `not_enrolled`, `merged` or `fraud`.
    pub(crate) state: &'static str,
}

/// A tenant.
#[derive(Clone, Debug)]
pub(crate) struct Org {
    pub(crate) code: &'static str,
    pub(crate) country_code: &'static str,
    pub(crate) programs: Vec<Program>,
    pub(crate) customers: Vec<Customer>,
}

/// A row that must stand in the database afterwards.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Enrolment {
    pub(crate) linked: bool,
    pub(crate) membership_id: Option<String>,
    /// The tier's name, as the catalogue writes it.
    pub(crate) tier: Option<String>,
    pub(crate) tier_expires_at: Option<DateTime<Utc>>,
    pub(crate) linked_since: DateTime<Utc>,
    pub(crate) version: i64,
}

/// Org code, customer id and program name.
pub(crate) type Key = (String, i64, String);

/// A history row that must have been written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) key: Key,
    pub(crate) kind: String,
    /// `None`: the command had no message id, so the worker made one up.
    pub(crate) command_id: Option<String>,
    pub(crate) before: Option<Enrolment>,
    pub(crate) after: Enrolment,
    pub(crate) reason: Option<String>,
}

/// What must come out for one delivered command.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
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
pub(crate) struct Model {
    pub(crate) now: DateTime<Utc>,
    pub(crate) orgs: Vec<Org>,
    pub(crate) enrolments: BTreeMap<Key, Enrolment>,
    pub(crate) history: Vec<Event>,
    inbox: BTreeMap<(String, String), (Vec<u8>, Answer)>,
}

impl Model {
    pub(crate) fn new(now: DateTime<Utc>, orgs: Vec<Org>) -> Self {
        Self { now, orgs, enrolments: BTreeMap::new(), history: Vec::new(), inbox: BTreeMap::new() }
    }

    /// Applies a well-formed command.
    pub(crate) fn apply(
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
        let org = self.orgs.iter().find(|known| known.code == org).expect("a known org").clone();
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
            let found = if entries.len() > 50 { Err(1060) } else { find(&org, &entry["customer"]) };
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
                        ("updateType", echo(&item["updateType"]).filter(|_| operation == "update")),
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
        let body = object(&[(root, Some(array(&outputs))), ("warnings", Some(array(&warnings)))]);
        Answer::Result { verdict, total, succeeded, body }
    }
}
