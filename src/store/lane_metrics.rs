//! How each lane fares, as its worker says every few seconds.

use std::time::Duration;

use chrono::TimeDelta;
use sqlx::Connection as _;
use uuid::Uuid;

use crate::store::connection::Connection;
use crate::store::error::Error;

/// A sample older than this, in seconds, says nothing about the present: no worker owns the lane.
const PRESENT_SECONDS: f64 = 20.0;

/// What a lane's worker has done since its last sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The lane.
    pub lane: String,
    /// Commands answered, parked or dead-lettered.
    pub commands: u64,
    /// Half of them took no longer from their arrival to the confirm of the answer; `None` where none
    /// was answered.
    pub p50: Option<Duration>,
    /// 99 in 100 took no longer.
    pub p99: Option<Duration>,
    /// The age of the oldest command in the worker's hands; `None` where it has none.
    pub oldest: Option<Duration>,
}

/// How a lane fares.
#[derive(Clone, Debug, PartialEq)]
pub struct Present {
    /// The lane.
    pub lane: String,
    /// Commands answered, parked or dead-lettered a second, as of its last sample.
    pub per_second: f64,
    /// In milliseconds, from a command's arrival to the confirm of its answer: half took no longer,
    /// in the slowest sample of the last minute.
    pub p50_ms: Option<f32>,
    /// In milliseconds, as before: 99 in 100 took no longer.
    pub p99_ms: Option<f32>,
    /// The age of the oldest command that was being worked, which is the head of the queue.
    pub oldest_ms: Option<i64>,
}

impl Present {
    /// The age of the oldest command that was being worked.
    #[must_use]
    pub fn oldest(&self) -> Option<TimeDelta> {
        self.oldest_ms.and_then(TimeDelta::try_milliseconds)
    }
}

/// A lane's commands a second, minute by minute.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The lane.
    pub lane: String,
    /// Commands in each of the last 60 minutes, oldest first.
    pub commands: Vec<i64>,
}

/// Adds the samples of those lanes that `process` acquired last: no other process writes them. They may
/// be lost with the server, which is why nothing waits for its disk.
pub async fn add(
    connection: &mut Connection,
    process: Uuid,
    over: Duration,
    samples: &[Sample],
) -> Result<(), Error> {
    let milliseconds = |of: fn(&Sample) -> Option<Duration>| -> Vec<Option<f32>> {
        samples.iter().map(|sample| of(sample).map(|took| took.as_secs_f32() * 1_000.0)).collect()
    };
    let whole = |number: u128| i64::try_from(number).unwrap_or(i64::MAX);
    let lanes: Vec<String> = samples.iter().map(|sample| sample.lane.clone()).collect();
    let commands: Vec<i64> = samples.iter().map(|sample| whole(sample.commands.into())).collect();
    let oldest: Vec<Option<i64>> =
        samples.iter().map(|sample| sample.oldest.map(|age| whole(age.as_millis()))).collect();
    let mut transaction = connection.begin().await?;
    sqlx::query!("set local synchronous_commit = off").execute(&mut *transaction).await?;
    sqlx::query!(
        "insert into lane_metric (lane, interval_ms, commands, p50_ms, p99_ms, oldest_ms)
        select name, $2, commands, p50_ms, p99_ms, oldest_ms
        from unnest($3::text[], $4::bigint[], $5::real[], $6::real[], $7::bigint[])
            as sample (name, commands, p50_ms, p99_ms, oldest_ms)
        join lane using (name)
        where process = $1",
        process,
        i32::try_from(over.as_millis()).unwrap_or(i32::MAX).max(1),
        &lanes,
        &commands,
        &milliseconds(|sample| sample.p50) as &[Option<f32>],
        &milliseconds(|sample| sample.p99) as &[Option<f32>],
        &oldest as &[Option<i64>],
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

/// How each lane fares that is being worked, by name.
pub async fn present(connection: &mut Connection) -> Result<Vec<Present>, Error> {
    let present = sqlx::query_as!(
        Present,
        r#"select lane, max(p50_ms) as p50_ms, max(p99_ms) as p99_ms,
            ((array_agg(commands * 1000.0 / interval_ms order by measured_at desc))[1])::float8
                as "per_second!",
            (array_agg(oldest_ms order by measured_at desc))[1] as oldest_ms
        from lane_metric
        where measured_at > now() - interval '1 minute'
        group by lane having max(measured_at) > now() - make_interval(secs => $1)
        order by lane"#,
        PRESENT_SECONDS,
    )
    .fetch_all(connection)
    .await?;
    Ok(present)
}

/// Each lane's last hour, by name. A lane that no worker owned has none.
pub async fn last_hour(connection: &mut Connection) -> Result<Vec<Series>, Error> {
    let series = sqlx::query_as!(
        Series,
        r#"with hour as (
            select lane, (extract(epoch from now() - measured_at) / 60)::int as minutes_ago, commands
            from lane_metric
            where measured_at > now() - interval '59 minutes 30 seconds'
        ), minute as (
            select lane, minutes_ago, sum(commands)::bigint as commands from hour group by 1, 2
        )
        select lanes.lane as "lane!",
            array_agg(coalesce(minute.commands, 0) order by ago desc) as "commands!"
        from (select distinct lane from hour) lanes
        cross join generate_series(0, 59) ago
        left join minute on minute.lane = lanes.lane and minutes_ago = ago
        group by 1 order by 1"#,
    )
    .fetch_all(connection)
    .await?;
    Ok(series)
}

/// Forgets those of more than a day ago.
pub async fn forget_old(connection: &mut Connection) -> Result<(), Error> {
    sqlx::query!("delete from lane_metric where measured_at < now() - interval '1 day'")
        .execute(connection)
        .await?;
    Ok(())
}
