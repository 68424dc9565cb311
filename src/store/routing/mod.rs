//! The routing map: what is applied, and the change that is under way.
//!
//! A change is a row before anything is done on the broker, and the lanes that it pauses
//! are held on their own rows: `held_by_change` keeps workers from acquiring a lane, and the raised
//! epoch keeps its owner from committing. So a crash at any step leaves lanes that wait, and the
//! next run of the same command goes on.

pub mod change;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::Connection as _;
use uuid::Uuid;

use crate::domain::routing::RoutingMap;
use crate::store::connection::Connection;
use crate::store::error::{Error, unknown_word};

/// Of `pg_advisory_xact_lock`: shared while a worker binds again what the map says, exclusive while
/// the map or the change under way is written.
const LOCK: i64 = 0x7061_7274_6e65_7201;

/// What the database says of the routing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing {
    /// Grows with each change of the map.
    pub version: i64,
    /// Which lane each key leads to.
    pub map: RoutingMap,
    /// Pattern and lane of bindings that were made once and are to be removed.
    pub left_over: Vec<(String, String)>,
    /// The change under way.
    pub change: Option<Change>,
}

/// A change of the map under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its row.
    pub id: i64,
    /// What is changed.
    pub kind: ChangeKind,
    /// Who began it.
    pub actor: String,
    /// When.
    pub started_at: DateTime<Utc>,
}

/// What a change is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// `topology apply`; once it changes bindings, what it makes the map.
    Apply(Option<RoutingMap>),
    /// `lanes move`.
    Move(Move),
}

/// A move of a pattern from one lane to another, leg by leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The pattern.
    pub pattern: String,
    /// Its lane before.
    pub from: String,
    /// Its lane in the end.
    pub to: String,
    /// The lane that is drained now.
    pub leg_from: String,
    /// The lane that is held meanwhile.
    pub leg_to: String,
    /// How far the leg is.
    pub step: Step,
    /// Of the message that ends the leg in the queue of `leg_from`.
    pub marker: Uuid,
    /// Since when everything before the marker is processed.
    pub drained_at: Option<DateTime<Utc>>,
}

/// How far a leg of a move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The binding may or may not have been changed.
    Rerouting,
    /// New commands go to the lane that is held; the other one is drained.
    Draining,
}

impl Step {
    /// The step of a change under way that `routing_change.step` names.
    fn parse(word: &str) -> Option<Self> {
        match word {
            "rerouting" => Some(Self::Rerouting),
            "draining" => Some(Self::Draining),
            _ => None,
        }
    }
}

impl Change {
    /// In words, for people who wait for it.
    #[must_use]
    pub fn description(&self) -> String {
        match &self.kind {
            ChangeKind::Apply(_) => format!(
                "`topology apply` by {} is under way; if it has died, run it again",
                self.actor
            ),
            ChangeKind::Move(Move { pattern, from, to, .. }) => format!(
                "`{pattern}` is being moved from lane `{from}` to `{to}` by {}; \
                 if that command has died: partner-program lanes move --resume",
                self.actor
            ),
        }
    }
}

