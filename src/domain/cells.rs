//! Every cell of the contract's table of effects, every check and every status, each by a test
//! that names it.

use chrono::{DateTime, TimeDelta, Utc};

use super::command::{
    Command, DelinkItem, Entry, GivenDate, Identifiers, LinkItem, Reference, UpdateDetails,
    UpdateItem,
};
use super::enrolment::{Effect, EffectKind, Enrolment, EnrolmentKey};
use super::evaluate::{CustomerOutcome, Outcome, Verdict, Warning, evaluate};
use super::identity::{Customer, CustomerId, CustomerState};
use super::program::{Org, OrgId, Program, ProgramId, ProgramKind, Tier, normalised};
use super::snapshot::Snapshot;
use super::status::Status;

const ORG: OrgId = OrgId(1);
/// Tier-based, EXTERNAL: Bronze, Silver, Gold.
const TIERED: (&str, i32) = ("Apparel-Partner", 1);
const FLAT: (&str, i32) = ("NoTierPartnerProgram", 2);
const SUPPLEMENTARY: (&str, i32) = ("Extra", 3);
const INACTIVE: (&str, i32) = ("Closed", 4);
const ENDED: (&str, i32) = ("Ended", 5);

const ANN: i64 = 1;
const BOB: i64 = 2;

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000, 0).unwrap()
}

fn days(days: i64) -> DateTime<Utc> {
    now() + TimeDelta::days(days)
}

fn org() -> Org {
    let program = |(name, id): (&str, i32), kind, tiers: &[&str]| Program {
        id: ProgramId(id),
        name: name.to_owned(),
        kind,
        active: true,
        ends_at: None,
        tiers: (1..)
            .zip(tiers)
            .map(|(number, name)| Tier {
                number,
                name: (*name).to_owned(),
                normalised_name: normalised(name),
            })
            .collect(),
    };
    let tiers = ["Bronze", "Silver", "Gold"];
    let programs = [
        program(TIERED, ProgramKind::External, &tiers),
        program(FLAT, ProgramKind::External, &[]),
        program(SUPPLEMENTARY, ProgramKind::Supplementary, &[]),
        Program { active: false, ..program(INACTIVE, ProgramKind::External, &[]) },
        Program { ends_at: Some(now()), ..program(ENDED, ProgramKind::External, &[]) },
    ];
    let programs = programs.into_iter().map(|p| (normalised(&p.name), p)).collect();
    Org { id: ORG, code: "acme".into(), country_code: "91".into(), programs }
}

fn customer(id: i64, state: CustomerState) -> Customer {
    Customer {
        id: CustomerId(id),
        mobile: Some(format!("91621500000{id}")),
        email: Some(format!("Customer{id}@example.com")),
        external_id: Some(format!("X{id}")),
        state,
    }
}

fn key(customer_id: i64, program: (&str, i32)) -> EnrolmentKey {
    EnrolmentKey {
        org_id: ORG,
        customer_id: CustomerId(customer_id),
        program_id: ProgramId(program.1),
    }
}

/// Ann and Bob active; 3 not enrolled, 4 merged, 5 fraud.
fn world() -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot.add_customer(ORG, customer(ANN, CustomerState::Active));
    snapshot.add_customer(ORG, customer(BOB, CustomerState::Active));
    snapshot.add_customer(ORG, customer(3, CustomerState::NotEnrolled));
    snapshot.add_customer(ORG, customer(4, CustomerState::Merged));
    snapshot.add_customer(ORG, customer(5, CustomerState::Fraud));
    snapshot
}

fn enrolled(program: (&str, i32)) -> Enrolment {
    let tier_based = program == TIERED;
    Enrolment {
        linked: true,
        membership_id: Some("M1".into()),
        tier_number: tier_based.then_some(2),
        tier_expires_at: tier_based.then(|| days(30)),
        linked_since: days(-100),
        version: 3,
    }
}

fn linked(program: (&str, i32)) -> Snapshot {
    with(program, enrolled(program))
}

fn delinked(program: (&str, i32)) -> Snapshot {
    with(program, Enrolment { linked: false, ..enrolled(program) })
}

fn expired() -> Snapshot {
    with(TIERED, Enrolment { tier_expires_at: Some(days(-1)), ..enrolled(TIERED) })
}

fn with(program: (&str, i32), enrolment: Enrolment) -> Snapshot {
    let mut snapshot = world();
    snapshot.add_enrolment(key(ANN, program), enrolment);
    snapshot
}

fn by_id(id: i64) -> Identifiers {
    Identifiers { id: Some(id), ..Identifiers::default() }
}

