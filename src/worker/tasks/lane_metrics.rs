//! Stores the metrics of the worker's lanes every few seconds, so that the console need not ask the worker.
//!
//! A sample that can't be written is not missed: the next one covers its time, too. The same task says
//! that the worker lives, and sees whether others have its id (`worker::tasks::presence`).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use histogram::Histogram;

use crate::failpoint::{self, Point};
use crate::periodic::Periodic;
use crate::store::lane_metrics::{self, Sample};
use crate::store::session::{self, Session};
use crate::worker::context::TaskContext;
use crate::worker::counters::{Counters, LaneCounters};
use crate::worker::error::Error;
use crate::worker::tasks::presence::Presence;

/// As often as the console looks.
const INTERVAL: Duration = Duration::from_secs(5);

/// Says it until `shutdown`.
pub(crate) async fn run(context: TaskContext, counters: LaneCounters) -> Result<(), Error> {
    let TaskContext { config, urls, shutdown, .. } = context;
    let name = format!("partner-program samples {}", config.worker_id);
    let mut session = Session::new(urls.database_url.clone(), name, config.database_timeout());
    let mut before: Option<Reading> = None;
    let process = counters.process();
    let mut presence = Presence::of(&config.worker_id, process, counters.clone());
    let mut leaving = session.another();
    let mut periodic = Periodic::new(INTERVAL, shutdown);
    while periodic
        .run(async {
            failpoint::reach(Point::BackgroundTask);
            for (lane, counters) in counters.iter() {
                counters.events.log_if_due(lane);
            }
            let now = Reading::of(&counters);
            presence.report(&mut session).await;
            let Some(last) = &before else {
                before = Some(now);
                return;
            };
            let samples: Vec<Sample> = now.since(last).collect();
            let over = now.at - last.at;
            let writing = session::bounded(session.timeout(), async {
                let connection = session.connection().await?;
                lane_metrics::add(connection, process, over, &samples).await
            });
            match writing.await {
                Ok(()) => before = Some(now),
                Err(error) => {
                    tracing::debug!("lane metrics could not be stored; they are retried: {error}");
                    session.discard();
                }
            }
        })
        .await
        .is_some()
    {}
    presence.leave(&mut leaving).await;
    Ok(())
}

/// The counters at a moment.
struct Reading {
    at: Instant,
    lanes: HashMap<String, LaneReading>,
}

struct LaneReading {
    completed: u64,
    answered: Histogram,
    oldest: Option<Duration>,
}

impl Reading {
    fn of(counters: &LaneCounters) -> Self {
        let lane = |(name, counters): (&str, &Counters)| {
            let age = |sent_at: DateTime<Utc>| (Utc::now() - sent_at).to_std().unwrap_or_default();
            let reading = LaneReading {
                completed: counters.completed(),
                answered: counters.answered().all(),
                oldest: counters.in_flight.oldest().map(age),
            };
            (name.to_owned(), reading)
        };
        Self { at: Instant::now(), lanes: counters.iter().map(lane).collect() }
    }

    /// What has come to each lane after `before`, which is of the same worker.
    fn since(&self, before: &Self) -> impl Iterator<Item = Sample> {
        self.lanes.iter().filter_map(|(name, lane)| {
            let before = before.lanes.get(name)?;
            let took = lane.answered.wrapping_sub(&before.answered).ok()?;
            let quantile = |share| {
                let bucket = took.quantile(share).ok()??.entries().first_key_value()?.1.end();
                Some(Duration::from_micros(bucket))
            };
            Some(Sample {
                lane: name.clone(),
                commands: lane.completed.wrapping_sub(before.completed),
                p50: quantile(0.5),
                p99: quantile(0.99),
                oldest: lane.oldest,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_what_came_since_the_one_before() {
        let counters = LaneCounters::named(["main", "idle"]);
        let main = counters.lane("main");
        main.answered.observe(Duration::from_secs(100));
        Counters::add(&main.applied, 1);
        let before = Reading::of(&counters);
        for milliseconds in 1..=1_000 {
            main.answered.observe(Duration::from_millis(milliseconds));
        }
        Counters::add(&main.applied, 900);
        Counters::add(&main.rejected, 100);
        main.in_flight.add(1, Utc::now() - Duration::from_mins(2));

        let mut samples: Vec<Sample> = Reading::of(&counters).since(&before).collect();
        samples.sort_by(|a, b| a.lane.cmp(&b.lane));
        let [idle, main] = &samples[..] else { panic!("{samples:?}") };
        assert_eq!((idle.commands, idle.p50, idle.p99, idle.oldest), (0, None, None, None));
        assert_eq!(main.commands, 1_000);
        let near = |told: Option<Duration>, milliseconds: f64| {
            let told = told.unwrap().as_secs_f64() * 1_000.0;
            assert!((told / milliseconds - 1.0).abs() < 0.01, "{told}");
        };
        near(main.p50, 500.0);
        near(main.p99, 990.0);
        assert_eq!(main.oldest.unwrap().as_secs(), 120);
    }
}
