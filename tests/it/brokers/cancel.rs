//! Subscriptions that the broker ends: by a cancel, or because deliveries were held for too long.

use std::time::{Duration, Instant};

use partner_program_worker::clock::Clock;

use crate::brokers::{DEADLINE, LANE_QUEUE, env, scene_at};
use crate::harness::database::TestDatabase;
use crate::harness::environment::TestEnv;
use crate::harness::eventually;
use crate::harness::leftovers::assert_nothing_is_left;
use crate::harness::management::Depth;
use crate::harness::servers::{Lent, Place};
use crate::harness::worker::{InProcess, Process};
use crate::harness::workload::{assert_done_in_order, steps};

const LOCK: &str = "begin; lock table command_log in exclusive mode";
const CONSUMING: &str = "partner-program main tested consuming";

async fn subscribed(place: &Place, connection: &str) {
    eventually(DEADLINE, &format!("{connection} has a channel"), async || {
        place.broker.channels().iter().any(|name| name == connection).then_some(())
    })
    .await;
}

/// A queue that is deleted cancels its consumers, as a broker from 4.3 on does when deliveries were
/// held for too long. What was delivered before is somebody else's from then on.
#[tokio::test]
async fn a_cancel_by_the_broker_ends_the_generation_and_nothing_more_is_committed() {
    let TestEnv { place, settings, mut rows, mut results, publisher } = env("cancelled").await;
    let settings = settings.with("BATCH_SIZE", 16).with("PREFETCH", 200);
    let mut locking = TestDatabase::of(&place).await;
    let worker = InProcess::start(&settings, Clock::system());
    subscribed(&place, CONSUMING).await;
    locking.execute(LOCK).await;
    publisher.publish(&steps(0..200)).await;
    eventually(DEADLINE, "the worker holds them and waits for the database", async || {
        let waits = rows.count("select count(*) from pg_locks where not granted").await > 0;
        let held = place.broker.depth(LANE_QUEUE) == Some(Depth { ready: 0, unacked: 200 });
        (waits && held).then_some(())
    })
    .await;

    place.broker.delete_queue(LANE_QUEUE);
    eventually(Duration::from_mins(1), "the generation has ended", async || {
        (!place.broker.channels().iter().any(|name| name == CONSUMING)).then_some(())
    })
    .await;
    locking.execute("rollback").await;
    subscribed(&place, CONSUMING).await;
    let messages = steps(240..280);
    assert_eq!(rows.count("select count(*) from command_log").await, 0, "commands were committed");
    publisher.publish(&messages).await;
    // The first steps were lost with their queue, so these are the first: they must succeed.
    assert_done_in_order(&messages, &mut results, &mut rows, DEADLINE).await;
    worker.stop().await;
    assert_nothing_is_left(&place, &["main"]).await;
}

/// Up to 4.2 the broker closes the channel of a consumer that holds deliveries for too long, which
/// returns all of them in order. From 4.3 on it returns only those that are overdue, and another worker
/// overtakes the rest: there the lane's subscription has a longer time than the broker's setting.
#[tokio::test]
async fn deliveries_that_are_held_longer_than_the_broker_likes_keep_their_order() {
    const TIMEOUT: Duration = Duration::from_secs(5);
    let lent = Lent::take().await;
    let set = |name: &str, value: &str| format!("application:set_env(rabbit, {name}, {value}).");
    let milliseconds = TIMEOUT.as_millis().to_string();
    lent.rabbitmq.control(&["eval", &set("consumer_timeout", &milliseconds)]).await;
    lent.rabbitmq.control(&["eval", &set("channel_tick_interval", "1000")]).await;
    let place = Place::on(&lent.servers, "overdue").await;
    let TestEnv { place, settings, mut rows, mut results, publisher } = scene_at(place).await;
    let settings = settings.with("BATCH_SIZE", 64).with("PREFETCH", 256);
    let mut locking = TestDatabase::of(&place).await;
    let mut workers = Vec::new();
    for name in ["first", "second"] {
        workers.push(Process::start(&settings, name));
        subscribed(&place, &format!("partner-program main {name} consuming")).await;
    }
    let messages = steps(0..1500);
    publisher.publish(&messages[..100]).await;
    eventually(DEADLINE, "the first is at work", async || {
        (rows.history_count().await > 0).then_some(())
    })
    .await;
    locking.execute(LOCK).await;
    let since = Instant::now();
    publisher.publish(&messages[100..]).await;
    eventually(DEADLINE, "the broker's patience is over, several times", async || {
        (since.elapsed() > 4 * TIMEOUT).then_some(())
    })
    .await;
    locking.execute("rollback").await;
    assert_done_in_order(&messages, &mut results, &mut rows, DEADLINE).await;
    for mut worker in workers {
        worker.signal("TERM").await;
        assert!(worker.ended().await.success());
    }
    assert_nothing_is_left(&place, &["main"]).await;
    lent.rabbitmq.control(&["eval", &set("consumer_timeout", "1800000")]).await;
    lent.rabbitmq.control(&["eval", &set("channel_tick_interval", "60000")]).await;
}
