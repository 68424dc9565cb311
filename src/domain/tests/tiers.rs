//! Tiers, update types and dates.

use super::{
    FLAT, TIERED, check, days, effect, enrolled, expired, link, link_item, linked, now, update,
    update_item, with, world,
};
use crate::domain::command::{GivenDate, UpdateItem};
use crate::domain::enrolment::Enrolment;
use crate::domain::evaluate::Warning;
use crate::domain::status::Status;
use chrono::TimeDelta;

#[test]
fn upgrade_goes_strictly_up_and_downgrade_strictly_down() {
    for (kind, tier) in [
        ("UPGRADE", "Silver"),
        ("UPGRADE", "Bronze"),
        ("DOWNGRADE", "Silver"),
        ("DOWNGRADE", "Gold"),
    ] {
        let item = update_item(kind, tier, GivenDate::At(days(1)));
        check(linked(TIERED), &update(item), Status::TierMismatch);
    }
}

#[test]
fn renew_stays_and_gives_an_expiry() {
    let elsewhere = update_item("RENEW", "Gold", GivenDate::At(days(1)));
    check(linked(TIERED), &update(elsewhere), Status::TierMismatch);
    let without = update_item("RENEW", "Silver", GivenDate::Absent);
    check(linked(TIERED), &update(without), Status::TierMismatch);
}

#[test]
fn update_without_expiry_keeps_the_stored_one() {
    let item = update_item("UPGRADE", "Gold", GivenDate::Absent);
    let effect = effect(linked(TIERED), &update(item.clone()));
    assert_eq!(effect.after.tier_expires_at, Some(days(30)));
    check(expired(), &update(item), Status::ExpiryPast);
}

#[test]
fn update_without_expiry_on_one_that_never_expires_stays_so() {
    let never = with(TIERED, Enrolment { tier_expires_at: None, ..enrolled(TIERED) });
    let effect = effect(never, &update(update_item("UPGRADE", "Gold", GivenDate::Absent)));
    assert_eq!(effect.after.tier_expires_at, None);
}

#[test]
fn a_date_at_now_is_past_and_one_later_is_not() {
    let at = |date| update(update_item("UPGRADE", "Gold", GivenDate::At(date)));
    check(linked(TIERED), &at(now()), Status::ExpiryPast);
    check(linked(TIERED), &at(now() + TimeDelta::microseconds(1)), Status::Success);
    let mut past = link_item(TIERED);
    past.reference.as_mut().unwrap().tier_expiry = GivenDate::At(now());
    check(world(), &link(past), Status::ExpiryPast);
}

#[test]
fn a_date_that_cant_be_read_is_2105() {
    let item = update_item("UPGRADE", "Gold", GivenDate::Unreadable);
    check(linked(TIERED), &update(item), Status::DateUnreadable);
    let mut unreadable = link_item(TIERED);
    unreadable.reference.as_mut().unwrap().tier_expiry = GivenDate::Unreadable;
    check(world(), &link(unreadable), Status::DateUnreadable);
}

#[test]
fn update_type_is_one_of_three_words() {
    for word in ["upgrade", "PROMOTE", "ENROLMENT", "DELINK"] {
        let item = update_item(word, "Gold", GivenDate::At(days(1)));
        check(linked(TIERED), &update(item), Status::UpdateTypeUnknown);
    }
}

#[test]
fn required_fields_of_an_update_are_2002_when_empty() {
    let full = update_item("UPGRADE", "Gold", GivenDate::At(days(1)));
    let no_tier = update_item("UPGRADE", " ", GivenDate::At(days(1)));
    for item in [
        UpdateItem { program_name: None, ..full.clone() },
        UpdateItem { program_name: Some("  ".into()), ..full.clone() },
        UpdateItem { update_type: Some(String::new()), ..full.clone() },
        UpdateItem { details: None, ..full },
        no_tier,
    ] {
        check(linked(TIERED), &update(item), Status::FieldEmpty);
    }
}

#[test]
fn unknown_tiers_are_2007() {
    check(
        linked(TIERED),
        &update(update_item("UPGRADE", "Iron", GivenDate::Absent)),
        Status::TierUnknown,
    );
    for tier in [None, Some(String::new()), Some("Iron".into())] {
        let mut item = link_item(TIERED);
        item.reference.as_mut().unwrap().tier_name = tier;
        check(world(), &link(item), Status::TierUnknown);
    }
}

#[test]
fn tier_update_on_a_program_without_tiers_is_2007() {
    let item = UpdateItem {
        program_name: Some(FLAT.0.into()),
        ..update_item("UPGRADE", "Gold", GivenDate::Absent)
    };
    check(linked(FLAT), &update(item), Status::TierUnknown);
}

#[test]
fn tier_fields_on_a_link_without_tiers_are_ignored_with_2201() {
    let mut item = link_item(FLAT);
    let reference = item.reference.as_mut().unwrap();
    reference.tier_name = Some("Gold".into());
    reference.tier_expiry = GivenDate::Unreadable;
    let outcome = check(world(), &link(item), Status::Success);
    let path = "/linkCustomers/0/linkToPartnerPrograms/0/customerPartnerReference".to_owned();
    assert_eq!(outcome.warnings, [Warning { status: Status::TierFieldsIgnored, path }]);
    assert_eq!(outcome.effects[0].after.tier, None);
    assert_eq!(outcome.effects[0].after.tier_expires_at, None);
}
