//! Looking: what one sees without doing anything.

use crate::console::browser::{Browser, Scripts};
use crate::console::stage::{ADMIN, Stage, VIEWER};
use crate::harness::publisher::command;

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_filtered_grouped_and_shown() {
    let stage = Stage::with_letters("console_looking", 60).await;
    let browser = Browser::open(&stage, Scripts::On).await;
    browser.log_in(VIEWER).await;
    browser.see_words("#count", "62").await;
    assert_eq!((browser.count(".group").await, browser.count(".row").await), (3, 50));
    browser.pictures("letters").await;

    // Page by page, and every one of them once.
    browser.click("a[rel=next]").await;
    browser.see_words(".pages", "Newest").await;
    assert_eq!(browser.count(".row").await, 12);

    browser.go("/dead-letters").await;
    browser.click(".group[href*=group]:last-of-type").await;
    browser.see(".group[aria-current]").await;
    browser.see_words("#count", "60").await;
    browser.type_into("[name=text]", "array").await;
    browser.click(".filters button").await;
    browser.see_words(".empty", "No dead letter matches").await;
    // The filters stand in the address, to be passed on.
    let address = browser.address().await;
    assert!(address.contains("text=array") && address.contains("group="), "{address}");
    browser.picture("letters-none").await;

    browser.go("/dead-letters?operation=link&reason=not-an-array").await;
    browser.click(".row a").await;
    browser.see_words("#detail .marked", "linkToPartnerPrograms").await;
    let words = browser.words().await;
    assert!(words.contains("Hotels"), "the customer's enrolments are shown: {words}");
    for personal in ["98765", "jane@"] {
        assert!(!browser.source().await.contains(personal), "{personal} is masked");
    }
    browser.pictures("letter").await;
    for path in ["/dead-letters", "/dead-letters?operation=link", "/lanes", "/lookup", "/bulk-jobs"]
    {
        browser.go(path).await;
        assert_eq!(browser.overflow_on_a_phone().await, 0, "{path} fits a phone");
    }
    browser.close().await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_customers_and_lanes_are_looked_up() {
    let mut stage = Stage::new("console_lookup").await;
    let body = r#"{"deLinkCustomers":[{"customer":{"mobile":"9876543210"},"deLinkFromPartnerPrograms":[{"partnerProgramName":"Hotels"}]}]}"#;
    stage.publisher.publish(&[command("acme.delink", Some("c-1"), body)]).await;
    stage.counted("select count(*) from command_log", 1).await;
    let browser = Browser::open(&stage, Scripts::On).await;
    browser.log_in(VIEWER).await;
    browser.see_words("main", "No open dead letters").await;
    browser.picture("letters-empty").await;

    browser.go("/lookup").await;
    browser.type_into("form[method=get] [name=org]", "acme").await;
    browser.type_into("form[method=get] [name=id]", "c-1").await;
    browser.click("form[method=get] button").await;
    browser.see_words("#command-title", "succeeded").await;
    assert!(!browser.words().await.contains("98765"));
    browser.pictures("command").await;

    browser.type_into("form.box[method=post] [name=org]", "acme").await;
    browser.type_into("[name=identifier]", "7").await;
    browser.click("form.box[method=post] button").await;
    browser.see_words("#customer-title", "7").await;
    let words = browser.words().await;
    assert!(words.contains("delinked") && words.contains("delink"), "{words}");
    assert!(!words.contains("jane@"), "identifiers are masked");
    browser.picture("customer").await;

    browser.go("/lanes").await;
    browser.see_words("main", "tested").await;
    browser.see(".plot polyline, .plot .empty").await;
    // The worker's first words on how the lane fares.
    browser.see("#lane-rows .spark rect").await;
    browser.see_words("#status-bar", "p99").await;
    browser.pictures("lanes").await;
    browser.close().await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn personal_data_is_shown_to_an_admin_with_a_reason_and_noted() {
    let mut stage = Stage::with_letters("console_unmask", 1).await;
    let browser = Browser::open(&stage, Scripts::On).await;
    browser.log_in(ADMIN).await;
    browser.go("/dead-letters?reason=not-an-array").await;
    browser.click(".row a").await;
    browser.click(".unmask summary").await;
    browser.type_into(".unmask [name=reason]", "OPS-7: the customer asks").await;
    browser.click(".unmask button").await;
    browser.see_words("#detail .json", "jane@example.com").await;
    let noted = "select count(*) from dead_letter_action where action = 'unmask' \
                 and actor = 'ada' and reason = 'OPS-7: the customer asks'";
    assert_eq!(stage.count(noted).await, 1);
    browser.go("/audit").await;
    browser.see_words("main", "OPS-7: the customer asks").await;
    browser.pictures("audit").await;
    browser.close().await;
    stage.end().await;
}
