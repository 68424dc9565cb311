//! The canary: an org that no publisher can address, and commands of it that take every way through
//! the database. Migration 0013 makes its rows.

use std::collections::HashMap;

use chrono::{DateTime, Months, Utc};

use crate::domain::command::{
    Command, Entry, GivenDate, Identifiers, LinkItem, Reference, UpdateDetails, UpdateItem,
};
use crate::domain::identity::CustomerId;
use crate::domain::program::{Org, OrgId, Program, ProgramId, ProgramKind, Tier, TierId};

/// No routing key can name it: the word before the first dot is empty.
const CODE: &str = ".canary";
/// The name of the program, of its tier and of the enrolled customer's membership id.
const NAME: &str = "canary";
/// The customer that the migration has enrolled.
const ENROLLED: CustomerId = CustomerId(1);
/// The customer that it has not.
const NOT_ENROLLED: CustomerId = CustomerId(2);

/// The org, with its program.
#[must_use]
pub fn org() -> Org {
    let tier = Tier { id: TierId(1), rank: 1, name: NAME.into(), normalised_name: NAME.into() };
    let program = Program {
        id: ProgramId(-1),
        name: NAME.into(),
        kind: ProgramKind::External,
        active: true,
        ends_at: None,
        tiers: vec![tier],
    };
    Org {
        id: OrgId(-1),
        code: CODE.into(),
        country_code: "0".into(),
        programs: HashMap::from([(NAME.into(), program)]),
    }
}

/// A command that inserts an enrolment under `membership_id`, and one that updates one. Both look
/// their customers up by every kind of identifier; only the first one matches.
#[must_use]
pub fn commands(membership_id: &str, now: DateTime<Utc>) -> [Command; 2] {
    let expiry = now.checked_add_months(Months::new(1)).map_or(GivenDate::Absent, GivenDate::At);
    let link = LinkItem {
        program_name: Some(NAME.into()),
        reference: Some(Reference {
            membership_id: Some(membership_id.into()),
            tier_name: Some(NAME.into()),
            tier_expiry: expiry,
        }),
    };
    let renewal = UpdateItem {
        program_name: Some(NAME.into()),
        update_type: Some("RENEW".into()),
        details: Some(UpdateDetails { tier_name: Some(NAME.into()), tier_expiry: expiry }),
    };
    [
        Command::Link(vec![Entry { customer: identifiers(NOT_ENROLLED), items: vec![link] }]),
        Command::Update(vec![Entry { customer: identifiers(ENROLLED), items: vec![renewal] }]),
    ]
}

/// The customers that [`commands`] are about.
#[must_use]
pub fn customers() -> Vec<(OrgId, CustomerId)> {
    [ENROLLED, NOT_ENROLLED].map(|id| (OrgId(-1), id)).to_vec()
}

fn identifiers(id: CustomerId) -> Identifiers {
    Identifiers {
        id: Some(id.0),
        mobile: Some("1000000".into()),
        email: Some("canary@localhost".into()),
        external_id: Some(NAME.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::enrolment::{Enrolment, EnrolmentKey};
    use crate::domain::evaluate::evaluate;
    use crate::domain::identity::{Customer, CustomerState};
    use crate::domain::snapshot::Snapshot;

    /// A canary whose commands fail would write nothing and prove nothing.
    #[test]
    fn both_commands_take_effect_on_the_rows_of_the_migration() {
        let (org, now) = (org(), DateTime::UNIX_EPOCH);
        let mut snapshot = Snapshot::default();
        for (org_id, id) in customers() {
            let state = CustomerState::Active;
            let customer = Customer { id, mobile: None, email: None, external_id: None, state };
            snapshot.add_customer(org_id, customer);
        }
        let key = EnrolmentKey { org_id: org.id, customer_id: ENROLLED, program_id: ProgramId(-1) };
        let enrolment = Enrolment {
            linked: true,
            membership_id: Some(NAME.into()),
            tier: Some(TierId(1)),
            tier_expires_at: None,
            linked_since: now,
            version: 1,
        };
        snapshot.add_enrolment(key, enrolment);
        for command in commands("new", now) {
            let outcome = evaluate(&org, &mut snapshot, &command, now);
            assert_eq!(outcome.effects.len(), 1, "{outcome:?}");
        }
        let versions: Vec<i64> =
            snapshot.changes().iter().map(|change| change.loaded_version).collect();
        assert_eq!(versions, [1, 0], "one row is updated, one inserted");
    }
}
