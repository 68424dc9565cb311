//! Writes the routing map, step by step.

use std::collections::BTreeSet;

use serde_json::json;
use sqlx::Connection as _;
use uuid::Uuid;

use crate::domain::actor::Actor;
use crate::domain::routing::RoutingMap;
use crate::store::connection::Connection;
use crate::store::error::{Error, unknown_word};
use crate::store::fence::{self, Fence};
use crate::store::routing::LOCK;
use crate::store::text::replace_nul;

/// Begins a transaction that no other change and no worker's binding is beside.
async fn begin(
    connection: &mut Connection,
) -> Result<sqlx::Transaction<'_, sqlx::Postgres>, Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query!("set local lock_timeout = '30s'").execute(&mut *transaction).await?;
    sqlx::query!("select pg_advisory_xact_lock($1)", LOCK).execute(&mut *transaction).await?;
    Ok(transaction)
}

/// Begins `topology apply` and holds these lanes; the id of the change. A change that is under way
/// must be of the same kind: it is continued.
///
/// # Errors
///
/// [`Error::Conflict`] if a move is under way.
pub async fn begin_apply(
    connection: &mut Connection,
    actor: &Actor,
    lanes: &BTreeSet<String>,
) -> Result<i64, Error> {
    let mut transaction = begin(connection).await?;
    let under_way =
        sqlx::query!("select id, kind from routing_change where finished_at is null for update")
            .fetch_optional(&mut *transaction)
            .await?;
    let under_way = under_way.as_ref().map(|change| (change.id, change.kind.as_str()));
    let id = match under_way {
        Some((id, "apply")) => id,
        Some((_, "move")) => {
            return Err(Error::Conflict(
                "a move is under way: finish it by `partner-program lanes move --resume`".into(),
            ));
        }
        Some((_, other)) => {
            return Err(Error::Outage(unknown_word("routing_change.kind", other)));
        }
        None => {
            sqlx::query_scalar!(
                "insert into routing_change (kind, step, actor, reason, source)
                values ('apply', 'rerouting', $1, $2, $3) returning id",
                replace_nul(&actor.name),
                replace_nul(&actor.reason),
                replace_nul(&actor.source),
            )
            .fetch_one(&mut *transaction)
            .await?
        }
    };
    hold(&mut transaction, id, lanes, lanes).await?;
    transaction.commit().await?;
    Ok(id)
}

/// What a move is about.
#[derive(Clone, Copy, Debug)]
pub struct NewMove<'a> {
    /// The pattern.
    pub pattern: &'a str,
    /// Its lane now.
    pub from: &'a str,
    /// Its lane in the end.
    pub to: &'a str,
    /// Where its first leg ends.
    pub leg_to: &'a str,
}

/// Begins a move: holds the lane at the end of its first leg.
///
/// # Errors
///
/// [`Error::Conflict`] if a change is under way, or the map has no longer this version.
pub async fn begin_move(
    connection: &mut Connection,
    actor: &Actor,
    version: i64,
    new: &NewMove<'_>,
) -> Result<i64, Error> {
    let mut transaction = begin(connection).await?;
    let inserted = sqlx::query!(
        "insert into routing_change
            (kind, step, pattern, from_lane, to_lane, leg_from, leg_to, actor, reason, source)
        select 'move', 'rerouting', $1, $2, $3, $2, $4, $5, $6, $7
        from routing_map where version = $8
        on conflict ((true)) where finished_at is null do nothing
        returning id, marker",
        new.pattern,
        new.from,
        new.to,
        new.leg_to,
        replace_nul(&actor.name),
        replace_nul(&actor.reason),
        replace_nul(&actor.source),
        version,
    )
    .fetch_optional(&mut *transaction)
    .await?;
    let Some(inserted) = inserted else {
        return Err(Error::Conflict("the routing map was changed meanwhile: look again".into()));
    };
    note_marker(&mut transaction, inserted.marker, new.from).await?;
    let held = BTreeSet::from([new.leg_to.to_owned()]);
    let both = BTreeSet::from([new.from.to_owned(), new.leg_to.to_owned()]);
    hold(&mut transaction, inserted.id, &both, &held).await?;
    transaction.commit().await?;
    Ok(inserted.id)
}

