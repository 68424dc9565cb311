//! Since when commands wait in lanes that no worker consumes.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::store::connection::Connection;
use crate::store::error::Error;

/// What a look has seen of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Its name.
    pub lane: String,
    /// How often it was acquired.
    pub epoch: i64,
    /// Whether commands wait there and none is consumed.
    pub is_waiting: bool,
}

/// Notes what was seen. A lane that was acquired since the last look has been consumed meanwhile.
pub async fn note(connection: &mut Connection, looks: &[Look]) -> Result<(), Error> {
    let (waiting, others): (Vec<&Look>, Vec<&Look>) =
        looks.iter().partition(|look| look.is_waiting);
    let others: Vec<String> = others.into_iter().map(|look| look.lane.clone()).collect();
    let lanes: Vec<String> = waiting.iter().map(|look| look.lane.clone()).collect();
    let epochs: Vec<i64> = waiting.iter().map(|look| look.epoch).collect();
    sqlx::query!(
        "with gone as (delete from lane_waiting where lane = any($1))
        insert into lane_waiting as known (lane, lane_epoch)
        select lane, epoch from unnest($2::text[], $3::bigint[]) as look (lane, epoch) order by lane
        on conflict (lane) do update set lane_epoch = excluded.lane_epoch, since = now()
            where known.lane_epoch <> excluded.lane_epoch",
        &others,
        &lanes,
        &epochs,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Since when the oldest command waits at least, lane by lane.
pub async fn since(connection: &mut Connection) -> Result<HashMap<String, DateTime<Utc>>, Error> {
    let rows = sqlx::query!(
        "select waiting.lane, since from lane_waiting waiting
            left join lane on lane.name = waiting.lane
        where coalesce(lane.epoch, 0) = lane_epoch"
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.lane, row.since)).collect())
}
