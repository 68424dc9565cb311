//! The catalogue: orgs, their partner programs and tiers, as the worker caches them.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

/// The tenant's key in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrgId(pub i32);

/// A partner program's key, unique over all orgs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProgramId(pub i32);

/// Every org by its code.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// The catalogue's version row; a cached copy is good while this has not changed.
    pub version: i64,
    /// By code.
    pub orgs: HashMap<String, Org>,
}

/// A tenant and its programs.
#[derive(Clone, Debug)]
pub struct Org {
    /// The key.
    pub id: OrgId,
    /// The first word of routing keys.
    pub code: String,
    /// Digits only, e.g. `91`.
    pub country_code: String,
    /// By [`normalised`] name.
    pub programs: HashMap<String, Program>,
}

impl Org {
    /// The program of that name, compared trimmed and case-insensitively.
    #[must_use]
    pub fn program(&self, name: &str) -> Option<&Program> {
        self.programs.get(&normalised(name))
    }
}

/// A partner program of one org.
#[derive(Clone, Debug)]
pub struct Program {
    /// The key.
    pub id: ProgramId,
    /// As imported.
    pub name: String,
    /// Whose program it is.
    pub kind: ProgramKind,
    /// A program that is switched off takes no new customers.
    pub active: bool,
    /// The end of its validity; `None` means open-ended.
    pub ends_at: Option<DateTime<Utc>>,
    /// Lowest first; empty when the program is not tier-based.
    pub tiers: Vec<Tier>,
}

impl Program {
    /// Whether enrolments may begin or change at `now` (status 2104, `docs/contract.md#status-codes`).
    #[must_use]
    pub fn is_open(&self, now: DateTime<Utc>) -> bool {
        self.active && self.ends_at.is_none_or(|end| end > now)
    }

    /// Whether enrolments have a tier.
    #[must_use]
    pub fn is_tier_based(&self) -> bool {
        !self.tiers.is_empty()
    }

    /// The tier of that name, compared like program names.
    #[must_use]
    pub fn tier(&self, name: &str) -> Option<&Tier> {
        let wanted = normalised(name);
        self.tiers.iter().find(|tier| tier.normalised_name == wanted)
    }

    /// The rank of a tier that the program still has.
    #[must_use]
    pub fn rank(&self, tier: TierId) -> Option<i16> {
        self.tiers.iter().find(|known| known.id == tier).map(|known| known.rank)
    }
}

/// `EXTERNAL` programs belong to another company and always have a membership id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramKind {
    /// A partner's.
    External,
    /// The org's own.
    Supplementary,
}

impl ProgramKind {
    /// The words of both kinds.
    pub const WORDS: [&str; 2] = [Self::External.as_str(), Self::Supplementary.as_str()];

    /// The word in `program.kind` and in catalogue files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::External => "EXTERNAL",
            Self::Supplementary => "SUPPLEMENTARY",
        }
    }

    /// The inverse of [`as_str`](Self::as_str).
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::External, Self::Supplementary].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// A tier's key within its program. It stays when the order of the tiers changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TierId(pub i16);

/// A tier of a tier-based program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// The key.
    pub id: TierId,
    /// Its place in the order, from 1 upwards; a higher rank is a higher tier.
    pub rank: i16,
    /// As imported.
    pub name: String,
    /// [`normalised`] from `name`.
    pub normalised_name: String,
}

/// How names of programs and tiers are compared (`docs/contract.md#domain`).
#[must_use]
pub fn normalised(name: &str) -> String {
    name.trim().to_lowercase()
}