fn link_item(program: (&str, i32)) -> LinkItem {
    let tier_based = program == TIERED;
    LinkItem {
        program_name: Some(program.0.into()),
        reference: Some(Reference {
            membership_id: Some("M2".into()),
            tier_name: tier_based.then(|| "Bronze".into()),
            tier_expiry: if tier_based { GivenDate::At(days(10)) } else { GivenDate::Absent },
        }),
    }
}

fn update_item(kind: &str, tier: &str, tier_expiry: GivenDate) -> UpdateItem {
    UpdateItem {
        program_name: Some(TIERED.0.into()),
        update_type: Some(kind.into()),
        details: Some(UpdateDetails { tier_name: Some(tier.into()), tier_expiry }),
    }
}

fn delink_item(program: (&str, i32)) -> DelinkItem {
    DelinkItem { program_name: Some(program.0.into()), reason: Some("moved away".into()) }
}

fn link(item: LinkItem) -> Command {
    Command::Link(vec![Entry { customer: by_id(ANN), items: vec![item] }])
}

fn update(item: UpdateItem) -> Command {
    Command::Update(vec![Entry { customer: by_id(ANN), items: vec![item] }])
}

fn delink(item: DelinkItem) -> Command {
    Command::Delink(vec![Entry { customer: by_id(ANN), items: vec![item] }])
}

fn run(mut snapshot: Snapshot, command: &Command) -> Outcome {
    evaluate(&org(), &mut snapshot, command, now())
}

/// The status of the command's only item, which must have had an effect just if it succeeded.
#[track_caller]
fn check(snapshot: Snapshot, command: &Command, expected: Status) -> Outcome {
    let outcome = run(snapshot, command);
    assert_eq!(outcome.entries[0].items, [expected]);
    assert_eq!(outcome.effects.len(), usize::from(expected.is_success()));
    outcome
}

#[track_caller]
fn effect(snapshot: Snapshot, command: &Command) -> Effect {
    check(snapshot, command, Status::Success).effects.remove(0)
}

#[track_caller]
fn check_customer(identifiers: Identifiers, expected: Status) {
    let command =
        Command::Delink(vec![Entry { customer: identifiers, items: vec![delink_item(FLAT)] }]);
    let outcome = run(linked(FLAT), &command);
    assert_eq!(outcome.entries[0].customer, CustomerOutcome::Failed(expected));
    assert_eq!(outcome.entries[0].items, [Status::NotProcessed]);
    assert_eq!(outcome.verdict(), Verdict::Failed);
}

// The table of effects, row by row.

