//! One trial: a load, workers, servers behind lines that can be spoilt, and the judgement.

mod end;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use chrono::Utc;
use partner_program_worker::message::Message;

use crate::checker;
use crate::faults::lanes::Lanes;
use crate::faults::letters;
use crate::harness::database::TestDatabase;
use crate::harness::eventually;
use crate::harness::management::Depth;
use crate::harness::proxy::Proxy;
use crate::harness::publisher::Publisher;
use crate::harness::random::seed;
use crate::harness::servers::{Lent, Place};
use crate::harness::subscriber::Subscriber;
use crate::harness::upstream::{Sent, Upstream};
use crate::harness::worker::{Process, Settings};
use crate::harness::workload;
use crate::model::Model;

/// Long enough for backoff, restarts and a slow machine; reached only by a failure.
pub(crate) const DEADLINE: Duration = Duration::from_mins(2);
/// Effects between the start of the load and the fault, and between its end and the judgement.
pub(crate) const SOME: usize = 200;
/// So many commands wait when the first worker starts, that a load lasts.
const QUEUED: usize = 1_500;
/// In batches of the default size they are done four times as fast.
const QUEUED_AT_DEFAULTS: usize = 4 * QUEUED;
pub(crate) const LANE: &str = "main";
/// The broker's figures are up to a second old: it has to say so for longer.
const QUIET: Duration = Duration::from_secs(3);

/// If it is set, trials have batches of the default size, four connections a lane, and two lanes beside
/// the one that is loaded, one of which holds customers.
const DEFAULTS_VARIABLE: &str = "PARTNER_PROGRAM_TEST_DEFAULTS";
/// A memory budget that allows for full batches in each of three lanes.
const FULL_BATCHES_BYTES: u64 = 8 << 30;

/// A command that has to become a dead letter.
pub(crate) struct Doomed {
    pub(crate) lane: usize,
    /// So many steps of its lane are ahead of it, or one more for each doomed one.
    pub(crate) position: usize,
    pub(crate) message: Message,
    /// What its letter's detail has to hold.
    pub(crate) says: String,
}

/// See the module. The fields are there for the faults to spoil.
pub(crate) struct Trial {
    pub(crate) name: String,
    pub(crate) seed: u64,
    pub(crate) place: Place,
    pub(crate) rows: TestDatabase,
    /// Between the workers and Postgres.
    pub(crate) database: Proxy,
    /// Between the workers and RabbitMQ.
    pub(crate) broker: Proxy,
    pub(crate) settings: Settings,
    pub(crate) workers: Vec<Process>,
    /// The commands of the load.
    pub(crate) step: fn(usize) -> Message,
    pub(crate) subscriber: Subscriber,
    upstream: Option<Upstream>,
    /// How many workers were started.
    started: usize,
    /// Commands that have to become dead letters, and what their letters have to say.
    doomed: Vec<(Message, String)>,
    /// The ids of steps that become dead letters and are replayed.
    pub(crate) replayed: BTreeSet<String>,
    /// Where every worker fails that fails nowhere else.
    pub(crate) points: String,
    /// Steps that were queued at once, or that an upstream which was stopped had sent.
    before: usize,
    /// Each of the steps so far went through each of them.
    pub(crate) lanes: Lanes,
    /// Dropped last.
    pub(crate) own: Option<Lent>,
}

impl Trial {
    /// On the shared servers.
    pub(crate) async fn new(name: &str) -> Self {
        Self::at(name, Place::new(name).await, None).await
    }

    /// On servers that it may stop and kill.
    pub(crate) async fn on_own_servers(name: &str) -> Self {
        let own = Lent::take().await;
        let place = Place::on(&own.servers, name).await;
        Self::at(name, place, Some(own)).await
    }

    pub(crate) async fn at(name: &str, place: Place, own: Option<Lent>) -> Self {
        let mut trial = Self::prepare(name, place, own, Lanes::Main).await;
        // Batches so small that a load lasts, and patience so short that a dead line is noticed.
        trial.settings = trial
            .settings
            .with("AMQP_URL", format!("{}?heartbeat=2", trial.broker.url()))
            .with("DATABASE_TIMEOUT_MS", 2_000)
            .with("CONFIRM_TIMEOUT_MS", 2_000);
        if is_at_defaults() {
            trial.settings = trial
                .settings
                .with("LANES", Lanes::Apart.setting())
                .with("CONNECTIONS_PER_LANE", 4)
                .with("MEMORY_BUDGET_BYTES", FULL_BATCHES_BYTES);
            trial.settings.declare().await;
        } else {
            trial.settings = trial.settings.with("BATCH_SIZE", 16);
        }
        trial
    }

