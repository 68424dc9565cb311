//! The order of death: that of the lane's queue, whatever the workers' clocks say.

use chrono::{TimeDelta, Utc};
use partner_program_worker::clock::Clock;
use partner_program_worker::message::Message;
use serde_json::json;

use crate::dead_letters::{
    DEADLINE, LANE_QUEUE, archived, dead_letters, found_the_org, link, rows, scene_without_the_org,
};
use crate::harness::collector::Collector;
use crate::harness::environment::TestEnv;
use crate::harness::eventually;
use crate::harness::publisher::command;
use crate::harness::worker::InProcess;
use crate::harness::workload::{ORG, PROGRAM, steps};

/// Replays all that is open and gives the commands' ids as they come to the lane.
async fn replayed(env: &mut TestEnv, letters: usize) -> Vec<String> {
    found_the_org(env).await;
    let replay = ["replay", "--all", "--yes", "--reason", "the org is known"];
    let report = dead_letters(&env.settings, &replay).await.expect(0).json();
    assert_eq!(report["done"], json!(letters));
    let mut lane = Collector::of_queue(&env.place.amqp_url, LANE_QUEUE);
    let came = lane.read(letters, DEADLINE).await;
    came.iter().map(|message| message.message_id.clone().unwrap_or_default()).collect()
}

fn ids(messages: &[Message]) -> Vec<String> {
    messages.iter().filter_map(|message| message.properties.message_id.clone()).collect()
}

#[tokio::test]
async fn letters_of_workers_whose_clocks_differ_are_replayed_in_the_order_of_their_queue() {
    let mut env = scene_without_the_org("clocks").await;
    // Customers who join and leave in turns: one out of turn fails.
    let steps = steps(0..80);
    for (chunk, minutes) in steps.chunks(20).zip([30, 0, 20, -40]) {
        let before = env.rows.archived_commands().await.len();
        let clock = Clock::starting_at(Utc::now() + TimeDelta::minutes(minutes));
        let worker = InProcess::start(&env.settings, clock);
        env.publisher.publish(chunk).await;
        archived(&mut env, before + chunk.len()).await;
        worker.stop().await;
    }
    assert_eq!(replayed(&mut env, 80).await, ids(&steps));
    let listed = rows(&dead_letters(&env.settings, &["list", "--limit", "100"]).await.expect(0));
    assert_eq!(listed.len(), 80);
    for letter in &listed {
        assert!(letter["lane_epoch"].is_i64() && letter["delivery_tag"].is_i64(), "{letter}");
    }
}

#[tokio::test]
async fn a_command_that_its_publisher_sends_again_keeps_the_place_of_its_first_death() {
    let mut env = scene_without_the_org("first place").await;
    let joins = link("joins", 1, "m-1");
    let body = json!({ "deLinkCustomers": [{
        "customer": { "id": 1 }, "deLinkFromPartnerPrograms": [{ "partnerProgramName": PROGRAM }],
    }]});
    let leaves = command(&format!("{ORG}.delink"), Some("leaves"), body.to_string());
    // As after confirms that were lost: at once, and later under a clock by which it dies earlier.
    let (now, before) = (Utc::now(), Utc::now() - TimeDelta::minutes(30));
    let sent = [vec![joins.clone(), leaves, joins.clone()], vec![joins]];
    for ((start, messages), deaths) in [now, before].into_iter().zip(sent).zip([2, 3]) {
        let worker = InProcess::start(&env.settings, Clock::starting_at(start));
        env.publisher.publish(&messages).await;
        let counted = format!("select count(*) from dead_letter where deaths = {deaths}");
        let TestEnv { rows, .. } = &mut env;
        eventually(DEADLINE, &format!("it has died {deaths} times"), async || {
            (rows.count(&counted).await == 1).then_some(())
        })
        .await;
        worker.stop().await;
    }
    assert_eq!(replayed(&mut env, 2).await, ["joins", "leaves"]);
}
