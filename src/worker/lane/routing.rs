//! What a lane's generation knows of the routing map, from before it subscribes to its end.
//!
//! A worker whose configuration differs from the map does not subscribe: it would bind and check by
//! other rules than the other workers. A change of the map raises its version, and ends the generations of the
//! lanes that it concerns by the fence. A worker that acquires a lane checks the version: so what is
//! known here is true for as long as it owns the lane.

use std::collections::HashSet;
use std::time::Duration;

use uuid::Uuid;

use crate::broker::connection::Connection;
use crate::broker::topology::bindings::Mended;
use crate::broker::topology::{self, Topology};
use crate::config::lane::Lane;
use crate::domain::rejection::{Reason, Rejection};
use crate::domain::routing::{Difference, Router, RoutingMap};
use crate::message::Message;
use crate::store::error::Error;
use crate::store::routing::{self, ChangeKind, Routing};
use crate::store::session::{self, Session};
use crate::wire::lane_marker;
use crate::worker::lane::error::GenerationError;

/// Most differences that are named.
const DIFFERENCES_MAX: usize = 5;
/// How often a worker looks again whether the map is as its configuration.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What a generation knows of the routing map.
pub(crate) struct LaneRouting {
    lane: String,
    version: i64,
    router: Router,
    /// A move drains this lane: commands that the map gives to another lane are applied here.
    is_drained_by_move: bool,
    markers: HashSet<Uuid>,
    pub(crate) topology: Topology,
}

/// Whether a worker may subscribe.
pub(crate) enum Permission {
    Granted(Box<LaneRouting>),
    /// Why not, and what to do.
    Denied(String),
}

impl LaneRouting {
    /// Reads the map, and compares it with the lanes of the configuration.
    pub(crate) async fn load(
        session: &mut Session,
        lanes: &[Lane],
        lane: &str,
    ) -> Result<Permission, Error> {
        let timeout = session.timeout();
        let loading = async {
            let connection = session.connection().await?;
            let routing = routing::load(connection).await?;
            Ok((routing, routing::markers(connection, lane).await?))
        };
        let (routing, markers) = session::bounded(timeout, loading).await?;
        let Some(routing) = routing else {
            return Ok(Permission::Denied(
                "there is no routing map yet: run `partner-program topology apply`".into(),
            ));
        };
        if let Some(problem) = problem(&RoutingMap::of(lanes), &routing) {
            return Ok(Permission::Denied(problem));
        }
        let Routing { version, map, change, .. } = routing;
        let is_drained_by_move = match change.map(|change| change.kind) {
            Some(ChangeKind::Move(of)) => of.leg_from == lane,
            Some(ChangeKind::Apply(_)) | None => false,
        };
        Ok(Permission::Granted(Box::new(Self {
            lane: lane.to_owned(),
            version,
            router: Router::new(&map),
            is_drained_by_move,
            markers: markers.into_iter().collect(),
            topology: Topology { map },
        })))
    }

    /// Refuses a command that the map gives to another lane: a header `CC`, a foreign or left-over binding, or a
    /// missing one has led it here, outside the order of its own lane.
    pub(crate) fn check(&self, routing_key: &str) -> Result<(), Rejection> {
        let lane = self.router.lane_of(routing_key);
        if self.is_drained_by_move || lane == self.lane {
            return Ok(());
        }
        let detail = format!(
            "the routing map gives this routing key to lane `{lane}`, and it came through `{}`: see \
             `partner-program doctor` for bindings, then replay it",
            self.lane
        );
        Err(Rejection::new(Reason::WrongLane, detail))
    }

    /// The marker of a move that the message is, if it is one of this lane.
    pub(crate) fn marker(&self, message: &Message) -> Option<Uuid> {
        lane_marker::read(message).filter(|marker| self.markers.contains(marker))
    }

