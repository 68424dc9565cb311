//! One lane: takes batches off its queue and settles them, generation after generation.
//!
//! A generation is one set of connections and channels. Any fault ends it whole; the next one
//! waits for the database first, because each closed channel counts against the broker's
//! delivery limit for everything it held.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::broker::consumer::Acknowledger;
use crate::retry::Backoff;
use crate::store::fence::Owner;
use crate::store::session::Session;
use crate::worker::counters::Counters;
use crate::worker::counters::PUBLISHING_GRACE;
use crate::worker::drain;
use crate::worker::error::Error;
use crate::worker::health::State;
use crate::worker::hold::unpark;
use crate::worker::lane::acquire;
use crate::worker::lane::attempts;
use crate::worker::lane::connect::Connected;
use crate::worker::lane::context::Lane;
use crate::worker::lane::direct_reply;
use crate::worker::lane::error::GenerationError;
use crate::worker::lane::executor::Executor;
use crate::worker::lane::executors::Executors;
use crate::worker::lane::look_ahead::{LookAhead, PlannedBatch};
use crate::worker::lane::publish::{ProcessedBatch, ResultPublisher};
use crate::worker::lane::receive;
use crate::worker::lane::routing::LaneRouting;

/// The first and the longest pause between generations.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// The pauses after generations that subscribed and got nothing done. They grow long, because
/// each closed channel counts against the broker's delivery limit for everything it held.
const PAUSE_WITHOUT_PROGRESS: (Duration, Duration) =
    (Duration::from_secs(1), Duration::from_mins(5));
/// A generation that lived this long ended by something new: an idle one makes no progress.
const LONG_LIVED: Duration = Duration::from_mins(10);
/// Settled batches that may wait for the announcer: one, while it is busy with another.
const ANNOUNCEMENTS_WAITING: usize = 1;
/// Batches that wait to be settled, looked at already.
const BATCHES_WAITING: usize = 1;
/// How often a busy lane says in the log what it has done.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);
/// How often an idle lane shows that its loop turns.
const TURN_INTERVAL: Duration = Duration::from_secs(1);

impl Lane {
    /// Works until `shutdown`, then drains. Only a database that may lose what it has committed, or
    /// that this program is too old for, ends it before.
    pub(crate) async fn run(&self, shutdown: CancellationToken) -> Result<(), Error> {
        let mut pause = Backoff::new(PAUSE.0, PAUSE.1);
        let mut longer_pause = Backoff::new(PAUSE_WITHOUT_PROGRESS.0, PAUSE_WITHOUT_PROGRESS.1);
        while !shutdown.is_cancelled() {
            let subscribed = Counters::get(&self.counters.subscribed);
            let acked_batches = Counters::get(&self.counters.acked_batches);
            let began = Instant::now();
            let ended = tokio::select! {
                ended = self.generation(&shutdown) => ended,
                () = drain::stalled(&shutdown, &self.counters) => {
                    self.counters.in_flight.clear();
                    tracing::warn!(
                        lane = self.name,
                        "lane {} makes no progress while it stops; it is aborted, and its unacked commands are redelivered",
                        self.name
                    );
                    break;
                }
            };
            let Err(fault) = ended else { break };
            self.unpublished.keep(&fault);
            if matches!(fault, GenerationError::NotDurable) {
                return Err(Error::NotDurable(fault.to_string()));
            }
            if matches!(fault, GenerationError::ProgramTooOld(_)) {
                return Err(Error::ProgramTooOld(fault.to_string()));
            }
            let has_subscribed = Counters::get(&self.counters.subscribed) > subscribed;
            let made_progress = Counters::get(&self.counters.acked_batches) > acked_batches;
            if made_progress || began.elapsed() > LONG_LIVED {
                pause.reset();
                longer_pause.reset();
            }
            let pause =
                if has_subscribed && !made_progress { &mut longer_pause } else { &mut pause };
            let delay = pause.next_delay();
            self.note(&fault, delay);
            tokio::select! {
                () = self.counters.health.turn_during(tokio::time::sleep(delay)) => {}
                () = shutdown.cancelled() => {}
            }
        }
        self.report("lane stopped");
        Ok(())
    }

    /// Logs why a generation ended and when the next one begins.
    fn note(&self, fault: &GenerationError, delay: Duration) {
        let (lane, delay) = (&self.name, delay.as_secs_f64());
        self.counters.health.enter(State::Connecting);
        self.counters.health.fail(fault);
        if matches!(fault, GenerationError::TaskStopped { .. }) {
            Counters::add(&self.counters.task_restarts, 1);
            tracing::error!(lane, "lane `{lane}` reconnects in {delay:.1} s: {fault}");
        } else {
            tracing::warn!(lane, "lane `{lane}` reconnects in {delay:.1} s: {fault}");
        }
    }

