//! A customer's standing in a partner program, and what a command does to it.

use chrono::{DateTime, Utc};

use crate::domain::identity::CustomerId;
use crate::domain::program::{OrgId, ProgramId, TierId};

/// Which enrolment: one row for each customer and program, ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnrolmentKey {
    /// The tenant.
    pub org_id: OrgId,
    /// Who.
    pub customer_id: CustomerId,
    /// In which program.
    pub program_id: ProgramId,
}

/// A membership id of a program.
pub type Membership = (OrgId, ProgramId, String);

/// The state of an enrolment. A delinked one keeps its row and its last values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolment {
    /// False once the customer has left.
    pub linked: bool,
    /// The customer's id in the program; unique in it among the linked.
    pub membership_id: Option<String>,
    /// `None` in a program without tiers.
    pub tier: Option<TierId>,
    /// `None`: the tier never expires.
    pub tier_expires_at: Option<DateTime<Utc>>,
    /// When the last link took effect.
    pub linked_since: DateTime<Utc>,
    /// Grows by one with each effect; 1 after the first.
    pub version: i64,
}

/// What happened, as the history names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EffectKind {
    /// Linked, or linked again.
    Enrolment,
    /// To a higher tier.
    Upgrade,
    /// The same tier, with a new expiry.
    Renew,
    /// To a lower tier.
    Downgrade,
    /// Left, softly.
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
    /// What happened.
    pub kind: EffectKind,
    /// To which enrolment.
    pub key: EnrolmentKey,
    /// `None` where the enrolment is new.
    pub before: Option<Enrolment>,
    /// The state it was brought to.
    pub after: Enrolment,
    /// As the command gave it (delink only).
    pub reason: Option<String>,
}