async fn note_marker(connection: &mut Connection, marker: Uuid, lane: &str) -> Result<(), Error> {
    sqlx::query!("insert into routing_marker (marker, lane) values ($1, $2)", marker, lane)
        .execute(connection)
        .await?;
    Ok(())
}

/// Ends what workers do on these lanes, and keeps them from acquiring those that are held. A worker
/// that acquires another of them later sees by the version that it has read the map before.
async fn hold(
    connection: &mut Connection,
    change: i64,
    lanes: &BTreeSet<String>,
    held: &BTreeSet<String>,
) -> Result<(), Error> {
    let lanes: Vec<String> = lanes.iter().cloned().collect();
    let held: Vec<String> = held.iter().cloned().collect();
    sqlx::query!(
        "insert into lane (name, epoch, owner, held_by_change)
        select name, 1, '', case when name = any($2) then $3::bigint end
        from unnest($1::text[]) name order by name
        on conflict (name) do update set epoch = lane.epoch + 1, token = gen_random_uuid(),
            held_by_change = excluded.held_by_change",
        &lanes,
        &held,
        change,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!("update routing_map set version = version + 1").execute(connection).await?;
    Ok(())
}

/// Notes that `topology apply` is about to change bindings: from now on it has to come to this end.
pub async fn enter_binding(
    connection: &mut Connection,
    id: i64,
    map: &RoutingMap,
) -> Result<(), Error> {
    let mut transaction = begin(connection).await?;
    sqlx::query!(
        "update routing_change set step = 'binding', target = $2
        where id = $1 and finished_at is null",
        id,
        json!({ "lanes": map.lanes, "patterns": map.patterns }),
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

/// The map as it is now; its version grows.
async fn write_map(connection: &mut Connection, map: &RoutingMap) -> Result<(), Error> {
    let lanes: Vec<String> = map.lanes.iter().cloned().collect();
    let patterns: Vec<String> = map.patterns.keys().cloned().collect();
    let pattern_lanes: Vec<String> = map.patterns.values().cloned().collect();
    sqlx::query!(
        "insert into routing_map (version) values (1)
        on conflict (only_row) do update set version = routing_map.version + 1, applied_at = now()"
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "insert into routing_lane (name, active) select name, true from unnest($1::text[]) name
        on conflict (name) do update set active = true where not routing_lane.active",
        &lanes,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "update routing_lane set active = false where active and name <> all($1::text[])",
        &lanes,
    )
    .execute(&mut *connection)
    .await?;
    // Before others of the same pattern become active.
    sqlx::query!(
        "update routing_binding b set active = false where active and not exists (
            select from unnest($1::text[], $2::text[]) given (pattern, lane)
            where given.pattern = b.pattern and given.lane = b.lane)",
        &patterns,
        &pattern_lanes,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "insert into routing_binding (pattern, lane, active)
        select pattern, lane, true from unnest($1::text[], $2::text[]) given (pattern, lane)
        on conflict (pattern, lane) do update set active = true where not routing_binding.active",
        &patterns,
        &pattern_lanes,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends `topology apply`: the map is this now, and its lanes are released.
pub async fn finish_apply(
    connection: &mut Connection,
    id: i64,
    map: &RoutingMap,
) -> Result<(), Error> {
    let mut transaction = begin(connection).await?;
    write_map(&mut transaction, map).await?;
    end(&mut transaction, id, "finished").await?;
    transaction.commit().await?;
    Ok(())
}

/// Ends a change that has changed nothing.
pub async fn cancel(connection: &mut Connection, id: i64) -> Result<(), Error> {
    let mut transaction = begin(connection).await?;
    end(&mut transaction, id, "cancelled").await?;
    transaction.commit().await?;
    Ok(())
}

async fn end(connection: &mut Connection, id: i64, step: &str) -> Result<(), Error> {
    sqlx::query!("update lane set held_by_change = null where held_by_change = $1", id)
        .execute(&mut *connection)
        .await?;
    sqlx::query!(
        "update routing_change set step = $2, finished_at = now()
        where id = $1 and finished_at is null",
        id,
        step,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The broker routes the pattern to the end of the leg now: so says the map, and the other lane is
/// drained.
pub async fn enter_draining(
    connection: &mut Connection,
    id: i64,
    map: &RoutingMap,
) -> Result<(), Error> {
    let mut transaction = begin(connection).await?;
    write_map(&mut transaction, map).await?;
    sqlx::query!(
        "update routing_change set step = 'draining' where id = $1 and finished_at is null",
        id,
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

/// Notes that everything before these markers is processed. By the owner of the lane.
pub async fn note_drained(
    connection: &mut Connection,
    fence: &Fence,
    markers: &[Uuid],
) -> Result<(), Error> {
    let mut transaction = connection.begin().await?;
    fence::check(&mut transaction, fence).await?;
    sqlx::query!(
        "update routing_change set drained_at = now()
        where marker = any($1) and drained_at is null and finished_at is null",
        markers,
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

/// Begins the second leg of a move: its first one is drained.
pub async fn begin_second_leg(
    connection: &mut Connection,
    id: i64,
    leg_from: &str,
    leg_to: &str,
) -> Result<(), Error> {
    let mut transaction = begin(connection).await?;
    let marker = sqlx::query_scalar!(
        "update routing_change set step = 'rerouting', leg_from = $2, leg_to = $3,
            marker = gen_random_uuid(), drained_at = null
        where id = $1 and finished_at is null and leg_from <> $2 returning marker",
        id,
        leg_from,
        leg_to,
    )
    .fetch_one(&mut *transaction)
    .await?;
    note_marker(&mut transaction, marker, leg_from).await?;
    sqlx::query!("update lane set held_by_change = null where held_by_change = $1", id)
        .execute(&mut *transaction)
        .await?;
    let from =
        sqlx::query_scalar!(r#"select from_lane as "lane!" from routing_change where id = $1"#, id)
            .fetch_one(&mut *transaction)
            .await?;
    let lanes = BTreeSet::from([from.clone(), leg_from.to_owned(), leg_to.to_owned()]);
    hold(&mut transaction, id, &lanes, &BTreeSet::from([leg_to.to_owned()])).await?;
    transfer_waiting(&mut transaction, id, &from, leg_from).await?;
    transaction.commit().await?;
    Ok(())
}

/// Ends a move: what comes to the drained lane from now on does not belong there.
pub async fn finish_move(
    connection: &mut Connection,
    id: i64,
    leg_from: &str,
    leg_to: &str,
) -> Result<(), Error> {
    let mut transaction = begin(connection).await?;
    hold(&mut transaction, id, &BTreeSet::from([leg_from.to_owned()]), &BTreeSet::new()).await?;
    transfer_waiting(&mut transaction, id, leg_from, leg_to).await?;
    end(&mut transaction, id, "finished").await?;
    transaction.commit().await?;
    Ok(())
}

/// Lets what waits behind dead letters of an org wait in the lane at the end of the leg, at its places:
/// the org's commands come there from now on. Only of a pattern that is all of an org: what waits does
/// not say by which routing key it came. To be called once the drained lane has lost its epoch in this
/// transaction: what its owner committed before is seen, and it commits nothing after. The other lane is
/// held.
async fn transfer_waiting(
    connection: &mut Connection,
    change: i64,
    from: &str,
    to: &str,
) -> Result<(), Error> {
    sqlx::query!(
        "with moved as (
            select o.id from routing_change c join org o on c.pattern = o.code || '.#' where c.id = $1
        ), holds as (
            update hold set lane = $3 where lane = $2 and org_id in (select id from moved)
        )
        update parked_command set lane = $3 where lane = $2 and org_id in (select id from moved)",
        change,
        from,
        to,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// How many dead letters hold customers, and how many commands are parked behind them, in the lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Holds that are not released.
    pub holds: i64,
    /// Parked commands that are not applied.
    pub parked: i64,
}

/// What waits behind dead letters in a lane, and so is not in its queue; of one org, if one is named.
pub async fn waiting_behind_dead_letters(
    connection: &mut Connection,
    lane: &str,
    org: Option<&str>,
) -> Result<Waiting, Error> {
    let waiting = sqlx::query_as!(
        Waiting,
        r#"select
            (select count(*) from hold where lane = $1 and released_at is null
                and ($2::text is null or org_id = (select id from org where code = $2))) as "holds!",
            (select count(*) from parked_command where lane = $1 and applied_at is null
                and ($2::text is null or org_id = (select id from org where code = $2))) as "parked!""#,
        lane,
        org,
    )
    .fetch_one(connection)
    .await?;
    Ok(waiting)
}
