//! SIGTERM, and the pause of a lane, while the worker waits for something that does not come: each is
//! obeyed within ten seconds, and afterwards nothing is lost or doubled.

use std::time::{Duration, Instant};

use chrono::Utc;

use super::{DEADLINE, RESULTS_QUEUE};
use crate::harness::collector::Collector;
use crate::harness::database::TestDatabase;
use crate::harness::environment::TestEnv;
use crate::harness::eventually;
use crate::harness::leftovers::assert_nothing_is_left;
use crate::harness::proxy::{Line, Proxy};
use crate::harness::servers::{Lent, Place};
use crate::harness::worker::Process;
use crate::harness::workload::{self, assert_done_in_order, steps};
use crate::model::Model;

/// What operators are promised.
const OBEYED: Duration = Duration::from_secs(10);
/// A pause is looked for once a second, and the machine may be slow.
const NOTICED: Duration = Duration::from_secs(3);
const COMMANDS: usize = 600;
const PAUSE: &str = "insert into lane_pause (lane, actor, reason, source) \
     values ('main', 'somebody', 'a test', 'tests')";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Waits {
    /// For a results queue that is full.
    Full,
    /// For a broker that says nothing.
    Broker,
    /// For a broker that is short of memory.
    Memory,
    /// For a database that says nothing.
    Database,
    /// For a table that is locked.
    Lock,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asks {
    Stop,
    Pause,
}

struct Trouble {
    place: Place,
    rows: TestDatabase,
    database: Proxy,
    broker: Proxy,
    own: Option<Lent>,
}

impl Trouble {
    async fn begin(&mut self, waits: Waits) {
        match waits {
            Waits::Full => self.place.broker.limit_length(RESULTS_QUEUE, 20),
            Waits::Broker => self.broker.set(Line::Dead, Line::Dead),
            Waits::Memory => self.watermark("1MB").await,
            Waits::Database => self.database.set(Line::Dead, Line::Dead),
            Waits::Lock => {
                self.rows.execute("begin; lock table command_log in access exclusive mode").await;
            }
        }
    }

    async fn end(&mut self, waits: Waits) {
        match waits {
            Waits::Full => self.place.broker.lift_limit(),
            Waits::Broker | Waits::Database => {
                for proxy in [&self.database, &self.broker] {
                    proxy.heal();
                    proxy.cut();
                }
            }
            Waits::Memory => self.watermark("1GB").await,
            Waits::Lock => self.rows.execute("rollback").await,
        }
    }

    async fn watermark(&self, limit: &str) {
        let own = self.own.as_ref().expect("on own servers");
        own.rabbitmq.control(&["set_vm_memory_high_watermark", "absolute", limit]).await;
    }
}

/// The lanes share the load.
async fn obeys(name: &str, waits: Waits, asks: Asks, batch: usize, lanes: usize) {
    let own = if waits == Waits::Memory { Some(Lent::take().await) } else { None };
    let place = match &own {
        Some(own) => Place::on(&own.servers, name).await,
        None => Place::new(name).await,
    };
    let model = Model::new(Utc::now(), workload::world());
    let TestEnv { place, settings, rows, mut results, publisher } =
        TestEnv::at(place, &model).await;
    let database = Proxy::before(&place.database_url).await;
    let broker = Proxy::before(&place.amqp_url).await;
    let settings = settings
        .with("DATABASE_URL", database.url())
        .with("AMQP_URL", format!("{}?heartbeat=60", broker.url()))
        // Every wait is longer than what operators are promised.
        .with("DATABASE_TIMEOUT_MS", 120_000)
        .with("CONFIRM_TIMEOUT_MS", 120_000)
        .with("BATCH_SIZE", batch)
        .with("ARCHIVE_DEAD_LETTERS", true);
    let mut rows_of_test = TestDatabase::of(&place).await;
    let mut trouble = Trouble { place, rows, database, broker, own };
    let mut messages = steps(0..COMMANDS);
    // Declared past the lines, which are not spoilt yet.
    let settings = workload::in_lanes(&settings, lanes, &mut messages).await;
    let (first, rest) = messages.split_at(COMMANDS / 6);

    publisher.publish(first).await;
    let mut worker = Process::start(&settings, "first");
    results.read(first.len(), DEADLINE).await;
    results.pause().await;
    if matches!(waits, Waits::Memory | Waits::Broker) {
        // The worker has commands in hand before the broker takes or gives nothing any more.
        trouble.rows.execute("begin; lock table command_log in access exclusive mode").await;
        publisher.publish(rest).await;
        is_stuck(&trouble, &mut rows_of_test, Waits::Lock).await;
        trouble.begin(waits).await;
        trouble.rows.execute("rollback").await;
    } else {
        trouble.begin(waits).await;
        publisher.publish(rest).await;
    }
    is_stuck(&trouble, &mut rows_of_test, waits).await;

    let asked = Instant::now();
    match asks {
        Asks::Stop => {
            worker.signal("TERM").await;
            worker.ended().await;
            assert!(asked.elapsed() < OBEYED, "SIGTERM took {:?}", asked.elapsed());
        }
        Asks::Pause => {
            rows_of_test.execute(PAUSE).await;
            eventually(OBEYED + NOTICED, "the lane is paused", async || {
                worker.words().contains("is stopped until it is resumed").then_some(())
            })
            .await;
        }
    }

    trouble.end(waits).await;
    if asks == Asks::Pause {
        eventually(DEADLINE, "no connection of the paused lane is left", async || {
            let open = trouble.place.broker.connections();
            (!open.iter().any(|(_, given)| given.starts_with("partner-program main"))).then_some(())
        })
        .await;
        rows_of_test
            .execute("update lane_pause set resumed_at = now(), resumed_by = 'somebody'")
            .await;
    } else {
        worker = Process::start(&settings, "second");
    }
    assert_done_in_order(&messages, &mut results, &mut rows_of_test, DEADLINE).await;
    worker.signal("TERM").await;
    assert!(worker.ended().await.success(), "{}", worker.words());
    let Trouble { place, database, broker, .. } = trouble;
    drop((database, broker));
    assert_nothing_is_left(&place, workload::lane_names(lanes)).await;
}

/// Waits until the worker waits.
async fn is_stuck(trouble: &Trouble, rows: &mut TestDatabase, waits: Waits) {
    let lane = "partner-program.commands.main";
    eventually(DEADLINE, "the worker has commands in hand and gets no further", async || {
        let unacked = trouble.place.broker.depth(lane)?.unacked;
        (unacked > 0).then_some(())
    })
    .await;
    match waits {
        Waits::Full | Waits::Memory | Waits::Broker => {
            eventually(DEADLINE, "something is stored that can't be published", async || {
                let stored = rows.count("select count(*) from command_log").await;
                (stored > COMMANDS / 6).then_some(())
            })
            .await;
        }
        Waits::Lock => {
            let waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' \
                 and datname = current_database()";
            eventually(DEADLINE, "the worker waits for the lock", async || {
                (rows.count(waiting).await > 0).then_some(())
            })
            .await;
        }
        Waits::Database => {}
    }
}

macro_rules! stopping {
    ($($name:ident: $waits:ident, $asks:ident, $batch:expr, $lanes:expr;)*) => {
        $(#[tokio::test]
        async fn $name() {
            obeys(stringify!($name), Waits::$waits, Asks::$asks, $batch, $lanes).await;
        })*
    };
}

stopping! {
    a_full_results_queue_holds_up_no_stop: Full, Stop, 16, 2;
    a_full_results_queue_holds_up_no_stop_of_full_batches: Full, Stop, 512, 3;
    a_full_results_queue_holds_up_no_pause: Full, Pause, 1, 1;
    a_silent_broker_holds_up_no_stop: Broker, Stop, 16, 3;
    a_silent_broker_holds_up_no_pause: Broker, Pause, 512, 1;
    a_broker_short_of_memory_holds_up_no_stop: Memory, Stop, 16, 2;
    a_broker_short_of_memory_holds_up_no_pause: Memory, Pause, 16, 1;
    a_silent_database_holds_up_no_stop: Database, Stop, 16, 3;
    a_silent_database_holds_up_no_stop_of_single_commands: Database, Stop, 1, 1;
    a_locked_table_holds_up_no_stop: Lock, Stop, 512, 2;
    a_locked_table_holds_up_no_pause: Lock, Pause, 16, 1;
}

/// A worker that has never reached its servers is stopped as soon.
#[tokio::test]
async fn servers_that_never_answered_hold_up_no_stop() {
    let TestEnv { place, settings, .. } = super::env("never answered").await;
    for dead in ["broker", "database", "both"] {
        let database = Proxy::before(&place.database_url).await;
        let broker = Proxy::before(&place.amqp_url).await;
        if dead != "database" {
            broker.set(Line::Dead, Line::Dead);
        }
        if dead != "broker" {
            database.set(Line::Dead, Line::Dead);
        }
        let settings = settings
            .clone()
            .with("DATABASE_URL", database.url())
            .with("AMQP_URL", broker.url())
            .with("ARCHIVE_DEAD_LETTERS", true);
        let mut worker = Process::start(&settings, dead);
        eventually(DEADLINE, "the worker has started", async || {
            worker.words().contains("starts as").then_some(())
        })
        .await;
        let asked = Instant::now();
        worker.signal("TERM").await;
        worker.ended().await;
        assert!(asked.elapsed() < OBEYED, "{dead}: SIGTERM took {:?}", asked.elapsed());
    }
    drop(Collector::of_queue(&place.amqp_url, RESULTS_QUEUE));
}
