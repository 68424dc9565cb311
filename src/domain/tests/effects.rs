//! The table of effects, row by row.

use super::{
    ANN, ENDED, FLAT, INACTIVE, TIERED, check, days, delink, delink_item, delinked, effect,
    enrolled, expired, key, link, link_item, linked, now, tier_id, update, update_item, world,
};
use crate::domain::command::{GivenDate, UpdateItem};
use crate::domain::enrolment::{EffectKind, Enrolment};
use crate::domain::status::Status;

#[test]
fn absent_link_creates() {
    let effect = effect(world(), &link(link_item(TIERED)));
    assert_eq!((effect.kind, effect.before), (EffectKind::Enrolment, None));
    let after = Enrolment {
        linked: true,
        membership_id: Some("M2".into()),
        tier: Some(tier_id(1)),
        tier_expires_at: Some(days(10)),
        linked_since: now(),
        version: 1,
    };
    assert_eq!(effect.after, after);
}

#[test]
fn absent_update_is_2004() {
    check(world(), &update(update_item("UPGRADE", "Gold", GivenDate::Absent)), Status::NotLinked);
}

#[test]
fn absent_delink_is_2004() {
    check(world(), &delink(delink_item(FLAT)), Status::NotLinked);
}

#[test]
fn linked_link_is_2005_also_if_identical() {
    check(linked(FLAT), &link(link_item(FLAT)), Status::AlreadyLinked);
    let mut identical = link_item(FLAT);
    identical.reference.as_mut().unwrap().membership_id = Some("M1".into());
    check(linked(FLAT), &link(identical), Status::AlreadyLinked);
}

#[test]
fn linked_update_applies_each_kind() {
    let new = GivenDate::At(days(60));
    for (kind, tier, number) in [
        (EffectKind::Upgrade, "Gold", 3),
        (EffectKind::Renew, "Silver", 2),
        (EffectKind::Downgrade, "Bronze", 1),
    ] {
        let effect = effect(linked(TIERED), &update(update_item(kind.as_str(), tier, new)));
        assert_eq!(effect.kind, kind);
        let expected = Enrolment {
            tier: Some(tier_id(number)),
            tier_expires_at: Some(days(60)),
            version: 4,
            ..enrolled(TIERED)
        };
        assert_eq!((effect.before, effect.after), (Some(enrolled(TIERED)), expected));
    }
}

#[test]
fn linked_delink_is_soft() {
    let effect = effect(linked(FLAT), &delink(delink_item(FLAT)));
    assert_eq!(effect.kind, EffectKind::Delink);
    assert_eq!(effect.reason.as_deref(), Some("moved away"));
    assert_eq!(effect.after, Enrolment { linked: false, version: 4, ..enrolled(FLAT) });
}

#[test]
fn expired_link_is_2005() {
    check(expired(), &link(link_item(TIERED)), Status::AlreadyLinked);
}

#[test]
fn expired_may_upgrade_renew_and_downgrade() {
    for (kind, tier) in [("UPGRADE", "Gold"), ("RENEW", "Silver"), ("DOWNGRADE", "Bronze")] {
        check(expired(), &update(update_item(kind, tier, GivenDate::At(days(1)))), Status::Success);
    }
}

#[test]
fn expired_delink_is_as_linked() {
    check(expired(), &delink(delink_item(TIERED)), Status::Success);
}

#[test]
fn delinked_link_relinks_the_same_row() {
    let effect = effect(delinked(TIERED), &link(link_item(TIERED)));
    assert_eq!(effect.key, key(ANN, TIERED));
    assert_eq!(effect.kind, EffectKind::Enrolment);
    let after = &effect.after;
    assert_eq!((after.version, after.linked_since), (4, now()));
    assert_eq!((after.membership_id.as_deref(), after.tier), (Some("M2"), Some(tier_id(1))));
}

#[test]
fn delinked_update_and_delink_are_2004() {
    check(
        delinked(TIERED),
        &update(update_item("RENEW", "Silver", GivenDate::Absent)),
        Status::NotLinked,
    );
    check(delinked(TIERED), &delink(delink_item(TIERED)), Status::NotLinked);
}

#[test]
fn closed_link_and_update_are_2104() {
    for program in [INACTIVE, ENDED] {
        check(world(), &link(link_item(program)), Status::ProgramClosed);
        let item = UpdateItem {
            program_name: Some(program.0.into()),
            ..update_item("RENEW", "Silver", GivenDate::Absent)
        };
        check(linked(program), &update(item), Status::ProgramClosed);
    }
}

#[test]
fn closed_delink_is_allowed() {
    for program in [INACTIVE, ENDED] {
        check(linked(program), &delink(delink_item(program)), Status::Success);
    }
}