    /// Fails if the map has changed since: a command that was refused may belong here by now.
    pub(crate) async fn check_version(&self, session: &mut Session) -> Result<(), GenerationError> {
        let timeout = session.timeout();
        let looking = async { routing::version(session.connection().await?).await };
        let version = session::bounded(timeout, looking).await?;
        if version == Some(self.version) { Ok(()) } else { Err(GenerationError::RoutingChanged) }
    }
}

/// Why a worker with this configuration must not subscribe. While a pattern is being moved, the
/// configuration may be that before or that after the move.
fn problem(own: &RoutingMap, routing: &Routing) -> Option<String> {
    let Routing { map, change, version, .. } = routing;
    let mut differences = own.differences(map);
    if let Some(change) = change
        && let ChangeKind::Move(of) = &change.kind
    {
        let mut before = map.clone().with(&of.pattern, &of.from);
        let after = map.clone().with(&of.pattern, &of.to);
        let is_after = own.differences(&after).is_empty();
        if !own.lanes.contains(&of.to) {
            before.lanes.remove(&of.to);
        }
        if is_after || own.differences(&before).is_empty() {
            differences.clear();
        }
    }
    if differences.is_empty() {
        return None;
    }
    let named: Vec<String> =
        differences.iter().take(DIFFERENCES_MAX).map(Difference::of_configuration).collect();
    let further = differences.len() - named.len();
    let further = if further > 0 { format!("; and {further} more") } else { String::new() };
    Some(format!(
        "this worker's configuration differs from the routing map (version {version}): {}{further}; give \
         the worker the configuration that was applied, or run `partner-program topology apply` with this one",
        named.join("; ")
    ))
}

/// Makes bindings of the map that are missing; nothing is done while the map is being changed. After an
/// error the session's connection is to be discarded.
pub(crate) async fn mend_bindings(
    session: &mut Session,
    broker: &Connection,
) -> Result<Option<Mended>, GenerationError> {
    let timeout = session.timeout();
    let connection = session.connection().await?;
    let stable = session::bounded(timeout, routing::keep_stable(connection)).await?;
    let Some(stable) = stable else { return Ok(None) };
    let topology = Topology { map: stable.routing.map.clone() };
    let mended = topology::bindings::mend(broker, &topology).await;
    session::bounded(timeout, stable.release()).await?;
    Ok(Some(mended?))
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::store::routing::{Change, Move, Step};

    fn own(lanes: &[(&str, &[&str])]) -> RoutingMap {
        let lanes: Vec<Lane> = lanes
            .iter()
            .map(|(name, patterns)| {
                let patterns = patterns.iter().map(ToString::to_string).collect();
                Lane::new((*name).to_owned(), patterns)
            })
            .collect();
        RoutingMap::of(&lanes)
    }

    #[test]
    fn during_a_move_the_configuration_of_before_and_of_after_will_do() {
        let (before, after) = (own(&[]), own(&[("vip", &["acme.*"])]));
        let of = Move {
            pattern: "acme.*".into(),
            from: "main".into(),
            to: "vip".into(),
            leg_from: "main".into(),
            leg_to: "vip".into(),
            step: Step::Rerouting,
            marker: Uuid::nil(),
            drained_at: None,
        };
        let change = Change {
            id: 1,
            kind: ChangeKind::Move(of),
            actor: "alice".into(),
            started_at: DateTime::UNIX_EPOCH,
        };
        for map in [&before, &after] {
            let mut routing = Routing {
                version: 3,
                map: map.clone(),
                left_over: Vec::new(),
                change: Some(change.clone()),
            };
            assert_eq!(problem(&before, &routing), None);
            assert_eq!(problem(&after, &routing), None);
            assert!(problem(&own(&[("vip", &["beta.*"])]), &routing).is_some());
            routing.change = None;
            assert_eq!(problem(map, &routing), None);
        }
        let routing = Routing { version: 3, map: after, left_over: Vec::new(), change: None };
        let problem = problem(&before, &routing).unwrap_or_default();
        assert!(problem.contains("(version 3): the routing map has a lane `vip`"), "{problem}");
    }
}
