use chrono::{DateTime, Utc};
use proptest::prelude::*;

use super::*;

mod faults;

const LINK_1: &str = include_str!("../../../../tests/it/fixtures/seed/link-1.json");
const LINK_2: &str = include_str!("../../../../tests/it/fixtures/seed/link-2.json");
const UPDATE: &str = include_str!("../../../../tests/it/fixtures/seed/update.json");
const DELINK: &str = include_str!("../../../../tests/it/fixtures/seed/delink.json");

fn link(body: &str) -> Result<Command, Rejection> {
    decode(body.as_bytes(), Operation::Link)
}

#[expect(clippy::unnecessary_wraps, reason = "fields of commands are optional")]
fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn at(text: &str) -> GivenDate {
    GivenDate::At(text.parse::<DateTime<Utc>>().unwrap())
}

/// A link command of one entry with this `customer`.
fn with_customer(customer: &str) -> String {
    format!(r#"{{"linkCustomers":[{{"customer":{customer},"linkToPartnerPrograms":[]}}]}}"#)
}

/// A link command of one item with this `customerPartnerReference`.
fn with_reference(reference: &str) -> String {
    let item = format!(r#"{{"customerPartnerReference":{reference}}}"#);
    format!(r#"{{"linkCustomers":[{{"linkToPartnerPrograms":[{item}]}}]}}"#)
}

fn customer_of(body: &str) -> Identifiers {
    let Ok(Command::Link(entries)) = link(body) else { panic!("{body}: {:?}", link(body)) };
    entries.into_iter().next().unwrap().customer
}

#[test]
fn the_seeds_commands_are_read_as_they_stand() {
    let Command::Link(entries) = link(LINK_1).unwrap() else { panic!() };
    assert_eq!(entries.len(), 1);
    let customer = &entries[0].customer;
    assert_eq!((customer.id, &customer.mobile), (None, &text("6215000000")));
    assert_eq!((&customer.email, &customer.external_id), (&text(""), &text("")));
    assert_eq!(
        entries[0].items[0],
        LinkItem {
            program_name: text("1stProgram"),
            reference: Some(Reference {
                membership_id: text("621000000"),
                tier_name: text("1stSlab"),
                tier_expiry: at("2022-12-29T18:29:59Z"),
            }),
        }
    );
    let no_tier = entries[0].items[1].reference.as_ref().unwrap();
    assert_eq!((&no_tier.tier_name, no_tier.tier_expiry), (&None, GivenDate::Absent));
    assert_eq!(entries[0].items.len(), 3);

    assert_eq!(link(LINK_2).unwrap().item_count(), 1);

    let update = decode(UPDATE.as_bytes(), Operation::Update).unwrap();
    let Command::Update(entries) = update else { panic!() };
    assert_eq!(
        entries[0].items,
        [UpdateItem {
            program_name: text("Apparel-Partner"),
            update_type: text("UPGRADE"),
            details: Some(UpdateDetails {
                tier_name: text("Silver"),
                tier_expiry: at("2023-12-29T18:29:59Z"),
            }),
        }]
    );

    let delink = decode(DELINK.as_bytes(), Operation::Delink).unwrap();
    let Command::Delink(entries) = delink else { panic!() };
    assert_eq!(entries[0].customer.mobile, text("919800000000"));
    assert_eq!(entries[0].items[1], DelinkItem { program_name: text("p3e1"), reason: None });
}

#[test]
fn identifiers_are_read_in_all_their_forms() {
    for (customer, id, mobile, email, external_id) in [
        ("null", None, None, None, None),
        ("{}", None, None, None, None),
        (r#"{"id":null,"mobile":null,"email":null,"externalId":null}"#, None, None, None, None),
        (r#"{"id":"","mobile":"","email":""}"#, None, text(""), text(""), None),
        (
            r#"{"id":7,"mobile":0,"externalId":18446744073709551615}"#,
            Some(7),
            text("0"),
            None,
            text("18446744073709551615"),
        ),
        (r#"{"id":-9223372036854775808}"#, Some(i64::MIN), None, None, None),
        (
            r#"{"mob\u0069le":"+91 6\n","other":[{"id":1,"id":2}]}"#,
            None,
            text("+91 6\n"),
            None,
            None,
        ),
    ] {
        let expected = Identifiers { id, mobile, email, external_id };
        assert_eq!(customer_of(&with_customer(customer)), expected, "{customer}");
    }
    assert_eq!(
        customer_of(r#"{"linkCustomers":[{"linkToPartnerPrograms":[]}]}"#),
        Identifiers::default()
    );
}

#[test]
fn a_reference_without_value_is_absent() {
    for (reference, expected) in [("null", None), ("{}", Some(Reference::default()))] {
        let Ok(Command::Link(entries)) = link(&with_reference(reference)) else { panic!() };
        assert_eq!(entries[0].items[0].reference, expected);
    }
}

#[test]
fn a_date_that_is_none_is_left_to_the_domain() {
    let body = with_reference(r#"{"partnerTierExpiryDate":"soon"}"#);
    let Ok(Command::Link(entries)) = link(&body) else { panic!() };
    let reference = entries[0].items[0].reference.as_ref().unwrap();
    assert_eq!(reference.tier_expiry, GivenDate::Unreadable);
}

#[test]
fn unknown_fields_are_ignored_however_deep() {
    let deep = format!("{}{}", "[".repeat(500_000), "]".repeat(500_000));
    for body in [
        format!(r#"{{"x":{deep},"linkCustomers":[]}}"#),
        format!(r#"{{"linkCustomers":[],"x":{deep}}}"#),
        r#"{"x":1e999,"x":"\ud800","linkCustomers":[]}"#.to_owned(),
    ] {
        assert_eq!(link(&body), Ok(Command::Link(Vec::new())));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_or_rejected(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        for operation in Operation::ALL {
            decode(&body, operation).err();
        }
    }

    #[test]
    fn a_mutated_command_is_decoded_or_rejected(
        which in 0..4_usize,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut body = [LINK_1, LINK_2, UPDATE, DELINK][which].as_bytes().to_vec();
        for (place, byte) in changes {
            let index = place.index(body.len());
            body[index] = byte;
        }
        for operation in Operation::ALL {
            decode(&body, operation).err();
        }
    }

    #[test]
    fn a_written_command_reads_back(
        id in any::<Option<i64>>(),
        mobile in any::<Option<u64>>(),
        email in proptest::option::of("[^\0]{0,40}"),
        names in proptest::collection::vec(proptest::option::of("[^\0]{0,40}"), 0..5),
        reason in proptest::option::of("[^\0]{0,255}"),
    ) {
        let items: Vec<_> = names
            .iter()
            .map(|name| serde_json::json!({"partnerProgramName": name, "reason": reason}))
            .collect();
        let customer = serde_json::json!({"id": id, "mobile": mobile, "email": email});
        let body = serde_json::json!({
            "deLinkCustomers": [{"customer": customer, "deLinkFromPartnerPrograms": items}]
        });
        let customer = Identifiers { id, mobile: mobile.map(|m| m.to_string()), email, external_id: None };
        let items = names
            .into_iter()
            .map(|program_name| DelinkItem { program_name, reason: reason.clone() })
            .collect();
        let read = decode(body.to_string().as_bytes(), Operation::Delink);
        prop_assert_eq!(read, Ok(Command::Delink(vec![Entry { customer, items }])));
    }
}