/// Reads the map and the change under way; nothing before the first `topology apply`.
pub async fn load(connection: &mut Connection) -> Result<Option<Routing>, Error> {
    let row = sqlx::query!(
        r#"select m.version,
            (select coalesce(array_agg(l.name), '{}') from routing_lane l where l.active) as "lanes!",
            (select coalesce(array_agg(b.pattern order by b.pattern), '{}') from routing_binding b
                where b.active) as "patterns!",
            (select coalesce(array_agg(b.lane order by b.pattern), '{}') from routing_binding b
                where b.active) as "pattern_lanes!",
            (select coalesce(array_agg(b.pattern order by b.pattern, b.lane), '{}') from routing_binding b
                where not b.active) as "left_patterns!",
            (select coalesce(array_agg(b.lane order by b.pattern, b.lane), '{}') from routing_binding b
                where not b.active) as "left_lanes!",
            c.id as "id?", c.kind as "kind?", c.pattern, c.from_lane, c.to_lane, c.leg_from, c.leg_to,
            c.step as "step?", c.target, c.marker as "marker?", c.drained_at, c.actor as "actor?",
            c.started_at as "started_at?"
        from routing_map m left join routing_change c on c.finished_at is null"#
    )
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let mut map = RoutingMap::new(row.lanes.iter().map(|lane| (lane.as_str(), [].as_slice())));
    map.patterns.extend(row.patterns.into_iter().zip(row.pattern_lanes));
    let left_over = row.left_patterns.into_iter().zip(row.left_lanes).collect();
    let change = match (row.id, row.kind, row.step, row.actor, row.started_at) {
        (Some(id), Some(kind), Some(step), Some(actor), Some(started_at)) => {
            let unknown = |column, word: &str| Error::Outage(unknown_word(column, word));
            let kind = match kind.as_str() {
                "apply" => ChangeKind::Apply(row.target.as_ref().map(map_of)),
                "move" => {
                    let step =
                        Step::parse(&step).ok_or_else(|| unknown("routing_change.step", &step))?;
                    let whole = || {
                        Some(Move {
                            pattern: row.pattern?,
                            from: row.from_lane?,
                            to: row.to_lane?,
                            leg_from: row.leg_from?,
                            leg_to: row.leg_to?,
                            step,
                            marker: row.marker?,
                            drained_at: row.drained_at,
                        })
                    };
                    ChangeKind::Move(whole().ok_or_else(|| {
                        Error::Outage(format!(
                            "routing_change {id} is a move without its pattern or its lanes"
                        ))
                    })?)
                }
                other => return Err(unknown("routing_change.kind", other)),
            };
            Some(Change { id, kind, actor, started_at })
        }
        _ => None,
    };
    Ok(Some(Routing { version: row.version, map, left_over, change }))
}

/// As `change::enter_binding` has written it.
fn map_of(target: &Value) -> RoutingMap {
    let lanes = target["lanes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut map = RoutingMap::new(lanes.map(|lane| (lane, [].as_slice())));
    let patterns = target["patterns"].as_object().into_iter().flatten();
    let patterns = patterns.filter_map(|(pattern, lane)| Some((pattern, lane.as_str()?)));
    map.patterns.extend(patterns.map(|(pattern, lane)| (pattern.clone(), lane.to_owned())));
    map
}

/// The version of the map; nothing before the first `topology apply`.
pub async fn version(connection: &mut Connection) -> Result<Option<i64>, Error> {
    let version =
        sqlx::query_scalar!("select version from routing_map").fetch_optional(connection).await?;
    Ok(version)
}

/// The markers that were ever sent to the lane's queue.
pub async fn markers(connection: &mut Connection, lane: &str) -> Result<Vec<Uuid>, Error> {
    let markers = sqlx::query_scalar!("select marker from routing_marker where lane = $1", lane)
        .fetch_all(connection)
        .await?;
    Ok(markers)
}

/// A transaction in which the map does not change, and what it says.
pub struct StableRouting<'a> {
    transaction: sqlx::Transaction<'a, sqlx::Postgres>,
    /// What the map says until then.
    pub routing: Routing,
}

impl StableRouting<'_> {
    /// Ends the transaction. Dropped instead, it would last until the connection is used again.
    pub async fn release(self) -> Result<(), Error> {
        self.transaction.rollback().await?;
        Ok(())
    }
}

/// Keeps the map from changing; nothing if it is being changed, or was never applied.
pub async fn keep_stable(connection: &mut Connection) -> Result<Option<StableRouting<'_>>, Error> {
    let mut transaction = connection.begin().await?;
    let locked =
        sqlx::query_scalar!(r#"select pg_try_advisory_xact_lock_shared($1) as "locked!""#, LOCK)
            .fetch_one(&mut *transaction)
            .await?;
    let routing = if locked { load(&mut transaction).await? } else { None };
    if let Some(routing) = routing.filter(|routing| routing.change.is_none()) {
        return Ok(Some(StableRouting { transaction, routing }));
    }
    transaction.rollback().await?;
    Ok(None)
}
