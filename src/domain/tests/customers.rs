//! Customers, and a command as a whole.

use super::{
    ANN, FLAT, SUPPLEMENTARY, by_id, check, check_customer, customer, delink_item, link_item,
    linked, now, org, run, world,
};
use crate::domain::command::{Command, Entry, Identifiers};
use crate::domain::evaluate::{CustomerOutcome, Verdict, Warning, evaluate};
use crate::domain::identity::CustomerState;
use crate::domain::status::Status;

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