#[test]
fn absent_link_creates() {
    let effect = effect(world(), &link(link_item(TIERED)));
    assert_eq!((effect.kind, effect.before), (EffectKind::Enrolment, None));
    let after = Enrolment {
        linked: true,
        membership_id: Some("M2".into()),
        tier_number: Some(1),
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
            tier_number: Some(number),
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
    assert_eq!((after.membership_id.as_deref(), after.tier_number), (Some("M2"), Some(1)));
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

// Tiers, types and dates.

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
    assert_eq!(outcome.effects[0].after.tier_number, None);
    assert_eq!(outcome.effects[0].after.tier_expires_at, None);
}

// Programs and membership ids.

#[test]
fn names_are_compared_trimmed_and_case_insensitively() {
    let mut item = link_item(TIERED);
    item.program_name = Some("  APPAREL-partner ".into());
    item.reference.as_mut().unwrap().tier_name = Some(" gOLD ".into());
    assert_eq!(effect(world(), &link(item)).after.tier_number, Some(3));
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

// Customers.

#[test]
fn customers_fail_by_their_state() {
    check_customer(by_id(99), Status::CustomerUnknown);
    check_customer(by_id(3), Status::CustomerNotEnrolled);
    check_customer(by_id(4), Status::CustomerMerged);
    check_customer(by_id(5), Status::CustomerFraud);
    check_customer(Identifiers::default(), Status::NoIdentifier);
    check_customer(
        Identifiers { mobile: Some("12".into()), ..by_id(ANN) },
        Status::IdentifierInvalid,
    );
}

#[test]
fn each_identifier_finds_the_customer() {
    let nobody = Identifiers::default;
    for identifiers in [
        by_id(ANN),
        Identifiers { mobile: Some("+91 6215-000001".into()), ..nobody() },
        Identifiers { mobile: Some("6215000001".into()), ..nobody() },
        Identifiers { email: Some("cUSTOMER1@EXAMPLE.com".into()), ..nobody() },
        Identifiers { external_id: Some("X1".into()), ..nobody() },
    ] {
        let command =
            Command::Delink(vec![Entry { customer: identifiers, items: vec![delink_item(FLAT)] }]);
        let outcome = check(linked(FLAT), &command, Status::Success);
        assert_eq!(
            outcome.entries[0].customer,
            CustomerOutcome::Retrieved(customer(ANN, CustomerState::Active))
        );
        assert_eq!(outcome.warnings, []);
    }
}

#[test]
fn a_further_identifier_of_somebody_else_is_1047() {
    check_customer(
        Identifiers { external_id: Some("X2".into()), ..by_id(ANN) },
        Status::IdentifiersConflict,
    );
}

#[test]
fn a_further_identifier_of_nobody_is_warned_of_with_2202() {
    let identifiers = Identifiers { email: Some("nobody@example.com".into()), ..by_id(ANN) };
    let command =
        Command::Delink(vec![Entry { customer: identifiers, items: vec![delink_item(FLAT)] }]);
    let outcome = check(linked(FLAT), &command, Status::Success);
    let path = "/deLinkCustomers/0/customer/email".to_owned();
    assert_eq!(outcome.warnings, [Warning { status: Status::IdentifierUnmatched, path }]);
}

#[test]
fn the_highest_identifier_decides_although_a_further_one_matches() {
    check_customer(
        Identifiers { external_id: Some("X1".into()), ..by_id(99) },
        Status::CustomerUnknown,
    );
}

#[test]
fn more_than_50_customers_are_1060_and_nothing_is_applied() {
    let entry = Entry { customer: by_id(ANN), items: vec![delink_item(FLAT)] };
    let outcome = run(linked(FLAT), &Command::Delink(vec![entry.clone(); 51]));
    assert!(outcome.effects.is_empty());
    for entry in &outcome.entries {
        assert_eq!(entry.customer, CustomerOutcome::Failed(Status::TooManyCustomers));
        assert_eq!(entry.items, [Status::NotProcessed]);
    }
    assert_eq!(run(linked(FLAT), &Command::Delink(vec![entry; 50])).effects.len(), 1);
}

#[test]
fn more_than_50_programs_are_2008_and_nothing_of_the_customer_is_applied() {
    let entry = |count| Entry { customer: by_id(ANN), items: vec![delink_item(FLAT); count] };
    let outcome = run(linked(FLAT), &Command::Delink(vec![entry(51), entry(1)]));
    assert_eq!(outcome.entries[0].items, [Status::TooManyPrograms; 51]);
    assert_eq!(outcome.entries[1].items, [Status::Success]);
    assert_eq!(outcome.verdict(), Verdict::Partial);
}

// A command as a whole.

#[test]
fn later_entries_see_what_earlier_ones_did() {
    let entry = |item| Entry { customer: by_id(ANN), items: vec![item] };
    let mut snapshot = world();
    let command = Command::Link(vec![entry(link_item(FLAT)), entry(link_item(FLAT))]);
    let outcome = evaluate(&org(), &mut snapshot, &command, now());
    assert_eq!(outcome.entries[0].items, [Status::Success]);
    assert_eq!(outcome.entries[1].items, [Status::AlreadyLinked]);
    let changes: Vec<_> = snapshot
        .changes()
        .iter()
        .map(|change| (change.loaded_version, change.after.version))
        .collect();
    assert_eq!(changes, [(0, 1)]);
}

#[test]
fn a_failing_item_undoes_nothing() {
    let items = vec![link_item(FLAT), link_item(("Nowhere", 9)), link_item(SUPPLEMENTARY)];
    let outcome = run(world(), &Command::Link(vec![Entry { customer: by_id(ANN), items }]));
    let expected = [Status::Success, Status::ProgramUnknown, Status::Success];
    assert_eq!(outcome.entries[0].items, expected);
    assert_eq!((outcome.effects.len(), outcome.verdict()), (2, Verdict::Partial));
}

#[test]
fn a_command_without_entries_succeeds_at_nothing() {
    assert_eq!(run(world(), &Command::Link(vec![])).verdict(), Verdict::Succeeded);
}

#[test]
fn codes_are_unique_and_only_200_and_1000_are_successes() {
    let codes: std::collections::HashSet<u16> = Status::ALL.iter().map(|s| s.code()).collect();
    assert_eq!(codes.len(), Status::ALL.len());
    let successes: Vec<u16> =
        Status::ALL.iter().filter(|s| s.is_success()).map(|s| s.code()).collect();
    assert_eq!(successes, [1000, 200]);
}
