use super::*;
use crate::domain::command::{DelinkItem, LinkItem, UpdateItem};
use crate::domain::evaluate::{EntryOutcome, Warning};
use crate::domain::identity::{Customer, CustomerId, CustomerState};

fn found() -> CustomerOutcome {
    CustomerOutcome::Retrieved(Customer {
        id: CustomerId(1),
        mobile: Some("916215000000".to_owned()),
        email: Some("a@b.c".to_owned()),
        external_id: None,
        state: CustomerState::Active,
    })
}

fn outcome(customer: CustomerOutcome, item: Status) -> Outcome {
    let entries = vec![EntryOutcome { customer, items: vec![item] }];
    Outcome { entries, ..Outcome::default() }
}

fn encoded(command: &Command, outcome: &Outcome) -> String {
    String::from_utf8(encode(command, outcome)).unwrap()
}

#[test]
fn a_link_is_answered_as_the_contract_shows() {
    let item = LinkItem { program_name: Some("1stProgram".to_owned()), reference: None };
    let command =
        Command::Link(vec![Entry { customer: Identifiers::default(), items: vec![item] }]);
    let mut outcome = outcome(found(), Status::Success);
    outcome.warnings.push(Warning {
        status: Status::TierFieldsIgnored,
        path: "/linkCustomers/0/linkToPartnerPrograms/0".to_owned(),
    });
    assert_eq!(
        encoded(&command, &outcome),
        concat!(
            r#"{"linkCustomers":[{"customer":{"id":1,"mobile":"916215000000","email":"a@b.c","#,
            r#""status":{"status":true,"message":"Customer successfully retrieved","code":1000}},"#,
            r#""linkToPartnerPrograms":[{"partnerProgramName":"1stProgram","#,
            r#""partnerLinkStatus":{"status":true,"message":"Success","code":200}}]}],"#,
            r#""warnings":[{"status":false,"code":2201,"#,
            r#""message":"Tier fields are ignored: the program has no tiers","#,
            r#""path":"/linkCustomers/0/linkToPartnerPrograms/0"}]}"#,
        )
    );
}

#[test]
fn an_update_echoes_its_type() {
    let item = UpdateItem {
        program_name: Some(" p\u{e9} ".to_owned()),
        update_type: Some("Upgrade".to_owned()),
        details: None,
    };
    let command =
        Command::Update(vec![Entry { customer: Identifiers::default(), items: vec![item] }]);
    let body = encoded(&command, &outcome(found(), Status::UpdateTypeUnknown));
    assert!(body.starts_with(r#"{"customersPartnerUpdates":[{"customer":{"id":1,"#), "{body}");
    let items = concat!(
        r#""partnerProgramUpdates":[{"partnerProgramName":" pé ","updateType":"Upgrade","#,
        r#""updateStatus":{"status":false,"#,
        r#""message":"Update type is none of UPGRADE, RENEW and DOWNGRADE","code":2009}}]}],"warnings":[]}"#,
    );
    assert!(body.ends_with(items), "{body}");
}

#[test]
fn a_customer_that_failed_is_echoed_as_given() {
    let customer = Identifiers {
        id: Some(7),
        mobile: Some("+91 1".to_owned()),
        email: Some(String::new()),
        external_id: None,
    };
    let command = Command::Delink(vec![Entry { customer, items: vec![DelinkItem::default()] }]);
    let failed = CustomerOutcome::Failed(Status::CustomerUnknown);
    assert_eq!(
        encoded(&command, &outcome(failed, Status::NotProcessed)),
        concat!(
            r#"{"deLinkCustomers":[{"customer":{"mobile":"+91 1","email":"","#,
            r#""status":{"status":false,"message":"Customer not found","code":1012}},"#,
            r#""deLinkFromPartnerPrograms":[{"partnerDeLinkStatus":"#,
            r#"{"status":false,"message":"Not processed because the customer failed","code":2001}}]}],"#,
            r#""warnings":[]}"#,
        )
    );
}

fn header(command_id: &str) -> ResultHeader<'_> {
    ResultHeader {
        org_code: "acme",
        operation: Operation::Delink,
        verdict: Verdict::Partial,
        counts: Counts { total: 3, succeeded: 2, failed: 1 },
        command_id,
        correlation_id: None,
        app_id: Some("app"),
        user_id: Some("upstream"),
        sent_at: DateTime::from_timestamp(1_700_000_000, 0),
        traceparent: None,
    }
}

#[test]
fn an_event_says_what_the_contract_lists() {
    let event = event("results", &header("c-1"), b"{}".to_vec());
    assert_eq!(
        (event.exchange.as_str(), event.routing_key.as_str()),
        ("results", "acme.delink.partial")
    );
    let properties = &event.properties;
    assert_eq!(properties.message_id.as_deref(), Some("c-1.result"));
    assert_eq!(properties.correlation_id.as_deref(), Some("c-1"));
    assert_eq!(properties.kind.as_deref(), Some("partner-program.delink.result.v1"));
    assert_eq!(properties.content_type.as_deref(), Some("application/json"));
    assert_eq!((properties.app_id.as_deref(), properties.user_id.as_deref()), (Some("app"), None));
    assert_eq!(properties.timestamp, DateTime::from_timestamp(1_700_000_000, 0));
    assert_eq!(
        serde_json::to_string(&properties.headers).unwrap(),
        r#"{"command-id":"c-1","items-failed":1,"items-succeeded":2,"items-total":3,"user-id":"upstream"}"#
    );
}

#[test]
fn a_long_command_id_still_gives_a_stable_message_id() {
    let id = |length: usize| {
        let id = "x".repeat(length);
        event("results", &header(&id), Vec::new()).properties.message_id.unwrap()
    };
    assert_eq!(id(248).len(), 255);
    assert!(id(249).starts_with("sha256-"));
    assert_eq!(id(255), id(255));
    assert_ne!(id(254), id(255));
}

#[test]
fn a_reply_is_the_event_for_one_queue() {
    let event = event("results", &header("c-1"), b"{}".to_vec());
    let answer = reply(&event, "amq.gen-1", Some("mine"));
    assert_eq!((answer.exchange.as_str(), answer.routing_key.as_str()), ("", "amq.gen-1"));
    assert_eq!(answer.properties.correlation_id.as_deref(), Some("mine"));
    assert_eq!(answer.body, event.body);
    let kept = reply(&event, "amq.gen-1", None).properties.correlation_id;
    assert_eq!(kept.as_deref(), Some("c-1"));
}
