use super::*;
use crate::wire::reader::ELEMENTS_MAX;

#[expect(clippy::too_many_lines, reason = "it is one table")]
#[test]
fn what_cannot_be_read_is_rejected_with_its_place() {
    let wrong =
        "/linkCustomers/0/customer/mobile: expected a string or a non-negative integer, found";
    let number = format!("{wrong} a number");
    let id = "/linkCustomers/0/customer/id: expected an integer of 64 bits, found";
    let reference = "/linkCustomers/0/linkToPartnerPrograms/0/customerPartnerReference";
    let deep = "[".repeat(500_000);
    let cases: Vec<(String, Reason, String)> = vec![
        (String::new(), Reason::NotJson, "line 1, column 0".into()),
        ("{".into(), Reason::NotJson, "line 1, column 1".into()),
        ("nonsense".into(), Reason::NotJson, "line 1, column 2".into()),
        ("\u{feff}{\"linkCustomers\":[]}".into(), Reason::NotJson, "line 1, column 1".into()),
        (r#"{"linkCustomers":[],}"#.into(), Reason::NotJson, "line 1, column 21".into()),
        (r#"{"linkCustomers":[NaN]}"#.into(), Reason::NotJson, "line 1, column 19".into()),
        (
            "{\"linkCustomers\":[]}\n{}".into(),
            Reason::TrailingData,
            "line 2, column 1: nothing may follow the document".into(),
        ),
        (
            r#"{"linkCustomers":[]}]"#.into(),
            Reason::TrailingData,
            "line 1, column 21: nothing may follow the document".into(),
        ),
        ("[]".into(), Reason::RootKeys, "expected an object as root, found an array".into()),
        (deep.clone(), Reason::RootKeys, "expected an object as root, found an array".into()),
        ("null".into(), Reason::RootKeys, "expected an object as root, found null".into()),
        ("1".into(), Reason::RootKeys, "expected an object as root, found a number".into()),
        (
            r#"{"linkCustomer":[]}"#.into(),
            Reason::RootKeys,
            "expected one of linkCustomers, customersPartnerUpdates, deLinkCustomers".into(),
        ),
        (
            r#"{"linkCustomers":[],"deLinkCustomers":null}"#.into(),
            Reason::RootKeys,
            "/deLinkCustomers: a second operation in one command".into(),
        ),
        (
            r#"{"linkCustomers":[],"linkCustomers":[]}"#.into(),
            Reason::DuplicateKey,
            "/linkCustomers: given twice".into(),
        ),
        (
            with_customer(r#"{"mobile":null,"mobile":"1"}"#),
            Reason::DuplicateKey,
            "/linkCustomers/0/customer/mobile: given twice".into(),
        ),
        (
            r#"{"linkCustomers":null}"#.into(),
            Reason::NotAnArray,
            "/linkCustomers: expected an array, found null".into(),
        ),
        (
            r#"{"linkCustomers":{}}"#.into(),
            Reason::NotAnArray,
            "/linkCustomers: expected an array, found an object".into(),
        ),
        (
            r#"{"linkCustomers":[{}]}"#.into(),
            Reason::NotAnArray,
            "/linkCustomers/0/linkToPartnerPrograms: expected an array, found nothing".into(),
        ),
        (
            r#"{"linkCustomers":[{"linkToPartnerPrograms":"x"}]}"#.into(),
            Reason::NotAnArray,
            "/linkCustomers/0/linkToPartnerPrograms: expected an array, found a string".into(),
        ),
        (
            r#"{"linkCustomers":[{"linkToPartnerPrograms":[]},null]}"#.into(),
            Reason::WrongType,
            "/linkCustomers/1: expected an object, found null".into(),
        ),
        (
            r#"{"linkCustomers":[["a"]]}"#.into(),
            Reason::WrongType,
            "/linkCustomers/0: expected an object, found an array".into(),
        ),
        (
            with_customer(r#"["1"]"#),
            Reason::WrongType,
            "/linkCustomers/0/customer: expected an object, found an array".into(),
        ),
        (
            with_customer("true"),
            Reason::WrongType,
            "/linkCustomers/0/customer: expected an object, found a boolean".into(),
        ),
        (with_customer(r#"{"mobile":-1}"#), Reason::WrongType, number.clone()),
        (with_customer(r#"{"mobile":1.5}"#), Reason::WrongType, number.clone()),
        (with_customer(r#"{"mobile":18446744073709551616}"#), Reason::WrongType, number),
        (with_customer(r#"{"mobile":true}"#), Reason::WrongType, format!("{wrong} a boolean")),
        (
            with_customer(&format!(r#"{{"mobile":{deep}"#)),
            Reason::WrongType,
            format!("{wrong} an array"),
        ),
        (
            with_customer(r#"{"email":1}"#),
            Reason::WrongType,
            "/linkCustomers/0/customer/email: expected a string, found a number".into(),
        ),
        (with_customer(r#"{"id":"1"}"#), Reason::WrongType, format!("{id} a string")),
        (
            with_customer(r#"{"id":9223372036854775808}"#),
            Reason::WrongType,
            format!("{id} a number"),
        ),
        (with_customer(r#"{"id":1.0}"#), Reason::WrongType, format!("{id} a number")),
        (
            with_customer(r#"{"mobile":"6\u00001"}"#),
            Reason::InvalidText,
            "/linkCustomers/0/customer/mobile: holds a NUL character".into(),
        ),
        (
            with_reference(r#"{"partnerTierExpiryDate":"\u0000"}"#),
            Reason::InvalidText,
            format!("{reference}/partnerTierExpiryDate: holds a NUL character"),
        ),
        (
            with_reference(r#"{"partnerTierExpiryDate":1672338599}"#),
            Reason::WrongType,
            format!("{reference}/partnerTierExpiryDate: expected a string, found a number"),
        ),
        (
            with_reference(r#""x""#),
            Reason::WrongType,
            format!("{reference}: expected an object, found a string"),
        ),
        (
            r#"{"deLinkCustomers":[]}"#.into(),
            Reason::OperationMismatch,
            "the routing key says link, the root key delink".into(),
        ),
    ];
    for (body, reason, detail) in cases {
        let shown = body.get(..120).unwrap_or(&body);
        assert_eq!(link(&body), Err(Rejection { reason, detail }), "{shown}");
    }
}

/// Only the texts of `serde_json` tell these from other syntax errors.
#[test]
fn syntax_errors_with_a_better_name_have_it() {
    for (customer, reason) in [
        (r#"{"email":"\ud800"}"#, Reason::InvalidText),
        (r#"{"email":"\ud800x"}"#, Reason::InvalidText),
        (r#"{"email":"\udc00"}"#, Reason::InvalidText),
        (r#"{"email":"\ud800\u0041"}"#, Reason::InvalidText),
        (r#"{"mobile":1e999}"#, Reason::WrongType),
        (r#"{"email":"\x"}"#, Reason::NotJson),
    ] {
        let rejection = link(&with_customer(customer)).unwrap_err();
        assert_eq!(rejection.reason, reason, "{customer}: {rejection}");
        let field =
            reason == Reason::NotJson || rejection.detail.starts_with("/linkCustomers/0/customer/");
        assert!(field, "{rejection}");
    }
    let huge = with_customer(&format!(r#"{{"mobile":{}}}"#, "9".repeat(100_000)));
    assert_eq!(link(&huge).unwrap_err().reason, Reason::WrongType);
}

#[test]
fn bytes_that_are_not_utf8_are_rejected_first() {
    let rejection = decode(b"{\"x\":\"\xff\"}", Operation::Link).unwrap_err();
    assert_eq!(rejection, Rejection::new(Reason::NotUtf8, "the body is not UTF-8 at byte 6"));
}

#[test]
fn a_body_may_fill_its_bound_and_no_more() {
    let mut body = br#"{"linkCustomers":[]}"#.to_vec();
    body.resize(BODY_BYTES_MAX, b' ');
    assert!(decode(&body, Operation::Link).is_ok());
    body.push(b' ');
    assert_eq!(decode(&body, Operation::Link).unwrap_err().reason, Reason::TooLarge);
}

#[test]
fn lists_may_have_what_the_smallest_excess_of_both_bounds_needs_and_no_more() {
    let entries = |customers: usize, items: usize| {
        let items = vec!["{}"; items].join(",");
        let entry = format!(r#"{{"linkToPartnerPrograms":[{items}]}}"#);
        format!(r#"{{"linkCustomers":[{}]}}"#, vec![entry; customers].join(","))
    };
    assert_eq!(ELEMENTS_MAX, 51 + 51 * 51);
    assert_eq!(link(&entries(51, 51)).unwrap().item_count(), 51 * 51);
    assert_eq!(link(&entries(51, 52)).unwrap_err().reason, Reason::TooLarge);
    assert_eq!(link(&entries(1, ELEMENTS_MAX - 1)).unwrap().item_count(), ELEMENTS_MAX - 1);
    assert_eq!(link(&entries(1, ELEMENTS_MAX)).unwrap_err().reason, Reason::TooLarge);
    assert!(link(&entries(ELEMENTS_MAX, 0)).is_ok());
    assert_eq!(link(&entries(ELEMENTS_MAX + 1, 0)).unwrap_err().reason, Reason::TooLarge);
}

#[test]
fn a_long_text_is_answered_not_rejected() {
    let body = with_reference(&format!(r#"{{"partnerMembershipId":"{}"}}"#, "é".repeat(256)));
    assert!(link(&body).is_ok());
}

#[test]
fn no_rejection_quotes_a_value() {
    for customer in [r#"{"id":"secret"}"#, r#""secret""#, r#"{"email":"secret\ud800"}"#] {
        assert!(!link(&with_customer(customer)).unwrap_err().detail.contains("secret"));
    }
}
