//! Decides a command: a status for each customer and item, the warnings, and the effects.
//!
//! This file walks the command and makes the checks that all three operations share, in the
//! contract's fixed order (`docs/contract.md#effects-by-state`); `link`, `update` and `delink` make
//! the rest. Items are independent: one that fails undoes nothing, and later ones see the
//! effects of earlier ones.

use std::collections::HashSet;

use chrono::{DateTime, Utc};

use crate::domain::command::{CUSTOMERS_MAX, Command, Entry, Operation, PROGRAMS_MAX, given};
use crate::domain::enrolment::{Effect, EffectKind, Enrolment, EnrolmentKey};
use crate::domain::identity::Customer;
use crate::domain::names::CUSTOMER;
use crate::domain::program::{Org, Program, normalised};
use crate::domain::resolve;
use crate::domain::snapshot::Snapshot;
use crate::domain::status::{Checked, Status};

/// Decides `command` on the facts in `snapshot`, and leaves its effects there for those that
/// come after it.
pub fn evaluate(
    org: &Org,
    snapshot: &mut Snapshot,
    command: &Command,
    now: DateTime<Utc>,
) -> Outcome {
    let mut walk =
        Walk { org, snapshot, now, operation: command.operation(), outcome: Outcome::default() };
    match command {
        Command::Link(entries) => walk.entries(entries),
        Command::Update(entries) => walk.entries(entries),
        Command::Delink(entries) => walk.entries(entries),
    }
    walk.outcome
}

/// The decision on one command, in the order in which it named customers and programs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// One for each customer entry.
    pub entries: Vec<EntryOutcome>,
    /// In the order in which the command was walked.
    pub warnings: Vec<Warning>,
    /// In the order in which they happened.
    pub effects: Vec<Effect>,
}

/// The answer for one customer entry.
#[derive(Clone, Debug, PartialEq)]
pub struct EntryOutcome {
    /// Found, or why not.
    pub customer: CustomerOutcome,
    /// One for each item of the entry.
    pub items: Vec<Status>,
}

/// Whether the customer of an entry was found and may be acted on.
#[derive(Clone, Debug, PartialEq)]
pub enum CustomerOutcome {
    /// Found and active.
    Retrieved(Customer),
    /// The reason; the items are then 2001.
    Failed(Status),
}

/// Something the publisher should know although nothing failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// One of 2201, 2202 and 2203.
    pub status: Status,
    /// JSON pointer into the command's body; empty for the command as a whole.
    pub path: String,
}

impl Outcome {
    /// What the result is called in its routing key.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let counts = self.counts();
        let failed_customers =
            self.entries.iter().any(|entry| matches!(entry.customer, CustomerOutcome::Failed(_)));
        if counts.failed == 0 && !failed_customers {
            Verdict::Succeeded
        } else if counts.succeeded > 0 {
            Verdict::Partial
        } else {
            Verdict::Failed
        }
    }

    /// How many items there were and how they went.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let items = self.entries.iter().flat_map(|entry| &entry.items);
        let (mut total, mut succeeded) = (0, 0);
        for status in items {
            total += 1;
            succeeded += u32::from(status.is_success());
        }
        Counts { total, succeeded, failed: total - succeeded }
    }
}

/// How a command went, all in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// No item and no customer failed.
    Succeeded,
    /// Something failed and some item succeeded.
    Partial,
    /// Something failed and no item succeeded.
    Failed,
}

impl Verdict {
    /// Every verdict.
    pub const ALL: [Self; 3] = [Self::Succeeded, Self::Partial, Self::Failed];

    /// The word in routing keys, tables and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Partial => "partial",
            Self::Failed => "failed",
        }
    }

    /// The inverse of [`as_str`](Self::as_str).
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.as_str() == word)
    }
}

/// Numbers of program items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// All items.
    pub total: u32,
    /// Those with status 200.
    pub succeeded: u32,
    /// The others.
    pub failed: u32,
}

/// An item of one of the operations: what the shared walk needs to know of it.
pub(super) trait Item {
    fn program_name(&self) -> Option<&String>;

    /// Whether the program must be open: only leaving is always allowed.
    const NEEDS_OPEN_PROGRAM: bool;