    async fn generation(&self, shutdown: &CancellationToken) -> Result<(), GenerationError> {
        let health = &self.counters.health;
        let mut session = self.session();
        tokio::select! {
            checked = health.turn_during(self.check_database(&mut session)) => checked?,
            () = shutdown.cancelled() => return Ok(()),
        }
        let routing = tokio::select! {
            routing = health.turn_during(self.wait_for_routing(&mut session)) => routing?,
            () = shutdown.cancelled() => return Ok(()),
        };
        let connecting = self.connect(&mut session, &routing.topology);
        let connected = tokio::select! {
            connected = health.turn_during(connecting) => connected?,
            () = shutdown.cancelled() => return Ok(()),
        };
        health.enter(State::StandingBy);
        health.recover();
        let Connected { consuming, publishing, consumer, publisher } = connected;

        // Ends the intake when this generation ends, for whatever reason.
        let stop = shutdown.child_token();
        let acknowledger = consumer.acknowledger();
        let channel = acknowledger.clone();
        let (delivered_sender, delivered) = mpsc::channel(usize::from(self.config.prefetch));
        let (processed_sender, processed_batches) = mpsc::channel(ANNOUNCEMENTS_WAITING);
        let intake = AbortOnDropHandle::new(tokio::spawn(receive::run(
            consumer,
            Arc::clone(&self.counters),
            delivered_sender,
            stop.clone(),
        )));
        let (replying, replies) = direct_reply::Sending::start(
            &self.urls.amqp_url,
            &self.connection_name(),
            &self.lost_replies,
        );
        let result_publisher = ResultPublisher {
            lane: self.name.clone(),
            grace: PUBLISHING_GRACE.min(Duration::from_millis(self.config.outage_grace_ms)),
            publisher,
            topology: routing.topology.clone(),
            acknowledger,
            replies,
            counters: Arc::clone(&self.counters),
            too_large_bytes: None,
        };
        let mut result_publisher =
            AbortOnDropHandle::new(tokio::spawn(result_publisher.run(processed_batches)));
        let (batch_sender, batches) = mpsc::channel(BATCHES_WAITING);
        let wanted = Arc::new(Notify::new());
        let look_ahead = LookAhead {
            config: Arc::clone(&self.config),
            session: session.another(),
            routing: Arc::clone(&routing),
            priority: self.priority_check(consuming.server()),
            wanted: Arc::clone(&wanted),
        };
        let mut look_ahead =
            AbortOnDropHandle::new(tokio::spawn(look_ahead.run(delivered, batch_sender)));

        let ended = tokio::select! {
            worked = self.process_batches(session, &routing, &channel, (batches, &wanted), processed_sender, &stop) => worked,
            ended = &mut result_publisher => Err(GenerationError::of_ended("publisher", ended)),
            () = replying.ended_early() => {
                Err(GenerationError::TaskStopped { task: "replies", why: "see the panic above".into() })
            }
            lost = consuming.closed() => Err(lost.into()),
            lost = publishing.closed() => Err(lost.into()),
        };
        // Dropping the sender lets the announcer finish what it has; `batches` has dropped it.
        let was_asked_to_stop = stop.is_cancelled();
        stop.cancel();
        let drained = match ended {
            Ok(()) => match health.turn_during(&mut result_publisher).await {
                Ok(ended) => ended,
                Err(panic) => Err(GenerationError::of_panic("publisher", &panic)),
            },
            Err(fault) => {
                result_publisher.abort();
                Err(fault)
            }
        };
        replying.finish().await;
        // The channel is closed, not the consumer cancelled: only so does the broker hand the
        // unacked over in order. It stays open until here because acks need it.
        let taking = match intake.await {
            Ok(Ok(consumer)) => {
                consumer.close().await;
                Ok(())
            }
            Ok(Err(lost)) => Err(lost.into()),
            Err(panic) => Err(GenerationError::of_panic("receiver", &panic)),
        };
        // A look that is under way may wait for the database: the next generation does not.
        look_ahead.abort();
        let looking = match (&mut look_ahead).await {
            Err(ended) if ended.is_cancelled() => Ok(()),
            Ok(()) if was_asked_to_stop => Ok(()),
            Ok(()) => Err(GenerationError::TaskStopped {
                task: "look-ahead",
                why: "it ended although deliveries may come".into(),
            }),
            Err(panic) => Err(GenerationError::of_panic("look-ahead", &panic)),
        };
        self.counters.in_flight.clear();
        let (mut session, process) = (self.session(), self.permits.process);
        let taking_back = attempts::take_back(&mut session, &self.name, process);
        tokio::join!(publishing.close(), consuming.close(), taking_back);
        drained.and(taking).and(looking)
    }

