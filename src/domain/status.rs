//! The status codes and their texts (`docs/contract.md#status-codes`).

/// The answer for one customer or one item, or the subject of a warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// 1000.
    CustomerRetrieved,
    /// 1012.
    CustomerUnknown,
    /// 1013.
    CustomerNotEnrolled,
    /// 1015.
    NoIdentifier,
    /// 1042.
    IdentifierInvalid,
    /// 1047.
    IdentifiersConflict,
    /// 1060.
    TooManyCustomers,
    /// 8069.
    CustomerMerged,
    /// 618.
    CustomerFraud,

    /// 200.
    Success,
    /// 2001.
    NotProcessed,
    /// 2002.
    FieldEmpty,
    /// 2003.
    ExpiryPast,
    /// 2004.
    NotLinked,
    /// 2005.
    AlreadyLinked,
    /// 2006.
    ProgramUnknown,
    /// 2007.
    TierUnknown,
    /// 2008.
    TooManyPrograms,
    /// 2009.
    UpdateTypeUnknown,
    /// 2101.
    TierMismatch,
    /// 2102.
    MembershipIdMissing,
    /// 2103.
    MembershipIdTaken,
    /// 2104.
    ProgramClosed,
    /// 2105.
    DateUnreadable,
    /// 2106.
    ProgramRepeated,
    /// 2107.
    ValueTooLong,

    /// 2201.
    TierFieldsIgnored,
    /// 2202.
    IdentifierUnmatched,
    /// 2203.
    NoMessageId,
}

/// A check's answer: the first failure ends the customer or the item with its status.
pub(super) type Checked<T> = Result<T, Status>;

impl Status {
    /// Every status, in the order of the contract.
    pub const ALL: [Self; 29] = [
        Self::CustomerRetrieved,
        Self::CustomerUnknown,
        Self::CustomerNotEnrolled,
        Self::NoIdentifier,
        Self::IdentifierInvalid,
        Self::IdentifiersConflict,
        Self::TooManyCustomers,
        Self::CustomerMerged,
        Self::CustomerFraud,
        Self::Success,
        Self::NotProcessed,
        Self::FieldEmpty,
        Self::ExpiryPast,
        Self::NotLinked,
        Self::AlreadyLinked,
        Self::ProgramUnknown,
        Self::TierUnknown,
        Self::TooManyPrograms,
        Self::UpdateTypeUnknown,
        Self::TierMismatch,
        Self::MembershipIdMissing,
        Self::MembershipIdTaken,
        Self::ProgramClosed,
        Self::DateUnreadable,
        Self::ProgramRepeated,
        Self::ValueTooLong,
        Self::TierFieldsIgnored,
        Self::IdentifierUnmatched,
        Self::NoMessageId,
    ];

    /// The number on the wire. 1xxx, 618, 8069 and 2001 to 2009 are the platform's public codes.
    #[must_use]
    pub const fn code(self) -> u16 {
        self.entry().0
    }

    /// The text on the wire, for people: publishers decide by the code, so the text may be improved.
    #[must_use]
    pub const fn message(self) -> &'static str {
        self.entry().1
    }

    /// `status` on the wire: true for 200 and 1000 only.
    #[must_use]
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Success | Self::CustomerRetrieved)
    }

    const fn entry(self) -> (u16, &'static str) {
        match self {
            Self::CustomerRetrieved => (1000, "Customer successfully retrieved"),
            Self::CustomerUnknown => (1012, "Customer not found"),
            Self::CustomerNotEnrolled => {
                (1013, "Customer is not registered for the loyalty program")
            }
            Self::NoIdentifier => (1015, "No customer identifier given"),
            Self::IdentifierInvalid => (1042, "Invalid mobile, email or external id"),
            Self::IdentifiersConflict => (1047, "Identifiers belong to different customers"),
            Self::TooManyCustomers => (1060, "More than 50 customers in one command"),
            Self::CustomerMerged => (8069, "Customer is merged into another account"),
            Self::CustomerFraud => (618, "Customer is marked as fraud"),
            Self::Success => (200, "Success"),
            Self::NotProcessed => (2001, "Not processed because the customer failed"),
            Self::FieldEmpty => (2002, "A required field is empty"),
            Self::ExpiryPast => (2003, "The tier expiry date is in the past"),
            Self::NotLinked => (2004, "Customer is not linked to the partner program"),
            Self::AlreadyLinked => (2005, "Customer is already linked to the partner program"),
            Self::ProgramUnknown => (2006, "Unknown partner program"),
            Self::TierUnknown => (2007, "Unknown or missing tier, or the program has no tiers"),
            Self::TooManyPrograms => (2008, "More than 50 partner programs for one customer"),
            Self::UpdateTypeUnknown => {
                (2009, "Update type is none of UPGRADE, RENEW and DOWNGRADE")
            }
            Self::TierMismatch => (2101, "The tier or its expiry does not fit the update type"),
            Self::MembershipIdMissing => (2102, "Partner membership id is missing"),
            Self::MembershipIdTaken => {
                (2103, "Partner membership id is already linked to another customer")
            }
            Self::ProgramClosed => (2104, "Partner program is inactive or has ended"),
            Self::DateUnreadable => {
                (2105, "The date can't be read: RFC 3339 with an offset is needed")
            }
            Self::ProgramRepeated => (2106, "Partner program is named twice for this customer"),
            Self::ValueTooLong => (2107, "Value is too long: at most 255 characters are kept"),
            Self::TierFieldsIgnored => (2201, "Tier fields are ignored: the program has no tiers"),
            Self::IdentifierUnmatched => (2202, "A further identifier matches no customer"),
            Self::NoMessageId => (2203, "No message id given: duplicates can't be detected"),
        }
    }
}
