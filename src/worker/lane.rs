//! One lane: takes windows off its queue and settles them, generation after generation.
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
use crate::clock::Clock;
use crate::config::Config;
use crate::retry::Backoff;
use crate::store::fence::Owner;
use crate::store::session::Session;
use crate::worker::Error;
use crate::worker::Places;
use crate::worker::announce::{Announcement, Announcer};
use crate::worker::attempts;
use crate::worker::connect::Connected;
use crate::worker::counters::Counters;
use crate::worker::drain;
use crate::worker::executor::Executor;
use crate::worker::fault::Fault;
use crate::worker::followers;
use crate::worker::hands::Hands;
use crate::worker::health::State;
use crate::worker::holding::Holds;
use crate::worker::intake;
use crate::worker::losses::Losses;
use crate::worker::outgoing::Speaker;
use crate::worker::permit::Permits;
use crate::worker::publishing::{self, Kept};
use crate::worker::replies;
use crate::worker::routing::LaneRouting;
use crate::worker::scout::{Scout, Scouted};
use crate::worker::tenure;

/// The first and the longest pause between generations.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// The pauses after generations that subscribed and got nothing done. They grow long, because
/// each closed channel counts against the broker's delivery limit for everything it held.
const PAUSE_WITHOUT_PROGRESS: (Duration, Duration) =
    (Duration::from_secs(1), Duration::from_mins(5));
/// A generation that lived this long ended by something new: an idle one makes no progress.
const LONG_LIVED: Duration = Duration::from_mins(10);
/// Settled windows that may wait for the announcer: one, while it is busy with another.
const ANNOUNCEMENTS_WAITING: usize = 1;
/// Windows that wait to be settled, looked at already.
const WINDOWS_WAITING: usize = 1;
/// How often a busy lane says in the log what it has done.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);
/// How often an idle lane shows that its loop turns.
const TURN_INTERVAL: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Lane {
    pub(super) name: String,
    pub(super) config: Arc<Config>,
    pub(super) places: Arc<Places>,
    pub(super) clock: Clock,
    pub(super) counters: Arc<Counters>,
    permits: Arc<Permits>,
    pub(super) speaker: Speaker,
    losses: Losses,
    /// What the last generation could not publish.
    pub(super) unpublished: Kept,
}

impl Lane {
    pub(super) fn new(
        name: String,
        config: Arc<Config>,
        places: Arc<Places>,
        clock: Clock,
        counters: Arc<Counters>,
        permits: Arc<Permits>,
    ) -> Self {
        let speaker = Speaker {
            lane: name.clone(),
            worker: config.worker_id.clone(),
            letter_user: config.letter_user(),
            clock: clock.clone(),
            counters: Arc::clone(&counters),
        };
        let losses = Losses::of(name.clone(), Arc::clone(&counters));
        let unpublished = Kept::default();
        Self { name, config, places, clock, counters, permits, speaker, losses, unpublished }
    }