    /// On the shared servers, with lanes that the load moves between.
    pub(crate) async fn moving(name: &str) -> Self {
        let mut trial = Self::at(name, Place::new(name).await, None).await;
        trial.lanes = Lanes::Moving;
        trial.settings = trial.settings.with("LANES", Lanes::Moving.setting());
        trial.settings.declare().await;
        trial
    }

    /// On the shared servers, with three lanes and every setting at its default, but for these
    /// connections of each lane and a memory budget that allows for full batches of 512 in each.
    pub(crate) async fn at_defaults(name: &str, connections_per_lane: usize) -> Self {
        let mut trial = Self::prepare(name, Place::new(name).await, None, Lanes::Apart).await;
        trial.settings = trial
            .settings
            .with("CONNECTIONS_PER_LANE", connections_per_lane)
            .with("MEMORY_BUDGET_BYTES", FULL_BATCHES_BYTES);
        trial
    }

    async fn prepare(name: &str, place: Place, own: Option<Lent>, lanes: Lanes) -> Self {
        let database = Proxy::before(&place.database_url).await;
        let broker = Proxy::before(&place.amqp_url).await;
        let settings = Settings::of(&place).with("LANES", lanes.setting());
        settings.declare().await;
        let mut rows = TestDatabase::of(&place).await;
        rows.insert(&Model::new(Utc::now(), lanes.world())).await;
        checker::install(&mut rows).await;
        let subscriber = Subscriber::of_results(&place.amqp_url).await;
        let settings = settings
            .with("DATABASE_URL", database.url())
            .with("AMQP_URL", broker.url())
            .with("ARCHIVE_DEAD_LETTERS", true);
        Self {
            name: name.to_owned(),
            seed: seed(),
            place,
            rows,
            database,
            broker,
            settings,
            workers: Vec::new(),
            step: workload::step,
            subscriber,
            upstream: None,
            started: 0,
            doomed: Vec::new(),
            replayed: BTreeSet::new(),
            points: String::new(),
            before: 0,
            lanes,
            own,
        }
    }

    /// Stops and starts the broker of a trial on own servers.
    pub(crate) async fn restart_broker(&mut self) {
        let own = self.own.as_ref().expect("only own servers may be stopped");
        own.rabbitmq.stop().await;
        own.rabbitmq.start().await;
    }

    /// Starts the load, which has queued up already, and a worker, and waits until both are well
    /// under way.
    pub(crate) async fn begin(&mut self) {
        self.queue_up_with_broken().await;
        self.start_worker("");
        self.resume_load();
        self.progress(SOME).await;
    }

    /// Commands that wait, some of them broken. Once in a trial, while the load is paused.
    pub(crate) async fn queue_up_with_broken(&mut self) {
        let waiting = self.before..self.before + queued();
        let (waiting, broken) = letters::among(waiting.map(self.step).collect());
        self.doomed.extend(broken.into_iter().map(|broken| (broken, String::new())));
        self.queue_up_as(&waiting).await;
    }

    /// Commands that wait. While the load is paused.
    pub(crate) async fn queue_up(&mut self) {
        let waiting = self.before..self.before + queued();
        self.queue_up_as(&waiting.map(self.step).collect::<Vec<_>>()).await;
    }

    async fn queue_up_as(&mut self, first_lane: &[Message]) {
        let publisher = Publisher::open(&self.place.amqp_url).await;
        publisher.publish(first_lane).await;
        let waiting = self.before..self.before + queued();
        for lane in 1..self.lanes.names().len() {
            let steps: Vec<Message> =
                waiting.clone().map(|number| self.lanes.step(lane, number)).collect();
            publisher.publish(&steps).await;
        }
        self.before += queued();
    }

