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

use crate::broker::connection::Connection;
use crate::broker::consumer::{Acknowledger, Consumer};
use crate::broker::publisher::Publisher;
use crate::broker::topology::{self, Topology};
use crate::clock::Clock;
use crate::config::{AfterDeadLetter, Config};
use crate::retry::Backoff;
use crate::store::session::Session;
use crate::worker::Error;
use crate::worker::Places;
use crate::worker::announce::{Announcement, Announcer};
use crate::worker::counters::Counters;
use crate::worker::direct_reply;
use crate::worker::fault::Fault;
use crate::worker::followers;
use crate::worker::hands::Hands;
use crate::worker::intake;
use crate::worker::isolate::Isolation;
use crate::worker::outgoing::Speaker;
use crate::worker::preflight;
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

/// See the module.
pub(super) struct Lane {
    pub(super) name: String,
    pub(super) config: Arc<Config>,
    places: Arc<Places>,
    clock: Clock,
    counters: Arc<Counters>,
    pub(super) speaker: Speaker,
}

impl Lane {
    pub(super) fn new(
        name: String,
        config: Arc<Config>,
        places: Arc<Places>,
        clock: Clock,
        counters: Arc<Counters>,
    ) -> Self {
        let speaker = Speaker {
            lane: name.clone(),
            worker: config.worker_id.clone(),
            clock: clock.clone(),
            counters: Arc::clone(&counters),
        };
        Self { name, config, places, clock, counters, speaker }
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
            let Err(fault) = self.generation(&shutdown).await else { break };
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
            tracing::warn!(lane = self.name, "lane {} starts over: {fault}", self.name);
            let pause =
                if has_subscribed && !made_progress { &mut longer_pause } else { &mut pause };
            tokio::select! {
                () = pause.wait() => {}
                () = shutdown.cancelled() => {}
            }
        }
        self.report("lane stopped");
        Ok(())
    }

    async fn generation(&self, shutdown: &CancellationToken) -> Result<(), Fault> {
        let mut session = self.session();
        tokio::select! {
            checked = preflight::check(&mut session) => checked?,
            () = shutdown.cancelled() => return Ok(()),
        }
        let connected = tokio::select! {
            connected = self.connect() => connected?,
            () = shutdown.cancelled() => return Ok(()),
        };
        let Connected { consuming, publishing, consumer, publisher } = connected;

        // Ends the intake when this generation ends, for whatever reason.
        let stop = shutdown.child_token();
        let acknowledger = consumer.acknowledger();
        let channel = acknowledger.clone();
        let (taken_sender, taken) = mpsc::channel(usize::from(self.config.prefetch));
        let (announcement_sender, announcements) = mpsc::channel(ANNOUNCEMENTS_WAITING);
        let intake = AbortOnDropHandle::new(tokio::spawn(intake::run(
            consumer,
            Arc::clone(&self.config),
            Arc::clone(&self.counters),
            taken_sender,
            stop.clone(),
        )));
        let (replying, direct_replies) =
            direct_reply::Sender::start(self.places.amqp_url.clone(), &self.connection_name());
        let announcer = Announcer {
            lane: self.name.clone(),
            hold: Duration::from_millis(self.config.hold_ms),
            publisher,
            acknowledger,
            direct_replies,
            counters: Arc::clone(&self.counters),
        };
        let mut announcer = AbortOnDropHandle::new(tokio::spawn(announcer.run(announcements)));
        let (window_sender, windows) = mpsc::channel(WINDOWS_WAITING);
        let wanted = Arc::new(Notify::new());
        let scout = Scout {
            config: Arc::clone(&self.config),
            session: session.another(),
            wanted: Arc::clone(&wanted),
        };
        let _scout = AbortOnDropHandle::new(tokio::spawn(scout.run(taken, window_sender)));

        let ended = tokio::select! {
            worked = self.windows(session, &channel, (windows, &wanted), announcement_sender, &stop) => worked,
            ended = &mut announcer => Err(unexpected(ended)),
            lost = consuming.closed() => Err(lost.into()),
            lost = publishing.closed() => Err(lost.into()),
        };
        // Dropping the sender lets the announcer finish what it has; `windows` has dropped it.
        stop.cancel();
        let drained = match ended {
            Ok(()) => match (&mut announcer).await {
                Ok(ended) => ended,
                Err(panic) => Err(Fault::TaskStopped(panic.to_string())),
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
            Err(panic) => Err(Fault::TaskStopped(panic.to_string())),
        };
        self.counters.in_hand.clear();
        tokio::join!(publishing.close(), consuming.close());
        drained.and(taking)
    }

    fn session(&self) -> Session {
        let url = self.places.database_url.clone();
        Session::new(url, self.connection_name(), self.config.database_timeout())
    }

    /// How the lane's connections are called in the listings of both servers.
    fn connection_name(&self) -> String {
        format!("partner-program {} {}", self.name, self.config.worker_id)
    }

    async fn connect(&self) -> Result<Connected, Fault> {
        let name = self.connection_name();
        let url = &self.places.amqp_url;
        let consuming = Connection::open(url, &format!("{name} consuming")).await?;
        let publishing = Arc::new(Connection::open(url, &format!("{name} publishing")).await?);
        let lanes = self.config.lanes.iter().map(|lane| topology::Lane {
            name: lane.name.clone(),
            bindings: lane.bindings.clone(),
        });
        let topology = Topology { lanes: lanes.collect() };
        topology::ensure(&publishing, &topology).await?;
        let publisher = Publisher::open(&publishing, self.config.confirm_timeout()).await?;
        let queue = topology::lane_queue(&self.name);
        let consumer =
            Consumer::subscribe(&consuming, &queue, self.config.prefetch, &self.config.worker_id)
                .await?;
        Counters::add(&self.counters.subscribed, 1);
        tracing::info!(lane = self.name, "subscribed to {queue}");
        Ok(Connected { consuming, publishing, consumer, publisher })
    }

    /// Settles windows until `stop` or until nothing more is taken.
    async fn windows(
        &self,
        session: Session,
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
                () = tokio::time::sleep(followers::LOOK_INTERVAL), if self.parked_max().is_some() => None,
            };
            if window.is_none()
                && let Some(session) = &mut session
                && !followers::wait_unnoticed(session, &self.name).await
            {
                continue;
            }
            let is_first = session.is_some();
            if let Some(session) = session.take() {
                hands = Some(self.take(session, channel, stop).await?);
            }
            let Some(hands) = &mut hands else { return Ok(()) };
            if is_first || self.parked_max().is_some() {
                followers::apply(self, hands, &announcements, is_first).await?;
                // It may have ended early, and what it has left comes before the window.
                if stop.is_cancelled() {
                    return Ok(());
                }
            }
            let Some(window) = window.map(Arc::new) else { continue };
            let ack_through = window.taken.last().map(|last| last.tag);
            let settled = hands.settle(&window).await?;
            let outgoing = self.speaker.outgoing(&window.taken, settled);
            let arrivals = window.taken.iter().map(|taken| taken.arrived_at).collect();
            let announcement = Announcement { outgoing, arrivals, ack_through, confirmed: None };
            if announcements.send(announcement).await.is_err() {
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
        channel: &Acknowledger,
        shutdown: &CancellationToken,
    ) -> Result<Hands, Fault> {
        let hold = Duration::from_millis(self.config.hold_ms);
        let worker = &self.config.worker_id;
        let fence = tenure::take(&mut session, &self.name, worker, channel, hold, shutdown).await?;
        let others: Vec<Session> =
            (1..self.config.connections_per_lane).map(|_| session.another()).collect();
        let isolation = |session| Isolation {
            lane: self.name.clone(),
            config: Arc::clone(&self.config),
            clock: self.clock.clone(),
            counters: Arc::clone(&self.counters),
            session,
            fence: fence.clone(),
            shutdown: shutdown.clone(),
            parked_max: self.parked_max(),
        };
        Ok(Hands::of(isolation(session), others.into_iter().map(isolation).collect()))
    }

    /// Where dead letters hold their customers: how many commands may be parked behind them.
    fn parked_max(&self) -> Option<usize> {
        let lane = self.config.lanes.iter().find(|lane| lane.name == self.name)?;
        (lane.after_dead_letter == AfterDeadLetter::HoldCustomer).then_some(lane.parked_max)
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

/// The broker's side of a generation. Two connections: a blocked one stops all writes, and acks
/// must not wait behind results.
struct Connected {
    consuming: Connection,
    publishing: Arc<Connection>,
    consumer: Consumer,
    publisher: Publisher,
}

/// The fault of a task that ended while it was needed.
fn unexpected<T>(ended: Result<Result<T, Fault>, tokio::task::JoinError>) -> Fault {
    match ended {
        Ok(Err(fault)) => fault,
        Ok(Ok(_)) => Fault::TaskStopped("it ended early".into()),
        Err(panic) => Fault::TaskStopped(panic.to_string()),
    }
}
