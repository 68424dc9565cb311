//! Update: a linked customer's tier changes or is renewed (`docs/contract.md#update`,
//! `docs/contract.md#effects-by-state`).

use chrono::{DateTime, Utc};

use crate::domain::command::{GivenDate, UpdateItem, given};
use crate::domain::enrolment::{EffectKind, Enrolment};
use crate::domain::evaluate::{Decision, Item, Standing};
use crate::domain::program::Tier;
use crate::domain::status::{Checked, Status};

impl Item for UpdateItem {
    const NEEDS_OPEN_PROGRAM: bool = true;

    fn program_name(&self) -> Option<&String> {
        self.program_name.as_ref()
    }

    fn decide(&self, standing: &Standing<'_>) -> Checked<Decision> {
        let enrolment = standing.linked().ok_or(Status::NotLinked)?;
        let tier = self.tier(standing)?;
        let kind = self.kind()?;
        let expiry = self.details.as_ref().map_or(GivenDate::Absent, |details| details.tier_expiry);
        let rank = enrolment.tier.and_then(|tier| standing.program.rank(tier));
        if !fits(kind, rank, tier.rank, expiry) {
            return Err(Status::TierMismatch);
        }
        let after = Enrolment {
            tier: Some(tier.id),
            tier_expires_at: new_expiry(expiry, enrolment.tier_expires_at, standing.now)?,
            version: standing.next_version(),
            ..enrolment.clone()
        };
        Ok(Decision { kind, after, reason: None, warning: None })
    }
}

impl UpdateItem {
    fn tier<'a>(&self, standing: &Standing<'a>) -> Checked<&'a Tier> {
        if !standing.program.is_tier_based() {
            return Err(Status::TierUnknown);
        }
        let details = self.details.as_ref().ok_or(Status::FieldEmpty)?;
        let name = given(details.tier_name.as_ref()).ok_or(Status::FieldEmpty)?;
        standing.program.tier(name).ok_or(Status::TierUnknown)
    }

    fn kind(&self) -> Checked<EffectKind> {
        let word = given(self.update_type.as_ref()).ok_or(Status::FieldEmpty)?;
        [EffectKind::Upgrade, EffectKind::Renew, EffectKind::Downgrade]
            .into_iter()
            .find(|kind| kind.as_str() == word)
            .ok_or(Status::UpdateTypeUnknown)
    }
}

/// The direction of an update, by ranks. `from` is `None` where the program got its tiers after the
/// customer joined: that is below every tier.
fn fits(kind: EffectKind, from: Option<i16>, to: i16, expiry: GivenDate) -> bool {
    match kind {
        EffectKind::Upgrade => from.is_none_or(|from| to > from),
        EffectKind::Downgrade => from.is_some_and(|from| to < from),
        EffectKind::Renew => from == Some(to) && expiry != GivenDate::Absent,
        EffectKind::Enrolment | EffectKind::Delink => false,
    }
}

/// The stored expiry is kept where none is given. Either way it must lie ahead.
fn new_expiry(
    given: GivenDate,
    stored: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Checked<Option<DateTime<Utc>>> {
    let expiry = match given {
        GivenDate::Unreadable => return Err(Status::DateUnreadable),
        GivenDate::Absent => stored,
        GivenDate::At(at) => Some(at),
    };
    if expiry.is_some_and(|at| at <= now) { Err(Status::ExpiryPast) } else { Ok(expiry) }
}