    /// Of each lane so many commands that wait, and the doomed at their positions in their lanes.
    /// Once in a trial, while the load is paused.
    pub(crate) async fn queue_up_with_doomed(&mut self, steps: usize, doomed: &[Doomed]) {
        let publisher = Publisher::open(&self.place.amqp_url).await;
        for lane in 0..self.lanes.names().len() {
            let mut messages: Vec<Message> =
                (0..steps).map(|number| self.lanes.step(lane, number)).collect();
            for doomed in doomed.iter().filter(|doomed| doomed.lane == lane) {
                messages.insert(doomed.position, doomed.message.clone());
            }
            publisher.publish(&messages).await;
        }
        let doomed = doomed.iter().map(|doomed| (doomed.message.clone(), doomed.says.clone()));
        self.doomed.extend(doomed);
        self.before += steps;
    }

    /// From the start: a second lane for the same customers. What is queued up goes through both.
    pub(crate) async fn add_second_lane(&mut self) {
        self.lanes = Lanes::Sharing;
        self.settings = self.settings.clone().with("LANES", self.lanes.setting());
        self.settings.declare().await;
    }

    /// A further worker, which fails where `points` says.
    pub(crate) fn start_worker(&mut self, points: &str) {
        self.started += 1;
        let name = format!("worker-{}", self.started);
        let points = if points.is_empty() { &self.points } else { points };
        let settings = self.settings.clone().failing(points);
        self.workers.push(Process::start(&settings, &name));
    }

    pub(crate) fn resume_load(&mut self) {
        let (before, step) = (self.before, self.step);
        let url = &self.place.amqp_url;
        self.upstream = Some(Upstream::start(url, self.seed, move |number| step(before + number)));
    }

    /// Returns when all that was sent is confirmed.
    pub(crate) async fn pause_load(&mut self) {
        if let Some(upstream) = self.upstream.take() {
            let Sent { confirmed, .. } = upstream.stop().await;
            self.before += confirmed;
        }
    }

    /// Sends a command that must end as a dead letter, in the middle of the load.
    pub(crate) async fn send_doomed(&mut self, message: Message) {
        Publisher::open(&self.place.amqp_url).await.publish(std::slice::from_ref(&message)).await;
        self.doomed.push((message, String::new()));
    }

    /// Waits until the latest worker has died.
    pub(crate) async fn bury(&mut self) {
        let mut dying = self.workers.pop().expect("one was started");
        eventually(DEADLINE, "the worker dies", async || (!dying.is_running()).then_some(())).await;
    }

    /// Waits until so many effects more than now are in the database.
    pub(crate) async fn progress(&mut self, more: usize) {
        let before = self.rows.history_count().await;
        let rows = &mut self.rows;
        eventually(DEADLINE, "the workers get on", async || {
            (rows.history_count().await >= before + more).then_some(())
        })
        .await;
    }

    /// The worker that has the lane.
    pub(crate) async fn active(&mut self) -> usize {
        let holder = self.rows.holder(LANE).await.unwrap_or_default();
        self.workers.iter().position(|worker| worker.name == holder).unwrap_or_default()
    }

    /// Waits until the lane is empty.
    pub(crate) async fn drained(&mut self) -> bool {
        let mut empty_since: Option<Instant> = None;
        let end = Instant::now() + DEADLINE;
        let expected = self.expected();
        loop {
            let answered = expected <= self.answered();
            let empty = self.lanes.all().iter().all(|lane| {
                let queue = format!("partner-program.commands.{lane}");
                let depth = self.place.broker.depth(&queue);
                // A lane that commands move to later has no queue yet.
                depth == Some(Depth::default()) || (depth.is_none() && *lane != LANE)
            });
            if empty && answered {
                return true;
            }
            let since = *empty_since.get_or_insert_with(Instant::now);
            if !empty {
                empty_since = None;
            } else if since.elapsed() > QUIET {
                return true;
            }
            if Instant::now() > end {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn expected(&self) -> usize {
        self.before * self.lanes.names().len() + self.doomed.len() + self.replayed.len()
    }

    /// How many commands have no answer so far.
    pub(crate) fn unheard(&self) -> usize {
        self.expected().saturating_sub(self.answered())
    }

    fn answered(&self) -> usize {
        self.subscriber.look(|heard| {
            heard.iter().map(|heard| &heard.event.message_id).collect::<BTreeSet<_>>().len()
        })
    }
}

fn id(message: &Message) -> String {
    message.properties.message_id.clone().expect("the suite's commands have ids")
}

fn is_at_defaults() -> bool {
    std::env::var_os(DEFAULTS_VARIABLE).is_some()
}

fn queued() -> usize {
    if is_at_defaults() { QUEUED_AT_DEFAULTS } else { QUEUED }
}
