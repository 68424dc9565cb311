//! Decides a command: a status for each customer and item, the warnings, and the effects.

use super::enrolment::Effect;
use super::identity::Customer;
use super::status::Status;

/// The decision on one command, in the order in which it named customers and programs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    pub entries: Vec<EntryOutcome>,
    pub warnings: Vec<Warning>,
    pub effects: Vec<Effect>,
}

/// The answer for one customer entry.
#[derive(Clone, Debug, PartialEq)]
pub struct EntryOutcome {
    pub customer: CustomerOutcome,
    /// One for each item of the entry.
    pub items: Vec<Status>,
}

/// Whether the customer of an entry was found and may be acted on.
#[derive(Clone, Debug, PartialEq)]
pub enum CustomerOutcome {
    Retrieved(Customer),
    Failed(Status),
}

/// Something the publisher should know although nothing failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub status: Status,
    /// JSON pointer into the command's body; empty for the command as a whole.
    pub path: String,
}

impl Outcome {
    /// What the result is called in its routing key.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let counts = self.counts();
        let failed_customers = self
            .entries
            .iter()
            .any(|entry| matches!(entry.customer, CustomerOutcome::Failed(_)));
        if counts.failed == 0 && !failed_customers {
            Verdict::Succeeded
        } else if counts.succeeded > 0 {
            Verdict::Partial
        } else {
            Verdict::Failed
        }
    }

    #[must_use]
    pub fn counts(&self) -> Counts {
        let items = self.entries.iter().flat_map(|entry| &entry.items);
        let (mut total, mut succeeded) = (0, 0);
        for status in items {
            total += 1;
            succeeded += u32::from(status.is_success());
        }
        Counts {
            total,
            succeeded,
            failed: total - succeeded,
        }
    }
}

/// How a command went, all in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// No item and no customer failed.
    Succeeded,
    Partial,
    /// Something failed and no item succeeded.
    Failed,
}

impl Verdict {
    pub const ALL: [Self; 3] = [Self::Succeeded, Self::Partial, Self::Failed];

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
        Self::ALL
            .into_iter()
            .find(|verdict| verdict.as_str() == word)
    }
}

/// Numbers of program items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    pub total: u32,
    pub succeeded: u32,
    pub failed: u32,
}
