//! A customer's standing in a partner program, and what a command does to it.

use chrono::{DateTime, Utc};

use super::identity::CustomerId;
use super::program::{OrgId, ProgramId};

/// Which enrolment: one row for each customer and program, ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnrolmentKey {
    pub org_id: OrgId,
    pub customer_id: CustomerId,
    pub program_id: ProgramId,
}

/// The state of an enrolment. A delinked one keeps its row and its last values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolment {
    pub linked: bool,
    pub membership_id: Option<String>,
    pub tier_number: Option<i16>,
    /// `None`: the tier never expires.
    pub tier_expires_at: Option<DateTime<Utc>>,
    pub linked_since: DateTime<Utc>,
    /// Grows by one with each effect; 1 after the first.
    pub version: i64,
}

/// What happened, as the history names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EffectKind {
    Enrolment,
    Upgrade,
    Renew,
    Downgrade,
    Delink,
}

impl EffectKind {
    /// The word in the history and, for the three updates, in `updateType`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enrolment => "ENROLMENT",
            Self::Upgrade => "UPGRADE",
            Self::Renew => "RENEW",
            Self::Downgrade => "DOWNGRADE",
            Self::Delink => "DELINK",
        }
    }
}

/// One change of one enrolment: a row of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    pub kind: EffectKind,
    pub key: EnrolmentKey,
    /// `None` where the enrolment is new.
    pub before: Option<Enrolment>,
    pub after: Enrolment,
    /// As the command gave it (delink only).
    pub reason: Option<String>,
}
