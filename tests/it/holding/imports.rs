//! Imports that move an identifier to another customer while commands are parked.

use std::time::Duration;

use partner_program_worker::message::Message;
use serde_json::json;
use uuid::Uuid;

use crate::harness::publisher::command;
use crate::harness::worker::Process;
use crate::harness::workload::{ORG, PROGRAM};
use crate::holding::{Held, POISONED, about, poison_and_followers};

/// A delink of the customer with this mobile number.
fn about_mobile(id: &str, mobile: &str) -> Message {
    let entry = json!({
        "customer": { "mobile": mobile },
        "deLinkFromPartnerPrograms": [{ "partnerProgramName": PROGRAM }],
    });
    let body = json!({ "deLinkCustomers": [entry] });
    command(&format!("{ORG}.delink"), Some(id), body.to_string())
}

/// Customers 1 and 2 are held by letters of their own, and `moves` waits for the second letter, that
/// of customer 1, who has the mobile number. Then an import gives the number to customer 2.
async fn moved(name: &str) -> (Held, Process, [Uuid; 2]) {
    const MOBILE: &str = "919800000001";
    let mut held = Held::new(name, 100).await;
    held.env.rows.execute(&format!("update customer set mobile = '{MOBILE}' where id = 1")).await;
    held.publish(&[about("first", true, &[2])]).await;
    let mut worker = held.start("evaluate=return(panic first)");
    let first = held.letter("first").await;
    held.stop(&mut worker).await;
    let [poison, ..] = poison_and_followers();
    let waits = about_mobile("moves", MOBILE);
    let behind = about("behind", true, &[1]);
    held.publish(&[poison, waits, behind, about("free", true, &[3])]).await;
    let worker = held.start(POISONED);
    held.hear("free").await;
    let second = held.letter("poison").await;
    assert_eq!(held.parked().await, 2);
    // One file can't move it: rows are judged by what is stored.
    for row in [format!("{ORG},1,919800000009"), format!("{ORG},2,{MOBILE}")] {
        let file = tempfile::NamedTempFile::with_suffix(".csv").expect("a file");
        let text = format!("org,id,mobile,email,external_id,state\n{row},,,active\n");
        std::fs::write(file.path(), text).expect("it is written");
        let path = file.path().to_str().expect("text");
        held.env.settings.run(&["import", "customers", path]).await;
    }
    (held, worker, [first, second])
}

#[tokio::test]
async fn an_import_that_moves_an_identifier_stops_no_lane() {
    let (mut held, mut worker, [first, second]) = moved("hold-moved").await;
    held.release(second).await;
    // `moves` means customer 2 by now, whose letter stands before it; `behind` stays behind it.
    held.publish(&[about("also free", false, &[3])]).await;
    held.hear("also free").await;
    assert_eq!(held.parked().await, 2);
    let stand_for = "select count(*) from parked_customer";
    assert_eq!(held.env.rows.count(stand_for).await, 3, "`moves` for two customers");
    worker.signal("TERM").await;
    let ended = tokio::time::timeout(Duration::from_secs(10), worker.ended()).await;
    assert!(ended.expect("the signal is obeyed").success(), "{}", worker.words());

    let mut worker = held.start("");
    held.publish(&[about("still free", true, &[3])]).await;
    held.hear("still free").await;
    assert_eq!(held.parked().await, 2);
    held.release(first).await;
    held.hear("behind").await;
    held.nothing_waits().await;
    let expected = ["free", "also free", "still free", "moves", "behind"];
    assert_eq!(held.applied().await, expected);
    assert_eq!(held.published(), expected);
    held.stop(&mut worker).await;
}

#[tokio::test]
async fn a_parked_command_that_fails_after_an_import_holds_all_that_it_has_stood_for() {
    let (mut held, mut worker, [first, second]) = moved("hold-moved-fails").await;
    held.stop(&mut worker).await;
    held.release(first).await;
    held.release(second).await;
    let mut worker = held.start("evaluate=return(panic moves)");
    let letter = held.letter("moves").await;
    held.publish(&[about("of two", false, &[2]), about("also free", false, &[3])]).await;
    held.hear("also free").await;
    assert_eq!(held.parked().await, 2, "customers 1 and 2 are held");
    held.stop(&mut worker).await;
    held.release(letter).await;
    let mut worker = held.start("");
    held.hear("of two").await;
    held.nothing_waits().await;
    assert_eq!(held.applied().await, ["free", "also free", "behind", "of two"]);
    held.stop(&mut worker).await;
}
