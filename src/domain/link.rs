//! Link: a customer joins a program (`docs/contract.md#link`, `docs/contract.md#effects-by-state`).

use chrono::{DateTime, Utc};

use crate::domain::command::{GivenDate, LinkItem, Reference, given, stored_text};
use crate::domain::enrolment::{EffectKind, Enrolment};
use crate::domain::evaluate::{Decision, Item, Standing};
use crate::domain::names::CUSTOMER_PARTNER_REFERENCE;
use crate::domain::program::{ProgramKind, TierId};
use crate::domain::status::{Checked, Status};

impl Item for LinkItem {
    const NEEDS_OPEN_PROGRAM: bool = true;

    fn program_name(&self) -> Option<&String> {
        self.program_name.as_ref()
    }

    fn decide(&self, standing: &Standing<'_>) -> Checked<Decision> {
        if standing.linked().is_some() {
            return Err(Status::AlreadyLinked);
        }
        let reference = self.reference.as_ref().ok_or(Status::FieldEmpty)?;
        let membership_id = membership_id(reference, standing)?;
        let tier = tier(reference, standing)?;
        let (tier_expires_at, warning) = if standing.program.is_tier_based() {
            (expiry(reference.tier_expiry, standing.now)?, None)
        } else {
            let ignored = given(reference.tier_name.as_ref()).is_some()
                || reference.tier_expiry != GivenDate::Absent;
            (None, ignored.then_some((Status::TierFieldsIgnored, CUSTOMER_PARTNER_REFERENCE)))
        };
        let after = Enrolment {
            linked: true,
            membership_id,
            tier,
            tier_expires_at,
            linked_since: standing.now,
            version: standing.next_version(),
        };
        Ok(Decision { kind: EffectKind::Enrolment, after, reason: None, warning })
    }
}

fn membership_id(reference: &Reference, standing: &Standing<'_>) -> Checked<Option<String>> {
    let Some(membership_id) = stored_text(reference.membership_id.as_ref())? else {
        return match standing.program.kind {
            ProgramKind::External => Err(Status::MembershipIdMissing),
            ProgramKind::Supplementary => Ok(None),
        };
    };
    match standing.snapshot.holder(standing.key, membership_id) {
        Some(_) => Err(Status::MembershipIdTaken),
        None => Ok(Some(membership_id.to_owned())),
    }
}

fn tier(reference: &Reference, standing: &Standing<'_>) -> Checked<Option<TierId>> {
    if !standing.program.is_tier_based() {
        return Ok(None);
    }
    let tier = given(reference.tier_name.as_ref()).and_then(|name| standing.program.tier(name));
    tier.map(|tier| Some(tier.id)).ok_or(Status::TierUnknown)
}

/// A given expiry, which must lie ahead; without one the tier never expires.
fn expiry(date: GivenDate, now: DateTime<Utc>) -> Checked<Option<DateTime<Utc>>> {
    match date {
        GivenDate::Absent => Ok(None),
        GivenDate::Unreadable => Err(Status::DateUnreadable),
        GivenDate::At(at) if at <= now => Err(Status::ExpiryPast),
        GivenDate::At(at) => Ok(Some(at)),
    }
}
