//! `lanes move`: gives a pattern to another lane while commands come and wait, in order.
//!
//! A move has one leg, or two where neither lane is the catch-all. In a leg one binding changes, and
//! that is atomic: away from the catch-all lane the pattern is bound, towards it it is unbound. From
//! then on new commands go to the lane at the end, which is held, while the other one is drained. A
//! marker in its queue, behind everything that came before, tells when. Then the lane at the end is
//! released.
//!
//! Each step is a row before it is done and can be done twice, so a move that died goes on by
//! `lanes move --resume`.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::broker::connection::Connection as BrokerConnection;
use crate::broker::depth;
use crate::broker::publisher::{Publisher, Receipt};
use crate::broker::topology::{self, CATCH_ALL_LANE, Topology, lane_queue};
use crate::domain::actor::Actor;
use crate::failpoint::{self, Point};
use crate::store::connection::Connection;
use crate::store::routing::change::{self, NewMove, Waiting};
use crate::store::routing::{self, ChangeKind, Move, Routing, Step};
use crate::usecases::installation;
use crate::usecases::routing::Error;
use crate::wire::lane_marker;

/// Between the change of a binding and the marker. A command that was routed by the old binding is in
/// its queue by then; a later one, should there be any, is a dead letter.
const ROUTES_SETTLE: Duration = Duration::from_secs(1);
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);

/// A part of a move in which one binding changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leg {
    /// The lane that is drained.
    pub from: String,
    /// The lane that is held meanwhile.
    pub to: String,
    /// Commands that wait in the former.
    pub ready: u32,
}

/// What a move would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The pattern.
    pub pattern: String,
    /// Its lane now.
    pub from: String,
    /// Its lane in the end.
    pub to: String,
    /// One or two.
    pub legs: Vec<Leg>,
    /// What waits behind dead letters in its lane now, of the same org.
    pub behind_dead_letters: Waiting,
    version: i64,
}

/// How far a move is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// New commands go to the lane at the end of the leg.
    Rerouted(Move),
    /// The other lane is drained.
    Draining {
        /// The move.
        of: Move,
        /// Commands that are not delivered to a worker yet.
        ready: u32,
        /// Subscriptions to it.
        consumers: u32,
    },
    /// Everything is processed but what waits behind dead letters.
    BehindDeadLetters {
        /// The move.
        of: Move,
        /// What waits.
        waiting: Waiting,
    },
    /// The lane at the end of the leg goes on.
    LegFinished(Move),
}

/// Plans a move; `lanes` are those of the configuration.
pub async fn plan(
    database: &mut Connection,
    broker: &BrokerConnection,
    lanes: &[&str],
    pattern: &str,
    to: &str,
) -> Result<Plan, Error> {
    installation::check(database, broker).await?;
    let Some(Routing { version, map, change, .. }) = routing::load(database).await? else {
        return Err(Error::NotFound(
            "there is no routing map yet: run `partner-program topology apply`".into(),
        ));
    };
    if let Some(change) = change {
        return Err(Error::UnderWay(change.description()));
    }
    if !map.lanes.contains(to) && !lanes.contains(&to) {
        let known: Vec<&str> = map.lanes.iter().map(String::as_str).collect();
        return Err(Error::NotFound(format!(
            "no lane `{to}`: add it to the configuration that this command reads; there is {}",
            known.join(", ")
        )));
    }
    let from = map.lane_of_pattern(pattern).to_owned();
    if from == to {
        return Err(Error::NotFound(format!("lane `{to}` takes `{pattern}` already")));
    }
    if let Some(overlap) = map.clone().with(pattern, to).overlap() {
        return Err(Error::Overlap(format!(
            "{overlap}; a move is of a whole pattern of the routing map, or of a new one that no other \
             lane's pattern overlaps"
        )));
    }
    let stops = match (from.as_str(), to) {
        (CATCH_ALL_LANE, _) | (_, CATCH_ALL_LANE) => vec![from.clone(), to.to_owned()],
        _ => vec![from.clone(), CATCH_ALL_LANE.to_owned(), to.to_owned()],
    };
    let mut legs = Vec::new();
    for pair in stops.windows(2) {
        let depth = depth::depth(broker, &lane_queue(&pair[0])).await?;
        let ready = depth.map_or(0, |depth| depth.ready);
        legs.push(Leg { from: pair[0].clone(), to: pair[1].clone(), ready });
    }
    let behind_dead_letters =
        change::waiting_behind_dead_letters(database, &from, org(pattern)).await?;
    Ok(Plan {
        pattern: pattern.to_owned(),
        to: to.to_owned(),
        from,
        legs,
        behind_dead_letters,
        version,
    })
}

/// Begins the move: from now on the lane at the end of its first leg is held. [`run`] does the rest.
///
/// # Errors
///
/// [`Error::WouldReorder`] if commands are parked behind dead letters, and the pattern is not all of an
/// org: what is parked does not say by which routing key it came.
pub async fn begin(
    database: &mut Connection,
    broker: &BrokerConnection,
    plan: &Plan,
    actor: &Actor,
) -> Result<(), Error> {
    let Waiting { holds, parked } = plan.behind_dead_letters;
    if !is_all_of_an_org(&plan.pattern) && (holds > 0 || parked > 0) {
        return Err(Error::WouldReorder(format!(
            "{holds} dead letters hold {parked} parked commands in lane `{}`, which only the pattern of a \
             whole org (`acme.#`) takes along: replay or discard them first",
            plan.from
        )));
    }
    let Some(first) = plan.legs.first() else { return Ok(()) };
    let map = routing::load(database).await?.map(|routing| routing.map).unwrap_or_default();
    topology::declare::ensure(broker, &Topology { map: map.with(&plan.pattern, &plan.to) }).await?;
    let new = NewMove { pattern: &plan.pattern, from: &plan.from, to: &plan.to, leg_to: &first.to };
    change::begin_move(database, actor, plan.version, &new).await?;
    failpoint::reach(Point::MoveBegun);
    Ok(())
}

