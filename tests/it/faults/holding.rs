//! A command under load that is dead-lettered in a lane that holds its customer, and replayed once
//! the worker is mended. Whatever dies meanwhile, everything must come out as though it had never
//! failed.

use serde_json::json;

use crate::faults::database::Database;
use crate::faults::fault::Fault;
use crate::faults::trial::{DEADLINE, SOME, Trial};
use crate::faults::worker::Worker;
use crate::harness::eventually;
use crate::harness::publisher::Publisher;

/// The step that panics, far enough from the front.
const POISON: usize = 100;

async fn holds_through(mut trial: Trial, fault: Fault) {
    let main = json!([{ "name": "main", "after_dead_letter": "hold-customer" }]);
    trial.settings = trial.settings.clone().with("LANES", main);
    let poison = (trial.step)(POISON);
    let id = poison.properties.message_id.clone().expect("steps have ids");
    trial.replayed.insert(id.clone());
    trial.points = format!("evaluate=return(panic {id})");
    trial.queue_up().await;
    trial.resume_load();
    trial.start_worker("");
    trial.progress(SOME).await;
    let letter = eventually(DEADLINE, "the poison is given up", async || {
        trial.subscriber.look(|heard| {
            let mut rejections =
                heard.iter().filter(|heard| heard.event.routing_key.ends_with(".rejected"));
            rejections.find_map(|heard| {
                let event = heard.event.json();
                (event["commandId"] == id.as_str()).then(|| event["deadLetterId"].clone())
            })
        })
    })
    .await;
    fault.inflict(&mut trial).await;
    fault.heal(&mut trial).await;
    trial.progress(SOME).await;
    assert!(trial.rows.count("select count(*) from parked_command").await > 0, "none are parked");

    trial.points.clear();
    for mut worker in std::mem::take(&mut trial.workers) {
        worker.kill().await;
    }
    trial.start_worker("");
    let mut replay = poison;
    replay.properties.headers.insert("replay-of".to_owned(), letter);
    Publisher::open(&trial.place.amqp_url).await.publish(&[replay]).await;
    fault.inflict(&mut trial).await;
    fault.heal(&mut trial).await;
    trial.progress(SOME).await;
    trial.pause_load().await;
    assert!(trial.drained().await, "the lane runs empty");
    let rows = &mut trial.rows;
    eventually(DEADLINE, "nobody waits any longer", async || {
        (rows.count("select count(*) from parked_command").await == 0).then_some(())
    })
    .await;
    trial.assert_kept().await;
}

#[tokio::test]
async fn a_worker_that_holds_a_customer_is_killed() {
    let trial = Trial::new("a worker that holds a customer is killed").await;
    holds_through(trial, Fault::Worker(Worker::Killed)).await;
}

#[tokio::test]
async fn postgres_is_killed_while_a_customer_is_held() {
    let trial = Trial::on_own_servers("postgres is killed while a customer is held").await;
    holds_through(trial, Fault::Database(Database::Killed)).await;
}
