//! Every cell of the contract's table of effects, every check and every status, each by a test
//! that names it. Here is the world that they act on.

mod customers;
mod effects;
mod programs;
mod tiers;

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::command::{
    Command, DelinkItem, Entry, GivenDate, Identifiers, LinkItem, Reference, UpdateDetails,
    UpdateItem,
};
use crate::domain::enrolment::{Effect, Enrolment, EnrolmentKey};
use crate::domain::evaluate::{CustomerOutcome, Outcome, Verdict, evaluate};
use crate::domain::identity::{Customer, CustomerId, CustomerState};
use crate::domain::program::{
    Org, OrgId, Program, ProgramId, ProgramKind, Tier, TierId, normalised,
};
use crate::domain::snapshot::Snapshot;
use crate::domain::status::Status;

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
            .map(|(rank, name)| Tier {
                id: tier_id(rank),
                rank,
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

/// Ids that are not ranks, and not in their order.
fn tier_id(rank: i16) -> TierId {
    TierId(20 - rank)
}

fn enrolled(program: (&str, i32)) -> Enrolment {
    let tier_based = program == TIERED;
    Enrolment {
        linked: true,
        membership_id: Some("M1".into()),
        tier: tier_based.then(|| tier_id(2)),
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