/// Brings the move under way to its end, from wherever it stands. Gives up waiting, not the move,
/// after `timeout`.
pub async fn run(
    database: &mut Connection,
    broker: &Arc<BrokerConnection>,
    timeout: Duration,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), Error> {
    installation::check(database, broker).await?;
    let until = Instant::now() + timeout;
    let mut is_first = true;
    loop {
        let Some(routing) = routing::load(database).await? else { return Ok(()) };
        let change = match routing.change {
            Some(change) => change,
            None if is_first => {
                return Err(Error::UnderWay(
                    "no move is under way: there is nothing to resume".into(),
                ));
            }
            None => return Ok(()),
        };
        let ChangeKind::Move(of) = &change.kind else {
            return Err(Error::UnderWay(change.description()));
        };
        is_first = false;
        match of.step {
            Step::Rerouting => {
                reroute(broker, of).await?;
                failpoint::reach(Point::MoveRerouted);
                let map = routing.map.with(&of.pattern, &of.leg_to);
                change::enter_draining(database, change.id, &map).await?;
                failpoint::reach(Point::MoveDraining);
                progress(Progress::Rerouted(of.clone()));
            }
            Step::Draining => {
                if of.drained_at.is_none() {
                    tokio::time::sleep(ROUTES_SETTLE).await;
                    send_marker(broker, of).await?;
                    failpoint::reach(Point::MoveMarked);
                    wait_until_drained(database, broker, until, progress).await?;
                }
                failpoint::reach(Point::MoveDrained);
                wait_for_dead_letters(database, of, until, progress).await?;
                if of.leg_to == of.to {
                    change::finish_move(database, change.id, &of.leg_from, &of.leg_to).await?;
                } else {
                    change::begin_second_leg(database, change.id, &of.leg_to, &of.to).await?;
                }
                failpoint::reach(Point::MoveLegFinished);
                progress(Progress::LegFinished(of.clone()));
            }
        }
    }
}

/// One binding: what it leads to is the only lane of the pattern from then on.
async fn reroute(broker: &BrokerConnection, of: &Move) -> Result<(), Error> {
    if of.leg_to == CATCH_ALL_LANE {
        topology::bindings::unbind(broker, &of.pattern, &of.leg_from).await?;
    } else {
        topology::bindings::bind(broker, &of.pattern, &of.leg_to).await?;
    }
    Ok(())
}

async fn send_marker(broker: &Arc<BrokerConnection>, of: &Move) -> Result<(), Error> {
    let mut publisher = Publisher::open(broker, CONFIRM_TIMEOUT).await?;
    let message = lane_marker::message(&lane_queue(&of.leg_from), of.marker);
    let receipts = publisher.publish(std::slice::from_ref(&message)).await?;
    if receipts.iter().all(|receipt| *receipt == Receipt::Routed) {
        return Ok(());
    }
    Err(Error::StillWaiting(format!(
        "the queue of lane `{}` does not take the marker that ends the move (is it full?); \
         then: partner-program lanes move --resume",
        of.leg_from
    )))
}

async fn wait_until_drained(
    database: &mut Connection,
    broker: &BrokerConnection,
    until: Instant,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), Error> {
    loop {
        let Some(of) = under_way(database).await? else { return Ok(()) };
        if of.drained_at.is_some() {
            return Ok(());
        }
        let depth = depth::depth(broker, &lane_queue(&of.leg_from)).await?;
        let (ready, consumers) = depth.map_or((0, 0), |depth| (depth.ready, depth.consumers));
        if Instant::now() > until {
            return Err(Error::StillWaiting(format!(
                "lane `{}` is not drained yet: {ready} commands are ready and {consumers} workers \
                 subscribed; lane `{}` is held until it is; go on by: partner-program lanes move --resume",
                of.leg_from, of.leg_to
            )));
        }
        progress(Progress::Draining { of, ready, consumers });
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

async fn wait_for_dead_letters(
    database: &mut Connection,
    of: &Move,
    until: Instant,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), Error> {
    if is_all_of_an_org(&of.pattern) {
        return Ok(());
    }
    loop {
        let waiting =
            change::waiting_behind_dead_letters(database, &of.leg_from, org(&of.pattern)).await?;
        let Waiting { holds, parked } = waiting;
        if holds == 0 && parked == 0 {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(Error::StillWaiting(format!(
                "{holds} dead letters hold {parked} parked commands in lane `{}`: discard them (a replay \
                 waits for the move), then: partner-program lanes move --resume",
                of.leg_from
            )));
        }
        progress(Progress::BehindDeadLetters { of: of.clone(), waiting });
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Whether the pattern takes every command of an org and no other: then what waits behind its dead letters
/// goes along.
fn is_all_of_an_org(pattern: &str) -> bool {
    org(pattern).is_some_and(|org| pattern.strip_prefix(org) == Some(".#"))
}

/// The org whose commands alone the pattern matches, if there is one.
fn org(pattern: &str) -> Option<&str> {
    pattern.split('.').next().filter(|word| !matches!(*word, "*" | "#" | ""))
}

async fn under_way(database: &mut Connection) -> Result<Option<Move>, Error> {
    let change = routing::load(database).await?.and_then(|routing| routing.change);
    Ok(change.and_then(|change| match change.kind {
        ChangeKind::Move(of) => Some(of),
        ChangeKind::Apply(_) => None,
    }))
}
