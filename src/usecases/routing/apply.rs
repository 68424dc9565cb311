//! `topology apply`: makes broker and routing map as the configuration has them.
//!
//! It changes the lane of a routing key only while no command waits in the lane that loses it:
//! otherwise a command could be overtaken by a later one that takes the new way.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::broker::connection::Connection as BrokerConnection;
use crate::broker::depth;
use crate::broker::error::Error as BrokerError;
use crate::broker::topology::{self, Topology, lane_queue};
use crate::domain::actor::Actor;
use crate::domain::routing::{Affected, Difference, RoutingMap};
use crate::failpoint::{self, Point};
use crate::store::compatibility;
use crate::store::connection::Connection;
use crate::store::routing::change;
use crate::store::routing::{self, Change, ChangeKind, Routing};
use crate::usecases::installation;
use crate::usecases::routing::Error;

/// How long workers may take to leave a lane that is held.
const LEAVE_TIMEOUT: Duration = Duration::from_mins(1);
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What `topology apply` has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The version of the map now.
    pub version: i64,
    /// What is different from before; the first of each is the new map.
    pub changes: Vec<Difference>,
}

/// Declares what is missing, and makes `map` the routing map.
///
/// # Errors
///
/// [`Error::WouldReorder`] if commands wait in a lane that loses routing keys: nothing is changed then.
pub async fn apply(
    database: &mut Connection,
    broker: &Arc<BrokerConnection>,
    map: &RoutingMap,
    actor: &Actor,
) -> Result<Applied, Error> {
    if let Some(overlap) = map.overlap() {
        return Err(overlap.into());
    }
    if let Some(problem) = compatibility::check(database).await?.problem() {
        return Err(Error::Schema(problem));
    }
    installation::claim(database, broker).await?;
    let known = routing::load(database).await?;
    if let Some(change @ Change { kind: ChangeKind::Move(_), .. }) =
        known.as_ref().and_then(|known| known.change.as_ref())
    {
        return Err(Error::UnderWay(change.description()));
    }
    let topology = Topology { map: map.clone() };
    topology::declare::ensure(broker, &topology).await?;
    let changes = known.as_ref().map(|known| map.differences(&known.map)).unwrap_or_default();
    let is_new = known.is_none();
    let is_unfinished = known.as_ref().is_some_and(|known| known.change.is_some());
    if is_new || is_unfinished || !changes.is_empty() {
        change_map(database, broker, known.as_ref(), map, actor).await?;
    } else {
        topology::bindings::bind_all(broker, &topology).await?;
    }
    if let Some(applied) = routing::load(database).await? {
        remove_left_over(broker, &applied).await?;
    }
    let version = routing::version(database).await?.unwrap_or_default();
    Ok(Applied { version, changes })
}

async fn change_map(
    database: &mut Connection,
    broker: &Arc<BrokerConnection>,
    known: Option<&Routing>,
    map: &RoutingMap,
    actor: &Actor,
) -> Result<(), Error> {
    let old = known.map(|known| known.map.clone()).unwrap_or_default();
    let mut affected = if known.is_some() { old.affected(map) } else { Affected::default() };
    // No worker subscribes to a lane that is in no map.
    affected.losing.extend(old.lanes.difference(&map.lanes).cloned());
    let has_begun = has_begun_binding(known, map)?;
    let id = change::begin_apply(database, actor, &affected.lanes()).await?;
    if !has_begun {
        let waiting = check_that_nothing_waits(database, broker, &affected.losing, &old, map).await;
        if let Err(error @ Error::WouldReorder(_)) = waiting {
            change::cancel(database, id).await?;
            return Err(error);
        }
        waiting?;
        change::enter_binding(database, id, map).await?;
    }
    // Bound first: a command on its way has two lanes then rather than none, and in the old one it is a
    // dead letter.
    topology::bindings::bind_all(broker, &Topology { map: map.clone() }).await?;
    failpoint::reach(Point::ApplyBound);
    for (pattern, lane) in &old.patterns {
        if map.patterns.get(pattern) != Some(lane) {
            topology::bindings::unbind(broker, pattern, lane).await?;
        }
    }
    change::finish_apply(database, id, map).await?;
    Ok(())
}