    /// Settles batches until `stop` or until nothing more is delivery.
    async fn process_batches(
        &self,
        session: Session,
        routing: &LaneRouting,
        channel: &Acknowledger,
        (mut batches, wanted): (mpsc::Receiver<PlannedBatch>, &Notify),
        processed_batches: mpsc::Sender<ProcessedBatch>,
        stop: &CancellationToken,
    ) -> Result<(), GenerationError> {
        let mut reported = Instant::now();
        let mut session = Some(session);
        let mut executors: Option<Executors> = None;
        loop {
            if batches.is_empty() {
                wanted.notify_one();
            }
            let batch = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                // None: the intake has ended, and its own fault is the one to report.
                batch = batches.recv() => match batch {
                    Some(batch) => Some(batch),
                    None => return Ok(()),
                },
                () = tokio::time::sleep(TURN_INTERVAL) => None,
            };
            self.counters.health.turn();
            if batch.is_none() && !self.holds().is_here() {
                continue;
            }
            if batch.is_none()
                && let Some(session) = &mut session
                && !unpark::wait_unnoticed(session, &self.name).await
            {
                continue;
            }
            let is_first = session.is_some();
            if let Some(session) = session.take() {
                let taking = Box::pin(self.take(session, routing, channel, stop));
                executors = Some(self.counters.health.turn_during(taking).await?);
                self.counters.health.enter(State::Active);
            }
            let Some(executors) = &mut executors else { return Ok(()) };
            if is_first || self.holds().is_here() {
                unpark::apply(self, executors, &processed_batches, is_first).await?;
                // It may have ended early, and what it has left comes before the batch.
                if stop.is_cancelled() {
                    return Ok(());
                }
            }
            let Some(batch) = batch.map(Arc::new) else { continue };
            let ack_through = batch.deliveries.last().map(|last| last.tag);
            let settled = executors.settle(&batch).await?;
            let lane_epoch = executors.first().fence.epoch;
            executors.conclude(&batch, &settled, routing).await?;
            let outgoing = self.message_builder.outgoing(&batch.deliveries, settled, lane_epoch);
            let arrivals = batch.deliveries.iter().map(|delivery| delivery.arrived_at).collect();
            let processed = ProcessedBatch { outgoing, arrivals, ack_through, confirmed: None };
            if self.counters.health.turn_during(processed_batches.send(processed)).await.is_err() {
                // The announcer has failed, and its own fault is the one to report.
                std::future::pending::<()>().await;
            }
            if reported.elapsed() > REPORT_INTERVAL {
                reported = Instant::now();
                self.report("lane working");
            }
        }
    }

    /// Takes the lane, which only the one who was delivered something may.
    async fn take(
        &self,
        mut session: Session,
        routing: &LaneRouting,
        channel: &Acknowledger,
        shutdown: &CancellationToken,
    ) -> Result<Executors, GenerationError> {
        let hold = Duration::from_millis(self.config.outage_grace_ms);
        let owner = Owner { worker: &self.config.worker_id, process: Some(self.permits.process) };
        let fence = acquire::take(&mut session, &self.name, owner, channel, hold, shutdown).await?;
        routing.check_version(&mut session).await?;
        let others: Vec<Session> =
            (1..self.config.connections_per_lane).map(|_| session.another()).collect();
        let executor = |session| Executor {
            lane: self.name.clone(),
            config: Arc::clone(&self.config),
            clock: self.clock.clone(),
            counters: Arc::clone(&self.counters),
            permits: Arc::clone(&self.permits),
            session,
            fence: fence.clone(),
            shutdown: shutdown.clone(),
            holds: self.holds(),
        };
        Ok(Executors::of(executor(session), others.into_iter().map(executor).collect()))
    }

    fn report(&self, what: &str) {
        let Counters {
            applied,
            duplicates,
            rejected,
            parked,
            repeated_batches,
            unroutable_results,
            ..
        } = &*self.counters;
        tracing::info!(
            lane = self.name,
            applied = Counters::get(applied),
            duplicates = Counters::get(duplicates),
            rejected = Counters::get(rejected),
            parked = Counters::get(parked),
            repeated_batches = Counters::get(repeated_batches),
            unroutable_results = Counters::get(unroutable_results),
            "{what}: {}",
            self.name
        );
    }
}
