//! A command as it was given: well-formed, but not checked against the rules yet.
//!
//! Texts are kept as they were sent, because results echo them. Whether they mean anything is
//! for [`evaluate`](crate::domain::evaluate) to say.

use std::fmt;

use chrono::{DateTime, Utc};

use crate::domain::status::Status;

/// Most customers that one command may name (status 1060, `docs/contract.md#limits`).
pub const CUSTOMERS_MAX: usize = 50;
/// Most programs that one customer entry may name (status 2008, `docs/contract.md#limits`).
pub const PROGRAMS_MAX: usize = 50;

/// Most characters of a membership id and of a reason, after trimming: both are stored
/// (status 2107, `docs/contract.md#status-codes`).
pub const STORED_TEXT_CHARS_MAX: usize = 255;

/// The three things that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// Join programs.
    Link,
    /// Change or renew a tier.
    Update,
    /// Leave programs.
    Delink,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 3] = [Self::Link, Self::Update, Self::Delink];

    /// The word in routing keys, tables and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Update => "update",
            Self::Delink => "delink",
        }
    }

    /// The root key of a command's body, and of its result's.
    #[must_use]
    pub const fn root_key(self) -> &'static str {
        match self {
            Self::Link => "linkCustomers",
            Self::Update => "customersPartnerUpdates",
            Self::Delink => "deLinkCustomers",
        }
    }

    /// The key of a customer entry's list of programs.
    #[must_use]
    pub const fn list_key(self) -> &'static str {
        match self {
            Self::Link => "linkToPartnerPrograms",
            Self::Update => "partnerProgramUpdates",
            Self::Delink => "deLinkFromPartnerPrograms",
        }
    }

    /// The key of an item's status in a result.
    #[must_use]
    pub const fn status_key(self) -> &'static str {
        match self {
            Self::Link => "partnerLinkStatus",
            Self::Update => "updateStatus",
            Self::Delink => "partnerDeLinkStatus",
        }
    }

    /// The inverse of [`as_str`](Self::as_str).
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.as_str() == word)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One command: customer entries, each with its items, in the order given.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// `linkCustomers`.
    Link(Vec<Entry<LinkItem>>),
    /// `customersPartnerUpdates`.
    Update(Vec<Entry<UpdateItem>>),
    /// `deLinkCustomers`.
    Delink(Vec<Entry<DelinkItem>>),
}

impl Command {
    /// Which of the three it asks for.
    #[must_use]
    pub const fn operation(&self) -> Operation {
        match self {
            Self::Link(_) => Operation::Link,
            Self::Update(_) => Operation::Update,
            Self::Delink(_) => Operation::Delink,
        }
    }

    /// What each entry gave to identify its customer.
    #[must_use]
    pub fn identifiers(&self) -> Box<dyn Iterator<Item = &Identifiers> + '_> {
        match self {
            Self::Link(entries) => Box::new(entries.iter().map(|entry| &entry.customer)),
            Self::Update(entries) => Box::new(entries.iter().map(|entry| &entry.customer)),
            Self::Delink(entries) => Box::new(entries.iter().map(|entry| &entry.customer)),
        }
    }

    /// The number of customer entries.
    #[must_use]
    pub const fn entry_count(&self) -> usize {
        match self {
            Self::Link(entries) => entries.len(),
            Self::Update(entries) => entries.len(),
            Self::Delink(entries) => entries.len(),
        }
    }

    /// The number of program items, over all entries.
    #[must_use]
    pub fn item_count(&self) -> usize {
        match self {
            Self::Link(entries) => entries.iter().map(|entry| entry.items.len()).sum(),
            Self::Update(entries) => entries.iter().map(|entry| entry.items.len()).sum(),
            Self::Delink(entries) => entries.iter().map(|entry| entry.items.len()).sum(),
        }
    }
}

/// One customer and what is asked for them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry<I> {
    /// Who is meant.
    pub customer: Identifiers,
    /// What is asked for, a program each.
    pub items: Vec<I>,
}

/// A customer's identifiers as given; `None` where the field was absent or null.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identifiers {
    /// The org's own key of the customer.
    pub id: Option<i64>,
    /// In any of the spellings that the contract takes.
    pub mobile: Option<String>,
    /// In any case.
    pub email: Option<String>,
    /// The upstream's key of the customer.
    pub external_id: Option<String>,
}

/// `linkToPartnerPrograms[]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinkItem {
    /// `partnerProgramName`.
    pub program_name: Option<String>,
    /// `customerPartnerReference`.
    pub reference: Option<Reference>,
}

/// `customerPartnerReference`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reference {
    /// `partnerMembershipId`.
    pub membership_id: Option<String>,
    /// `partnerTierName`.
    pub tier_name: Option<String>,
    /// `partnerTierExpiryDate`.
    pub tier_expiry: GivenDate,
}

/// `partnerProgramUpdates[]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UpdateItem {
    /// `partnerProgramName`.
    pub program_name: Option<String>,
    /// `updateType`.
    pub update_type: Option<String>,
    /// `updateDetails`.
    pub details: Option<UpdateDetails>,
}

/// `updateDetails`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UpdateDetails {
    /// `updatedTierName`.
    pub tier_name: Option<String>,
    /// `updatedTierExpiryDate`.
    pub tier_expiry: GivenDate,
}

/// `deLinkFromPartnerPrograms[]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DelinkItem {
    /// `partnerProgramName`.
    pub program_name: Option<String>,
    /// Kept in the history.
    pub reason: Option<String>,
}

/// A date field after reading; only the domain decides whether an unreadable one matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GivenDate {
    /// Absent, null or empty.
    #[default]
    Absent,
    /// Given, but not a date with an offset (`docs/contract.md#dates`; status 2105).
    Unreadable,
    /// In whole microseconds.
    At(DateTime<Utc>),
}

/// A text that is stored: trimmed, `None` where nothing is left of it.
///
/// # Errors
///
/// [`Status::ValueTooLong`] over [`STORED_TEXT_CHARS_MAX`].
pub(super) fn stored_text(text: Option<&String>) -> Result<Option<&str>, Status> {
    let text = given(text);
    // As many bytes are no more characters: most texts need not be counted.
    let is_too_long = |text: &str| {
        text.len() > STORED_TEXT_CHARS_MAX && text.chars().nth(STORED_TEXT_CHARS_MAX).is_some()
    };
    if text.is_some_and(is_too_long) { Err(Status::ValueTooLong) } else { Ok(text) }
}

/// The text, trimmed; `None` where nothing is left of it.
#[must_use]
pub fn given(text: Option<&String>) -> Option<&str> {
    text.map(|text| text.trim()).filter(|text| !text.is_empty())
}