/// Whether an earlier run has died while it changed bindings to this map. Commands may have taken the new
/// way since, so it has to come to its end before anything else.
fn has_begun_binding(known: Option<&Routing>, map: &RoutingMap) -> Result<bool, Error> {
    let Some(change @ Change { kind: ChangeKind::Apply(Some(target)), .. }) =
        known.and_then(|known| known.change.as_ref())
    else {
        return Ok(false);
    };
    let differences = map.differences(target);
    if differences.is_empty() {
        return Ok(true);
    }
    let words = differences.iter().map(|difference| match difference {
        Difference::Lane { lane, is_in_first: true } => format!("it had no lane `{lane}`"),
        Difference::Lane { lane, is_in_first: false } => format!("it had a lane `{lane}`"),
        Difference::Pattern { pattern, second, .. } => {
            format!("it gave `{pattern}` to lane `{second}`")
        }
    });
    Err(Error::UnderWay(format!(
        "`topology apply` by {} has died while it changed bindings: run it with its configuration first, \
         then with this one; {}",
        change.actor,
        words.collect::<Vec<_>>().join("; ")
    )))
}

/// Waits until the workers have left these lanes, which are held, and looks what they have left.
async fn check_that_nothing_waits(
    database: &mut Connection,
    broker: &BrokerConnection,
    lanes: &BTreeSet<String>,
    old: &RoutingMap,
    new: &RoutingMap,
) -> Result<(), Error> {
    let until = Instant::now() + LEAVE_TIMEOUT;
    for lane in lanes {
        let ready = loop {
            match depth::depth(broker, &lane_queue(lane)).await? {
                None => break 0,
                Some(depth) if depth.consumers == 0 => break depth.ready,
                Some(depth) if Instant::now() > until => {
                    let consumers = depth.consumers;
                    return Err(Error::WouldReorder(format!(
                        "lane `{lane}` still has {consumers} consumers after {} s; stop what consumes \
                         from `{}`, then run it again",
                        LEAVE_TIMEOUT.as_secs(),
                        lane_queue(lane)
                    )));
                }
                Some(_) => tokio::time::sleep(LOOK_INTERVAL).await,
            }
        };
        let behind = change::waiting_behind_dead_letters(database, lane, None).await?;
        if ready > 0 || behind.parked > 0 || behind.holds > 0 {
            return Err(Error::WouldReorder(would_reorder(lane, ready, behind, old, new)));
        }
    }
    Ok(())
}

fn would_reorder(
    lane: &str,
    ready: u32,
    behind: change::Waiting,
    old: &RoutingMap,
    new: &RoutingMap,
) -> String {
    let moves = new.differences(old).into_iter().filter_map(|difference| match difference {
        Difference::Pattern { pattern, first, .. } => {
            Some(format!("partner-program lanes move '{pattern}' --to {first}"))
        }
        Difference::Lane { .. } => None,
    });
    let moves: Vec<String> = moves.collect();
    let remedy = if moves.is_empty() {
        "let a worker with the old configuration drain it first".to_owned()
    } else {
        format!("move them with their order: {}", moves.join("; "))
    };
    let change::Waiting { holds, parked } = behind;
    let behind = if holds + parked > 0 {
        format!(", and {holds} dead letters hold {parked} parked ones")
    } else {
        String::new()
    };
    format!(
        "{ready} commands wait in lane `{lane}`{behind}; the change could let later ones overtake them, \
         so nothing was changed; {remedy}"
    )
}

/// Removes what earlier maps have bound, each time: a binding that is not there is removed as well.
async fn remove_left_over(broker: &BrokerConnection, routing: &Routing) -> Result<(), Error> {
    for (pattern, lane) in &routing.left_over {
        match topology::bindings::unbind(broker, pattern, lane).await {
            Ok(()) => {}
            Err(BrokerError::Refused(why)) => {
                return Err(BrokerError::Refused(format!(
                    "the left-over binding of `{pattern}` to lane `{lane}` can't be removed: {why}"
                ))
                .into());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