    /// Works until `shutdown`, then drains. Only a database that may lose what it has committed, or
    /// that this program is too old for, ends it before.
    pub(super) async fn run(&self, shutdown: CancellationToken) -> Result<(), Error> {
        let mut pause = Backoff::new(PAUSE.0, PAUSE.1);
        let mut longer_pause = Backoff::new(PAUSE_WITHOUT_PROGRESS.0, PAUSE_WITHOUT_PROGRESS.1);
        while !shutdown.is_cancelled() {
            let subscribed = Counters::get(&self.counters.subscribed);
            let acked_windows = Counters::get(&self.counters.acked_windows);
            let began = Instant::now();
            let ended = tokio::select! {
                ended = self.generation(&shutdown) => ended,
                () = drain::stalled(&shutdown, &self.counters) => {
                    self.counters.in_hand.clear();
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
            if matches!(fault, Fault::NotDurable) {
                return Err(Error::NotDurable(fault.to_string()));
            }
            if matches!(fault, Fault::ProgramTooOld(_)) {
                return Err(Error::ProgramTooOld(fault.to_string()));
            }
            let has_subscribed = Counters::get(&self.counters.subscribed) > subscribed;
            let made_progress = Counters::get(&self.counters.acked_windows) > acked_windows;
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
    fn note(&self, fault: &Fault, delay: Duration) {
        let (lane, delay) = (&self.name, delay.as_secs_f64());
        self.counters.health.enter(State::Connecting);
        self.counters.health.fail(fault);
        if matches!(fault, Fault::TaskStopped { .. }) {
            Counters::add(&self.counters.task_restarts, 1);
            tracing::error!(lane, "lane `{lane}` reconnects in {delay:.1} s: {fault}");
        } else {
            tracing::warn!(lane, "lane `{lane}` reconnects in {delay:.1} s: {fault}");
        }
    }

    async fn generation(&self, shutdown: &CancellationToken) -> Result<(), Fault> {
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
        let (announcement_sender, announcements) = mpsc::channel(ANNOUNCEMENTS_WAITING);
        let intake = AbortOnDropHandle::new(tokio::spawn(intake::run(
            consumer,
            Arc::clone(&self.counters),
            delivered_sender,
            stop.clone(),
        )));
        let (replying, replies) =
            replies::Sending::start(&self.places.amqp_url, &self.connection_name(), &self.losses);
        let announcer = Announcer {
            lane: self.name.clone(),
            grace: publishing::GRACE.min(Duration::from_millis(self.config.outage_grace_ms)),
            publisher,
            topology: routing.topology.clone(),
            acknowledger,
            replies,
            counters: Arc::clone(&self.counters),
            too_large_bytes: None,
        };
        let mut announcer = AbortOnDropHandle::new(tokio::spawn(announcer.run(announcements)));
        let (window_sender, windows) = mpsc::channel(WINDOWS_WAITING);
        let wanted = Arc::new(Notify::new());
        let scout = Scout {
            config: Arc::clone(&self.config),
            session: session.another(),
            routing: Arc::clone(&routing),
            priority: self.priority_check(consuming.server()),
            wanted: Arc::clone(&wanted),
        };
        let mut scout = AbortOnDropHandle::new(tokio::spawn(scout.run(delivered, window_sender)));

        let ended = tokio::select! {
            worked = self.windows(session, &routing, &channel, (windows, &wanted), announcement_sender, &stop) => worked,
            ended = &mut announcer => Err(Fault::of_ended("publisher", ended)),
            () = replying.ended_early() => {
                Err(Fault::TaskStopped { task: "replies", why: "see the panic above".into() })
            }
            lost = consuming.closed() => Err(lost.into()),
            lost = publishing.closed() => Err(lost.into()),
        };
        // Dropping the sender lets the announcer finish what it has; `windows` has dropped it.
        let was_asked_to_stop = stop.is_cancelled();
        stop.cancel();
        let drained = match ended {
            Ok(()) => match health.turn_during(&mut announcer).await {
                Ok(ended) => ended,
                Err(panic) => Err(Fault::of_panic("publisher", &panic)),
            },
            Err(fault) => {
                announcer.abort();
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
            Err(panic) => Err(Fault::of_panic("receiver", &panic)),
        };
        // A look that is under way may wait for the database: the next generation does not.
        scout.abort();
        let looking = match (&mut scout).await {
            Err(ended) if ended.is_cancelled() => Ok(()),
            Ok(()) if was_asked_to_stop => Ok(()),
            Ok(()) => Err(Fault::TaskStopped {
                task: "look-ahead",
                why: "it ended although deliveries may come".into(),
            }),
            Err(panic) => Err(Fault::of_panic("look-ahead", &panic)),
        };
        self.counters.in_hand.clear();
        let (mut session, process) = (self.session(), self.permits.process);
        let taking_back = attempts::take_back(&mut session, &self.name, process);
        tokio::join!(publishing.close(), consuming.close(), taking_back);
        drained.and(taking).and(looking)
    }

    fn session(&self) -> Session {
        let url = self.places.database_url.clone();
        Session::new(url, self.connection_name(), self.config.database_timeout())
    }

    /// How the lane's connections are called in the listings of both servers.
    pub(super) fn connection_name(&self) -> String {
        format!("partner-program {} {}", self.name, self.config.worker_id)
    }

    /// Settles windows until `stop` or until nothing more is taken.
    async fn windows(
        &self,
        session: Session,
        routing: &LaneRouting,
        channel: &Acknowledger,
        (mut windows, wanted): (mpsc::Receiver<Scouted>, &Notify),
        announcements: mpsc::Sender<Announcement>,
        stop: &CancellationToken,
    ) -> Result<(), Fault> {
        let mut reported = Instant::now();
        let mut session = Some(session);
        let mut hands: Option<Hands> = None;
        loop {
            if windows.is_empty() {
                wanted.notify_one();
            }
            let window = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                // None: the intake has ended, and its own fault is the one to report.
                window = windows.recv() => match window {
                    Some(window) => Some(window),
                    None => return Ok(()),
                },
                () = tokio::time::sleep(TURN_INTERVAL) => None,
            };
            self.counters.health.turn();
            if window.is_none() && !self.holds().is_here() {
                continue;
            }
            if window.is_none()
                && let Some(session) = &mut session
                && !followers::wait_unnoticed(session, &self.name).await
            {
                continue;
            }
            let is_first = session.is_some();
            if let Some(session) = session.take() {
                let taking = Box::pin(self.take(session, routing, channel, stop));
                hands = Some(self.counters.health.turn_during(taking).await?);
                self.counters.health.enter(State::Active);
            }
            let Some(hands) = &mut hands else { return Ok(()) };
            if is_first || self.holds().is_here() {
                followers::apply(self, hands, &announcements, is_first).await?;
                // It may have ended early, and what it has left comes before the window.
                if stop.is_cancelled() {
                    return Ok(());
                }
            }
            let Some(window) = window.map(Arc::new) else { continue };
            let ack_through = window.taken.last().map(|last| last.tag);
            let settled = hands.settle(&window).await?;
            let lane_epoch = hands.first().fence.epoch;
            hands.conclude(&window, &settled, routing).await?;
            let outgoing = self.speaker.outgoing(&window.taken, settled, lane_epoch);
            let arrivals = window.taken.iter().map(|taken| taken.arrived_at).collect();
            let announcement = Announcement { outgoing, arrivals, ack_through, confirmed: None };
            if self.counters.health.turn_during(announcements.send(announcement)).await.is_err() {
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
    ) -> Result<Hands, Fault> {
        let hold = Duration::from_millis(self.config.outage_grace_ms);
        let owner = Owner { worker: &self.config.worker_id, process: Some(self.permits.process) };
        let fence = tenure::take(&mut session, &self.name, owner, channel, hold, shutdown).await?;
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
        Ok(Hands::of(executor(session), others.into_iter().map(executor).collect()))
    }

    /// Where dead letters hold their customers.
    pub(super) fn holds(&self) -> Holds {
        Holds::of(&self.config, &self.name)
    }

    fn report(&self, what: &str) {
        let Counters {
            applied,
            duplicates,
            rejected,
            parked,
            repeated_windows,
            unroutable_results,
            ..
        } = &*self.counters;
        tracing::info!(
            lane = self.name,
            applied = Counters::get(applied),
            duplicates = Counters::get(duplicates),
            rejected = Counters::get(rejected),
            parked = Counters::get(parked),
            repeated_windows = Counters::get(repeated_windows),
            unroutable_results = Counters::get(unroutable_results),
            "{what}: {}",
            self.name
        );
    }
}
