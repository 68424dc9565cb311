//! Applies the commands that were parked behind a dead letter, once it is replayed or discarded.
//!
//! They go the way of every command, in their order, before anything that was delivered later. They
//! were acked when they were parked, so the confirm of a result takes the ack's place: only then
//! does its command leave the line. What a crash leaves applied is found in the inbox and announced
//! again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::config::memory::BATCH_BYTES_MAX;
use crate::domain::dead_letter::QueuePosition;
use crate::domain::holds;
use crate::store;
use crate::store::error::Error;
use crate::store::session::{self, Session};
use crate::wire::parked;
use crate::worker::announce::Announcement;
use crate::worker::executor::Executor;
use crate::worker::fault::Fault;
use crate::worker::hands::Hands;
use crate::worker::intake::{self, Taken};
use crate::worker::lane::Lane;
use crate::worker::outage::Patience;
use crate::worker::scout::Scouted;
use crate::worker::window::Settled;

/// A release that has waited for so long, in seconds, shows that nobody works the lane: the next one
/// who looks takes it.
const UNNOTICED_SECONDS: f64 = 5.0;

/// An idle lane's look takes no longer.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether letters of the lane were released, and nobody has noticed. Of a database that is away
/// nothing is known; the next look will tell.
pub(super) async fn wait_unnoticed(session: &mut Session, lane: &str) -> bool {
    let looking = async {
        let connection = session.connection().await?;
        store::parked::released(connection, lane, UNNOTICED_SECONDS).await
    };
    match session::bounded(LOOK_TIMEOUT, looking).await {
        Ok(released) => !released.is_empty(),
        Err(error) => {
            tracing::debug!(
                lane,
                "the search for released commands failed; it is retried: {error}"
            );
            session.discard();
            false
        }
    }
}

/// Applies what nothing holds any longer: all of it, in a lane that holds nobody any more. Unless
/// `first`, the first time of a generation, it does nothing if no letter was released. It ends early
/// when the worker stops: what is left keeps its place.
///
/// Each pass takes commands out of the line, or notes that they wait after all: so there is an end
/// to it, whatever the line holds.
pub(super) async fn apply(
    lane: &Lane,
    hands: &mut Hands,
    announcements: &mpsc::Sender<Announcement>,
    first: bool,
) -> Result<(), Fault> {
    let name = &lane.name;
    let released = released(hands.first()).await?;
    if released.is_empty() && !first {
        return Ok(());
    }
    let mut applied = 0;
    // Those that were due and had to wait since a command was last taken out.
    let mut waiting: HashSet<i64> = HashSet::new();
    loop {
        if hands.first().shutdown.is_cancelled() {
            return Ok(());
        }
        let next = next(hands.first(), &waiting).await?;
        if next.is_empty() {
            break;
        }
        let window = Arc::new(Scouted::unseen(next));
        let settled = hands.settle(&window).await?;
        let is_waiting = settled.iter().map(|settled| matches!(settled, Settled::Parked(_)));
        let places = window.taken.iter().filter_map(|taken| taken.parked).zip(is_waiting);
        let (wait, done): (Vec<_>, Vec<_>) = places.partition(|(_, is_waiting)| *is_waiting);
        let done: Vec<i64> = done.into_iter().map(|(place, _)| place).collect();
        let lane_epoch = hands.first().fence.epoch;
        announce(lane, &window.taken, (settled, lane_epoch), announcements).await;
        if !done.is_empty() {
            applied += done.len();
            waiting.clear();
            leave(hands.first(), &done, &released).await?;
        }
        waiting.extend(wait.into_iter().map(|(place, _)| place));
    }
    if !released.is_empty() {
        leave(hands.first(), &[], &released).await?;
    }
    if applied > 0 {
        tracing::info!(lane = name, "{applied} parked commands were processed");
    }
    Ok(())
}

async fn released(hand: &mut Executor) -> Result<Vec<Uuid>, Fault> {
    let mut patience = Patience::new();
    loop {
        let timeout = hand.session.timeout();
        let looking = async {
            let connection = hand.session.connection().await?;
            if !hand.holds.is_here() {
                store::holds::release_lane(connection, &hand.lane).await?;
            }
            store::parked::released(connection, &hand.lane, 0.0).await
        };
        let released = session::bounded(timeout, looking).await;
        if let Some(released) = hand.outlast(released, &mut patience).await? {
            return Ok(released);
        }
    }
}

/// The next parked commands to apply, without those that are known to wait: at most a window of
/// them, in count and in bytes.
async fn next(hand: &mut Executor, waiting: &HashSet<i64>) -> Result<Vec<Taken>, Fault> {
    let mut patience = Patience::new();
    let parked = loop {
        let timeout = hand.session.timeout();
        let reading = async {
            let connection = hand.session.connection().await?;
            let line = store::parked::line(connection, &hand.lane).await?;
            let mut next = line.applied;
            next.extend(holds::free(&line.letters, &line.parked));
            next.retain(|place| !waiting.contains(place));
            next.truncate(hand.config.window);
            store::parked::read(connection, &next, BATCH_BYTES_MAX).await
        };
        let parked = session::bounded(timeout, reading).await;
        if let Some(parked) = hand.outlast(parked, &mut patience).await? {
            break parked;
        }
    };
    let (mut next, mut bytes) = (Vec::new(), 0);
    for one in parked {
        if bytes >= BATCH_BYTES_MAX {
            break;
        }
        let message = parked::decode(&one.message, one.body).ok_or_else(|| {
            let place = one.sequence;
            Error::Outage(format!(
                "the parked command {place} can't be read back: was it written by a newer release?"
            ))
        })?;
        let publishers = &hand.config.publishers;
        let position = one.lane_epoch.zip(one.delivery_tag);
        let position = position.and_then(|(epoch, tag)| QueuePosition::new(epoch, tag));
        let place = (one.sequence, position);
        let taken = intake::take_up(place, one.command_id, message, publishers);
        bytes += taken.estimated_bytes();
        next.push(taken);
    }
    Ok(next)
}

/// Returns when the results are confirmed.
async fn announce(
    lane: &Lane,
    taken: &[Taken],
    (settled, lane_epoch): (Vec<Settled>, i64),
    announcements: &mpsc::Sender<Announcement>,
) {
    let (confirmed, confirm) = oneshot::channel();
    let announcement = Announcement {
        outgoing: lane.speaker.outgoing(taken, settled, lane_epoch),
        // They arrived long ago: how long they were parked is up to whoever replays the letter.
        arrivals: Vec::new(),
        ack_through: None,
        confirmed: Some(confirmed),
    };
    let announcing =
        async { announcements.send(announcement).await.is_ok() && confirm.await.is_ok() };
    if !lane.counters.health.turn_during(announcing).await {
        // The announcer has failed, and its own fault is the one to report.
        std::future::pending::<()>().await;
    }
}

/// Takes what was announced out of the line; the released letters too, once nothing is left.
async fn leave(hand: &mut Executor, announced: &[i64], released: &[Uuid]) -> Result<(), Fault> {
    let mut patience = Patience::new();
    loop {
        let timeout = hand.session.timeout();
        let leaving = async {
            let connection = hand.session.connection().await?;
            if announced.is_empty() {
                store::parked::forget(connection, &hand.fence, released).await
            } else {
                store::parked::leave(connection, &hand.fence, announced, released).await
            }
        };
        let left = session::bounded(timeout, leaving).await;
        if hand.outlast(left, &mut patience).await?.is_some() {
            return Ok(());
        }
    }
}
