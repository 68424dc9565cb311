//! Programs, membership ids, and the order of checks.

use super::{
    ANN, BOB, FLAT, INACTIVE, ORG, SUPPLEMENTARY, TIERED, by_id, check, delink_item, effect,
    enrolled, key, link, link_item, linked, now, org, run, tier_id, update, update_item, world,
};
use crate::domain::command::{Command, DelinkItem, Entry, GivenDate, LinkItem};
use crate::domain::enrolment::Enrolment;
use crate::domain::evaluate::evaluate;
use crate::domain::identity::CustomerId;
use crate::domain::program::ProgramId;
use crate::domain::status::Status;

#[test]
fn names_are_compared_trimmed_and_case_insensitively() {
    let mut item = link_item(TIERED);
    item.program_name = Some("  APPAREL-partner ".into());
    item.reference.as_mut().unwrap().tier_name = Some(" gOLD ".into());
    assert_eq!(effect(world(), &link(item)).after.tier, Some(tier_id(3)));
}

#[test]
fn an_unknown_program_is_2006() {
    check(world(), &link(link_item(("Nowhere", 9))), Status::ProgramUnknown);
}

#[test]
fn a_membership_id_is_required_by_external_programs_only() {
    for (program, expected) in
        [(FLAT, Status::MembershipIdMissing), (SUPPLEMENTARY, Status::Success)]
    {
        let mut item = link_item(program);
        item.reference.as_mut().unwrap().membership_id = Some(" ".into());
        check(world(), &link(item), expected);
    }
}

#[test]
fn a_stored_text_over_255_characters_is_2107() {
    for (text, expected) in [
        (format!(" {}\t", "é".repeat(255)), Status::Success),
        ("é".repeat(256), Status::ValueTooLong),
    ] {
        let mut item = link_item(FLAT);
        item.reference.as_mut().unwrap().membership_id = Some(text.clone());
        check(world(), &link(item), expected);
        let item = DelinkItem { reason: Some(text), ..delink_item(FLAT) };
        let command = Command::Delink(vec![Entry { customer: by_id(ANN), items: vec![item] }]);
        check(linked(FLAT), &command, expected);
        check(world(), &command, Status::NotLinked);
    }
}

#[test]
fn a_link_without_reference_is_2002() {
    let item = LinkItem { reference: None, ..link_item(FLAT) };
    check(world(), &link(item), Status::FieldEmpty);
}

#[test]
fn a_membership_id_that_another_holds_is_2103_until_they_leave() {
    let mut snapshot = world();
    snapshot.add_enrolment(
        key(BOB, FLAT),
        Enrolment { membership_id: Some("M2".into()), ..enrolled(FLAT) },
    );
    check(snapshot.clone(), &link(link_item(FLAT)), Status::MembershipIdTaken);
    let leave =
        Command::Delink(vec![Entry { customer: by_id(BOB), items: vec![delink_item(FLAT)] }]);
    evaluate(&org(), &mut snapshot, &leave, now());
    check(snapshot, &link(link_item(FLAT)), Status::Success);
}

#[test]
fn a_membership_id_is_unique_per_program_only() {
    let mut snapshot = world();
    snapshot.add_enrolment(
        key(BOB, SUPPLEMENTARY),
        Enrolment { membership_id: Some("M2".into()), ..enrolled(SUPPLEMENTARY) },
    );
    check(snapshot, &link(link_item(FLAT)), Status::Success);
}

#[test]
fn the_second_naming_of_a_program_is_2106_although_the_first_failed() {
    let item = link_item(TIERED);
    let failing = LinkItem { reference: None, ..item.clone() };
    let again = LinkItem { program_name: Some(" apparel-PARTNER".into()), ..item };
    let command = Command::Link(vec![Entry { customer: by_id(ANN), items: vec![failing, again] }]);
    let outcome = run(world(), &command);
    assert_eq!(outcome.entries[0].items, [Status::FieldEmpty, Status::ProgramRepeated]);
}

// The order of checks: each item breaks two neighbouring rules, and the first answers.

#[test]
fn checks_are_made_in_the_fixed_order() {
    let unreadable = GivenDate::Unreadable;
    let unnamed = LinkItem { program_name: None, reference: None };
    check(world(), &link(unnamed), Status::FieldEmpty);
    check(linked(INACTIVE), &link(link_item(INACTIVE)), Status::ProgramClosed);
    let bare = LinkItem { reference: None, ..link_item(TIERED) };
    check(linked(TIERED), &link(bare), Status::AlreadyLinked);
    let mut taken = link_item(TIERED);
    taken.reference.as_mut().unwrap().tier_name = None;
    let mut snapshot = world();
    snapshot.add_holder(ORG, ProgramId(TIERED.1), "M2".into(), CustomerId(BOB));
    check(snapshot, &link(taken), Status::MembershipIdTaken);
    let mut long = link_item(TIERED);
    let reference = long.reference.as_mut().unwrap();
    (reference.membership_id, reference.tier_name) = (Some("x".repeat(256)), None);
    check(world(), &link(long.clone()), Status::ValueTooLong);
    check(linked(TIERED), &link(long), Status::AlreadyLinked);
    let mut tierless = link_item(TIERED);
    let reference = tierless.reference.as_mut().unwrap();
    (reference.tier_name, reference.tier_expiry) = (None, unreadable);
    check(world(), &link(tierless), Status::TierUnknown);
    check(linked(TIERED), &update(update_item("PROMOTE", "Iron", unreadable)), Status::TierUnknown);
    check(
        linked(TIERED),
        &update(update_item("PROMOTE", "Bronze", unreadable)),
        Status::UpdateTypeUnknown,
    );
    check(
        linked(TIERED),
        &update(update_item("UPGRADE", "Bronze", unreadable)),
        Status::TierMismatch,
    );
}
