//! Who may what, in the browser.

use crate::console::browser::{Browser, Scripts};
use crate::console::stage::{OPERATOR, Stage, VIEWER};

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_in_without_a_token_and_out_means_out() {
    let stage = Stage::new("console_login").await;
    let browser = Browser::open(&stage, Scripts::On).await;
    browser.go("/audit").await;
    browser.pictures("login").await;
    browser.type_into("#token", "pp_guessed").await;
    browser.click("form button").await;
    browser.see_words("#problem", "No such token").await;
    browser.type_into("#token", VIEWER).await;
    browser.click("form button").await;
    // It goes on where one wanted to be.
    browser.see_words("h1", "Audit").await;
    let cookie = browser.page.get_all_cookies().await.unwrap().remove(0);
    let (http_only, same_site) = (cookie.http_only, cookie.same_site.map(|s| format!("{s:?}")));
    assert_eq!((http_only, same_site.as_deref()), (Some(true), Some("Strict")));
    browser.click(".who button").await;
    browser.see("#token").await;
    browser.go("/dead-letters").await;
    browser.see("#token").await;
    browser.close().await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_is_offered_nothing_to_do_and_an_operator_no_personal_data() {
    let stage = Stage::with_letters("console_roles", 1).await;
    let browser = Browser::open(&stage, Scripts::On).await;
    browser.log_in(VIEWER).await;
    browser.click(".row a").await;
    browser.see("#detail .timeline").await;
    for css in ["[data-act]", "[data-one]", "#all", ".pick", ".unmask"] {
        assert_eq!(browser.count(css).await, 0, "{css}");
    }
    browser.press("xrde").await;
    browser.see("#detail .timeline").await;
    assert!(browser.address().await.contains("/dead-letters/"));
    browser.click(".who button").await;
    browser.log_in(OPERATOR).await;
    browser.click(".row a").await;
    browser.see("[data-one=replay]").await;
    for css in [".unmask", "[data-one=edit]", "[data-act=export]"] {
        assert_eq!(browser.count(css).await, 0, "{css}");
    }
    browser.close().await;
    stage.end().await;
}
