//! Servers that go away under load and come back.

use std::time::Duration;

use crate::faults::{DEADLINE, assert_no_dead_letters, progress, scene};
use crate::harness::eventually;
use crate::harness::journey::{assert_done_in_order, assert_first_results_in_order, steps};
use crate::harness::left::assert_nothing_is_left;
use crate::harness::rows::Rows;
use crate::harness::scene::Scene;
use crate::harness::servers::{OwnServers, Place};
use crate::harness::upstream::Upstream;
use crate::harness::worker::Process;

/// Seconds that a server stays away.
const OUTAGE_VARIABLE: &str = "PARTNER_PROGRAM_TEST_OUTAGE_S";

fn outage() -> Duration {
    let set = std::env::var(OUTAGE_VARIABLE).unwrap_or_else(|_| "5".to_owned());
    Duration::from_secs(set.parse().expect("a number of seconds"))
}

/// The servers, the worker and the load of one test.
struct Trial {
    own: OwnServers,
    scene: Scene,
    worker: Process,
    upstream: Upstream,
}

impl Trial {
    async fn start() -> Self {
        let own = OwnServers::start().await;
        let mut scene = scene(Place::on(&own.servers, "outage").await).await;
        // RabbitMQ 3.10 writes down which quorum queues it has some seconds after they were
        // declared: one that a crash finds younger does not come back. Ours are to be older.
        own.rabbitmq.stop().await;
        own.rabbitmq.start().await;
        let worker = Process::start(&scene.settings, "patient");
        let upstream = Upstream::start(&scene.place.amqp_url);
        progress(&mut scene.rows, 300).await;
        Self { own, scene, worker, upstream }
    }

    /// The server is back: work goes on, and all of it turns out to be done.
    async fn end(self) {
        let Self { own, scene, mut worker, upstream } = self;
        let Scene { place, mut results, .. } = scene;
        let mut rows = Rows::of(&place).await;
        progress(&mut rows, 300).await;
        let confirmed = upstream.stop().await;
        assert_done_in_order(&steps(0..confirmed), &mut results, &mut rows, DEADLINE).await;
        assert_first_results_in_order(&results);
        assert!(worker.is_running(), "an outage never ends the worker");
        worker.signal("TERM").await;
        assert!(worker.ended().await.success());
        assert_no_dead_letters(&place).await;
        drop(rows);
        assert_nothing_is_left(&place, &["main"]).await;
        drop(place);
        drop(own);
    }
}

#[tokio::test]
async fn a_database_that_crashes_is_waited_for() {
    let trial = Trial::start().await;
    trial.own.postgres.kill().await;
    tokio::time::sleep(outage()).await;
    trial.own.postgres.start().await;
    trial.end().await;
}

#[tokio::test]
async fn a_database_that_is_stopped_is_waited_for() {
    let trial = Trial::start().await;
    trial.own.postgres.stop().await;
    tokio::time::sleep(outage()).await;
    trial.own.postgres.start().await;
    trial.end().await;
}

#[tokio::test]
async fn a_broker_that_crashes_is_waited_for() {
    let trial = Trial::start().await;
    trial.own.rabbitmq.kill().await;
    tokio::time::sleep(outage()).await;
    trial.own.rabbitmq.start().await;
    trial.end().await;
}

#[tokio::test]
async fn a_broker_that_is_stopped_is_waited_for() {
    let trial = Trial::start().await;
    trial.own.rabbitmq.stop().await;
    tokio::time::sleep(outage()).await;
    trial.own.rabbitmq.start().await;
    trial.end().await;
}

#[tokio::test]
async fn a_worker_can_start_before_its_servers() {
    let own = OwnServers::start().await;
    let Scene { place, settings, mut results, publisher, .. } =
        scene(Place::on(&own.servers, "early").await).await;
    let messages = steps(0..100);
    publisher.publish(&messages).await;
    drop(publisher);
    own.postgres.stop().await;
    own.rabbitmq.stop().await;
    let mut worker = Process::start(&settings, "early");
    eventually(DEADLINE, "the worker says that it waits", async || {
        (!worker.words().is_empty()).then_some(())
    })
    .await;
    own.rabbitmq.start().await;
    own.postgres.start().await;
    let mut rows = Rows::of(&place).await;
    assert_done_in_order(&messages, &mut results, &mut rows, DEADLINE).await;
    worker.signal("TERM").await;
    assert!(worker.ended().await.success());
    assert_no_dead_letters(&place).await;
    drop(rows);
    assert_nothing_is_left(&place, &["main"]).await;
}