    /// The checks from "link state" on, and what follows if all are passed.
    fn decide(&self, standing: &Standing<'_>) -> Checked<Decision>;
}

/// The state of a customer in the program that an item names.
pub(super) struct Standing<'a> {
    pub(super) program: &'a Program,
    pub(super) key: EnrolmentKey,
    /// `None` where there never was one.
    pub(super) enrolment: Option<&'a Enrolment>,
    pub(super) snapshot: &'a Snapshot,
    pub(super) now: DateTime<Utc>,
}

impl<'a> Standing<'a> {
    /// The enrolment, if the customer is linked now.
    pub(super) fn linked(&self) -> Option<&'a Enrolment> {
        self.enrolment.filter(|enrolment| enrolment.linked)
    }

    /// The version that an effect gives the enrolment.
    pub(super) fn next_version(&self) -> i64 {
        self.enrolment.map_or(0, |enrolment| enrolment.version).saturating_add(1)
    }
}

/// What an item that passed its checks does.
pub(super) struct Decision {
    pub(super) kind: EffectKind,
    pub(super) after: Enrolment,
    pub(super) reason: Option<String>,
    /// A warning about this field of the item.
    pub(super) warning: Option<(Status, &'static str)>,
}

struct Walk<'a> {
    org: &'a Org,
    snapshot: &'a mut Snapshot,
    now: DateTime<Utc>,
    operation: Operation,
    outcome: Outcome,
}

impl Walk<'_> {
    fn entries<I: Item>(&mut self, entries: &[Entry<I>]) {
        let too_many = entries.len() > CUSTOMERS_MAX;
        for (index, entry) in entries.iter().enumerate() {
            let customer =
                if too_many { Err(Status::TooManyCustomers) } else { self.customer(index, entry) };
            let (customer, items) = match customer {
                Err(status) => {
                    (CustomerOutcome::Failed(status), vec![Status::NotProcessed; entry.items.len()])
                }
                Ok(customer) => {
                    let items = self.items(index, &customer, &entry.items);
                    (CustomerOutcome::Retrieved(customer), items)
                }
            };
            self.outcome.entries.push(EntryOutcome { customer, items });
        }
    }

    fn customer<I>(&mut self, index: usize, entry: &Entry<I>) -> Checked<Customer> {
        let resolved = resolve::resolve(self.org, self.snapshot, &entry.customer)?;
        for field in resolved.unmatched {
            let path = format!("/{}/{index}/{CUSTOMER}/{field}", self.operation.root_key());
            self.outcome.warnings.push(Warning { status: Status::IdentifierUnmatched, path });
        }
        Ok(resolved.customer)
    }

    fn items<I: Item>(&mut self, entry: usize, customer: &Customer, items: &[I]) -> Vec<Status> {
        if items.len() > PROGRAMS_MAX {
            return vec![Status::TooManyPrograms; items.len()];
        }
        let mut named = HashSet::new();
        items
            .iter()
            .enumerate()
            .map(|(index, item)| match self.item(customer, item, &mut named) {
                Err(status) => status,
                Ok(warning) => {
                    if let Some((status, field)) = warning {
                        let (root, list) = (self.operation.root_key(), self.operation.list_key());
                        let path = format!("/{root}/{entry}/{list}/{index}/{field}");
                        self.outcome.warnings.push(Warning { status, path });
                    }
                    Status::Success
                }
            })
            .collect()
    }

    fn item<I: Item>(
        &mut self,
        customer: &Customer,
        item: &I,
        named: &mut HashSet<String>,
    ) -> Checked<Option<(Status, &'static str)>> {
        let name = given(item.program_name()).ok_or(Status::FieldEmpty)?;
        if !named.insert(normalised(name)) {
            return Err(Status::ProgramRepeated);
        }
        let program = self.org.program(name).ok_or(Status::ProgramUnknown)?;
        if I::NEEDS_OPEN_PROGRAM && !program.is_open(self.now) {
            return Err(Status::ProgramClosed);
        }
        let key =
            EnrolmentKey { org_id: self.org.id, customer_id: customer.id, program_id: program.id };
        let enrolment = self.snapshot.enrolment(key);
        let standing = Standing { program, key, enrolment, snapshot: self.snapshot, now: self.now };
        let Decision { kind, after, reason, warning } = item.decide(&standing)?;
        let before = enrolment.cloned();
        self.snapshot.put(key, after.clone());
        self.outcome.effects.push(Effect { kind, key, before, after, reason });
        Ok(warning)
    }
}
