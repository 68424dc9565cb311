//! Letters that mean harm to whoever looks at them.

use partner_program_worker::message::Message;
use serde_json::json;

use crate::console::browser::{Browser, Scripts};
use crate::console::stage::{ADMIN, Stage};
use crate::harness::publisher::command;

/// Would show itself, wherever it ran.
const SCRIPT: &str = r#"'"></textarea></pre><script>document.title='taken'</script><img src=x onerror="document.title='taken'">{{7919*7907}}"#;

fn letter(number: usize, routing_key: &str, body: String) -> Message {
    let mut message = command(routing_key, Some(&format!("{number}{SCRIPT}")), body);
    message.properties.correlation_id = Some(SCRIPT.to_owned());
    message.properties.app_id = Some(SCRIPT.to_owned());
    message.properties.reply_to = Some(SCRIPT.to_owned());
    message.properties.kind = Some(SCRIPT.to_owned());
    message.properties.headers.insert("x-own".to_owned(), SCRIPT.into());
    message
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_in_every_field_stays_text() {
    let mut stage = Stage::new("console_hostile").await;
    let keyed = json!({ "linkCustomers": [{ "customer": { SCRIPT: SCRIPT, "id": SCRIPT } }] });
    let letters = [
        letter(1, "acme.link", keyed.to_string()),
        letter(2, "acme.link", SCRIPT.to_owned()),
        letter(3, "acme.link", json!({ SCRIPT: [SCRIPT] }).to_string()),
        letter(4, &format!("{}.link", &SCRIPT[..60]), keyed.to_string()),
    ];
    stage.publisher.publish(&letters).await;
    stage.archived(4).await;
    let browser = Browser::open(&stage, Scripts::On).await;
    browser.log_in(ADMIN).await;
    assert_eq!(browser.count(".row").await, 4);
    browser.picture("hostile").await;
    let ids: Vec<uuid::Uuid> =
        sqlx::query_scalar("select id from dead_letter").fetch_all(&mut stage.rows).await.unwrap();
    for id in ids {
        browser.go(&format!("/dead-letters/{id}")).await;
        browser.see("#detail .timeline").await;
        inert(&browser).await;
        browser.click(".unmask summary").await;
        browser.type_into(".unmask [name=reason]", SCRIPT).await;
        browser.click(".unmask button").await;
        browser.see("#detail .note.warn").await;
        inert(&browser).await;
        browser.go(&format!("/dead-letters/{id}/edit")).await;
        browser.see("#verdict.problem").await;
        inert(&browser).await;
    }
    browser.go("/dead-letters").await;
    browser.type_into("[name=text]", SCRIPT).await;
    browser.click(".filters button").await;
    browser.see(".list .empty").await;
    inert(&browser).await;
    for path in ["/audit", "/lookup?org=%3Cscript%3E&id=%3Cscript%3E", "/dead-letters/nonsense"] {
        browser.go(path).await;
        inert(&browser).await;
    }
    browser.close().await;
    stage.end().await;
}

/// Nothing of it ran, and nothing of it became part of the page.
async fn inert(browser: &Browser) {
    let title = browser.page.title().await.unwrap();
    let place = browser.address().await;
    assert_ne!(title, "taken", "{place}");
    assert_eq!(browser.count("img, script:not([src])").await, 0, "{place}");
    assert!(!browser.words().await.contains("62615533"), "no template runs twice: {place}");
}
