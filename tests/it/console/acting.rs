//! Acting: replay, edit, discard, restore; by mouse, by keys, and without scripts.

use thirtyfour::Key;

use crate::console::browser::{Browser, Scripts};
use crate::console::stage::{ADMIN, OPERATOR, Stage, link};
use crate::harness::publisher::command;

const APPLIED: &str = "select count(*) from dead_letter where state = 'applied'";
const DISCARDED: &str = "select count(*) from dead_letter where state = 'discarded'";
const OPEN: &str = "select count(*) from dead_letter where state = 'open'";
/// As many effects as there are commands that took effect.
const EFFECTS: &str = "select count(*) from enrolment_history where org_id = 2";

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_replayed_after_a_dry_run() {
    let mut stage = Stage::with_letters("console_replay", 60).await;
    let browser = Browser::open(&stage, Scripts::On).await;
    browser.log_in(OPERATOR).await;

    // The cause is not mended yet, and the dry run says so.
    browser.click("#all").await;
    browser.click("[data-act=replay]").await;
    browser.see_words("#eligible", "0").await;
    browser.see_words("main", "its org is not in the catalogue").await;
    browser.pictures("dry-run").await;

    stage.import_globex().await;
    browser.go("/dead-letters?operation=link&reason=unknown-org").await;
    browser.click(".group").await;
    browser.see(".group[aria-current]").await;
    browser.click("#all").await;
    browser.click("[data-act=replay]").await;
    browser.see_words("#eligible", "60").await;
    browser.type_into("#why", "OPS-1: globex is imported").await;
    browser.picture("dry-run-eligible").await;
    browser.click("#confirm").await;
    browser.see("progress").await;
    browser.picture("operation-running").await;
    browser.see_words("h1 .state", "done").await;
    stage.counted(APPLIED, 60).await;
    browser.see_words("#outcomes + .tally", "applied\n60").await;
    browser.pictures("operation").await;
    assert_eq!(stage.count(EFFECTS).await, 60);
    browser.go("/bulk-jobs").await;
    browser.see_words("main", "OPS-1: globex is imported").await;
    browser.pictures("bulk jobs").await;
    browser.go("/dead-letters?state=applied").await;
    browser.see_words(".group .fate", "replayed 60, failed again 0").await;
    browser.close().await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_copy_is_checked_replaces_the_letter_and_is_applied() {
    let mut stage = Stage::with_letters("console_edit", 1).await;
    let browser = Browser::open(&stage, Scripts::On).await;
    browser.log_in(ADMIN).await;
    browser.go("/dead-letters?reason=not-an-array").await;
    browser.click(".row a").await;
    browser.click("[data-one=edit]").await;
    browser.see_words("#verdict", "not-an-array").await;
    // Checked while one writes, by the same reading that a worker does.
    browser.type_into("#body", "{").await;
    browser.see_words("#verdict", "not-json").await;
    browser.pictures("edit").await;
    let body = link(7, "Miles");
    browser.type_into("#body", &body).await;
    browser.see_words("#verdict", "A worker can read this").await;
    browser.type_into("#why", "OPS-2: a list was missing").await;
    browser.click("#save").await;
    browser.see_words("#detail .timeline", "edited from").await;
    assert_eq!(stage.count("select count(*) from dead_letter where state = 'superseded'").await, 1);
    browser.click("[data-one=replay]").await;
    browser.see_words("#eligible", "1").await;
    browser.type_into("#why", "OPS-2").await;
    browser.click("#confirm").await;
    browser.see_words("h1 .state", "done").await;
    stage.counted(APPLIED, 1).await;
    browser.close().await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_is_discarded_and_restored() {
    let mut stage = Stage::with_letters("console_discard", 3).await;
    let browser = Browser::open(&stage, Scripts::On).await;
    browser.log_in(OPERATOR).await;
    browser.click(".row:first-child .pick input").await;
    browser.click("[data-act=discard]").await;
    browser.type_into("#why", "OPS-3: a test of theirs").await;
    browser.click("#confirm").await;
    browser.see_words("h1 .state", "done").await;
    assert_eq!(stage.count(DISCARDED).await, 1);

    browser.go("/dead-letters?state=discarded").await;
    browser.click(".row a").await;
    browser.see_words("#detail .timeline", "OPS-3: a test of theirs").await;
    browser.click("#detail button[value=restore]").await;
    browser.type_into("#why", "OPS-3: it was none").await;
    browser.click("#confirm").await;
    browser.see_words("h1 .state", "done").await;
    assert_eq!(stage.count(OPEN).await, 5);
    browser.close().await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_within_reach_of_the_keys() {
    let mut stage = Stage::with_letters("console_keys", 3).await;
    stage.import_globex().await;
    let browser = Browser::open(&stage, Scripts::On).await;
    browser.go("/dead-letters").await;
    browser.press(OPERATOR).await;
    browser.press_key(Key::Enter).await;
    browser.see("#list-title").await;

    browser.press("?").await;
    browser.see("dialog[open]").await;
    browser.picture("keys").await;
    browser.press_key(Key::Escape).await;
    browser.press("/").await;
    browser.press("catalogue").await;
    browser.press_key(Key::Enter).await;
    browser.see_words("#count", "3").await;
    browser.press_key(Key::Escape).await;

    browser.press("jjk").await;
    browser.see(".row:nth-child(1).at").await;
    browser.press_key(Key::Enter).await;
    browser.see("#detail .timeline").await;
    browser.press("x").await;
    browser.see_words("[data-act=replay]", "Replay 1").await;
    browser.press_key(Key::Escape).await;
    browser.see_words("[data-act=replay]", "Replay…").await;
    browser.press("*").await;
    browser.see_words("[data-act=replay]", "Replay 3").await;
    browser.press("*").await;
    browser.see_words("[data-act=replay]", "Replay all").await;
    browser.press("r").await;
    browser.see_words("#eligible", "3").await;
    browser.press("OPS-4").await;
    browser.press_key(Key::Enter).await;
    browser.see_words("h1 .state", "done").await;
    stage.counted(APPLIED, 3).await;

    browser.go("/dead-letters").await;
    browser.press("jd").await;
    browser.see_words("h1", "Discard one dead letter").await;
    browser.press("OPS-5").await;
    browser.press_key(Key::Enter).await;
    browser.see_words("h1 .state", "done").await;
    assert_eq!(stage.count(DISCARDED).await, 1);
    browser.close().await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_scripts_nothing_is_missing() {
    let mut stage = Stage::with_letters("console_plain", 3).await;
    stage.import_globex().await;
    let browser = Browser::open(&stage, Scripts::Off).await;
    browser.log_in(OPERATOR).await;
    browser.type_into("[name=text]", "catalogue").await;
    browser.click(".filters button").await;
    browser.see_words("#count", "3").await;
    browser.click(".row a").await;
    browser.see("#detail .timeline").await;
    assert!(browser.address().await.contains("text=catalogue"), "no filter is lost");
    browser.click("#all").await;
    browser.click("[data-act=replay]").await;
    browser.see_words("#eligible", "3").await;
    browser.type_into("#why", "OPS-6").await;
    browser.click("#confirm").await;
    stage.counted(APPLIED, 3).await;
    // A letter is applied with its command's effect; the operation ends a moment later.
    stage.counted("select count(*) from bulk_job where state = 'done'", 1).await;
    let operation = browser.address().await;
    browser.page.goto(&operation).await.unwrap();
    browser.see_words("h1 .state", "done").await;
    browser.close().await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_lane_takes_nothing_until_it_is_resumed() {
    const STORED: &str = "select count(*) from command_log";
    let mut stage = Stage::new("console_pause").await;
    let delink = |id: &str| {
        let body = r#"{"deLinkCustomers":[{"customer":{"id":7},"deLinkFromPartnerPrograms":[{"partnerProgramName":"Hotels"}]}]}"#;
        command("acme.delink", Some(id), body)
    };
    stage.publisher.publish(&[delink("c-1")]).await;
    stage.counted(STORED, 1).await;
    let browser = Browser::open(&stage, Scripts::On).await;
    browser.log_in(ADMIN).await;
    browser.go("/lanes").await;
    browser.see_words("#lane-rows", "tested").await;
    browser.click("#lane-rows summary").await;
    browser.type_into("#lane-rows [name=reason]", "OPS-8: globex moves").await;
    browser.click("[data-lane=pause]").await;
    browser.see_words("#lane-rows", "OPS-8: globex moves").await;
    // The worker has drained it and gone.
    browser.see_words("#lane-rows .bad", "none").await;
    browser.pictures("lane-paused").await;
    stage.publisher.publish(&[delink("c-2"), delink("c-3")]).await;
    stage.waiting(2).await;
    assert_eq!(stage.count(STORED).await, 1);
    browser.click("[data-lane=resume]").await;
    stage.counted(STORED, 3).await;
    assert_eq!(stage.count("select count(*) from lane_pause where resumed_by = 'ada'").await, 1);
    browser.close().await;
    stage.end().await;
}
