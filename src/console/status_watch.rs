//! Looks at the system every few seconds.
//!
//! Pages, probes and scrapers read the last status. However many they are, they cost the servers
//! nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::TryFutureExt as _;
use tokio_util::sync::CancellationToken;

use crate::broker::connection::Connection as BrokerConnection;
use crate::broker::depth::{self, Depth};
use crate::broker::{self, topology};
use crate::console::app::{App, Shared};
use crate::periodic::Periodic;
use crate::store::connection::{self, Connection};
use crate::store::error::Error as StoreError;
use crate::store::health::{self, Letters};
use crate::store::lane_metrics::{self, Present};
use crate::store::lane_pauses::{self, Pause};
use crate::store::lane_waiting::{self, Look};

use crate::console::status::{Lane, Server};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(5);
/// How long a look at one server may take.
const LOOK_MAX: Duration = Duration::from_secs(10);
/// Looks that are kept: an hour of them.
const LOOKS_KEPT: usize = 720;

/// Looks until `shutdown`.
pub(super) async fn run(app: Shared, shutdown: CancellationToken) {
    let mut watch = StatusWatch { app, database: None, broker: None, stored: None };
    let mut periodic = Periodic::new(EVERY, shutdown);
    while periodic.run(watch.look()).await.is_some() {}
    if let Some(broker) = &watch.broker {
        broker.close().await;
    }
}

struct StatusWatch {
    app: Shared,
    database: Option<Connection>,
    broker: Option<Arc<BrokerConnection>>,
    /// The last number of commands, and when it was read.
    stored: Option<(i64, DateTime<Utc>)>,
}

/// What the database says.
struct Seen {
    lanes: Vec<health::Lane>,
    pauses: Vec<Pause>,
    present: Vec<Present>,
    commands_stored: i64,
    letters: Letters,
}

impl StatusWatch {
    async fn look(&mut self) {
        let app = Arc::clone(&self.app);
        let seen = bounded(self.ask_database()).await;
        let database = match &seen {
            Ok(_) => Server::Up,
            Err(problem) => {
                self.database = None;
                Server::Down(problem.clone())
            }
        };
        let names = lane_names(&app, seen.as_ref().ok());
        let depths = bounded(self.ask_broker(&names)).await;
        let broker = match &depths {
            Ok(_) => Server::Up,
            Err(problem) => {
                self.broker = None;
                Server::Down(problem.clone())
            }
        };
        let sample = seen.as_ref().ok().and_then(|seen| self.sample(seen.commands_stored));
        let waiting = match (&seen, &depths) {
            (Ok(seen), Ok(depths)) => self.note_waiting(&names, &seen.lanes, depths).await,
            (Err(_), _) | (_, Err(_)) => HashMap::new(),
        };
        app.status.change(|latest| {
            latest.database = database;
            latest.broker = broker;
            let (held, present) = if let Ok(seen) = seen {
                latest.letters = seen.letters;
                latest.pauses = seen.pauses;
                latest.commands_stored = seen.commands_stored;
                (seen.lanes, seen.present)
            } else {
                let held = latest.lanes.iter().filter_map(|lane| lane.held.clone());
                (held.collect(), Vec::new())
            };
            let depths = depths.unwrap_or_default();
            latest.letters_waiting = depths.letters;
            latest.lanes = names
                .iter()
                .enumerate()
                .map(|(place, name)| Lane {
                    name: name.clone(),
                    held: held.iter().find(|lane| lane.name == *name).cloned(),
                    depth: depths.lanes.get(place).copied().flatten(),
                    present: present.iter().find(|present| present.lane == *name).cloned(),
                    waiting_since: waiting.get(name).copied(),
                    is_configured: app.config.lanes.iter().any(|lane| lane.name == *name),
                })
                .collect();
            latest.throughput.extend(sample);
            while latest.throughput.len() > LOOKS_KEPT {
                latest.throughput.pop_front();
            }
        });
    }

    /// Notes which lanes wait, and learns since when, where both servers answer.
    async fn note_waiting(
        &mut self,
        names: &[String],
        held: &[health::Lane],
        depths: &Depths,
    ) -> HashMap<String, DateTime<Utc>> {
        let Some(connection) = &mut self.database else { return HashMap::new() };
        let looks = names.iter().zip(&depths.lanes).filter_map(|(name, depth)| {
            let depth = (*depth)?;
            let epoch = held.iter().find(|lane| lane.name == *name).map_or(0, |lane| lane.epoch);
            let is_waiting = depth.ready > 0 && depth.consumers == 0;
            Some(Look { lane: name.clone(), epoch, is_waiting })
        });
        let looks: Vec<Look> = looks.collect();
        let noting = async {
            lane_waiting::note(connection, &looks).await?;
            lane_waiting::since(connection).await
        };
        match bounded(noting.map_err(|error: StoreError| error.to_string())).await {
            Ok(since) => since,
            Err(error) => {
                self.database = None;
                tracing::debug!("since when commands wait is looked at later: {error}");
                HashMap::new()
            }
        }
    }

    async fn ask_database(&mut self) -> Result<Seen, String> {
        let config = &self.app.config;
        let asking = async {
            if let Some(connection) = &mut self.database
                && !connection::is_writable(connection).await
            {
                self.database = None;
            }
            let connection = match &mut self.database {
                Some(connection) => connection,
                none => {
                    let url = config.database_url().map_err(|error| error.to_string())?;
                    let name = format!("partner-program pulse {}", config.worker_id);
                    let opened = connection::connect(url, &name).await;
                    none.insert(opened.map_err(|error| error.to_string())?)
                }
            };
            let seen = async {
                Ok::<_, StoreError>(Seen {
                    lanes: health::lanes(connection).await?,
                    pauses: lane_pauses::paused(connection).await?,
                    present: lane_metrics::present(connection).await?,
                    commands_stored: health::last_command(connection).await?,
                    letters: health::letters(connection).await?,
                })
            };
            seen.await.map_err(|error| error.to_string())
        };
        asking.await
    }

    async fn ask_broker(&mut self, lanes: &[String]) -> Result<Depths, String> {
        let connection = if let Some(connection) = &self.broker {
            Arc::clone(connection)
        } else {
            let config = &self.app.config;
            let url = config.amqp_url().map_err(|error| error.to_string())?;
            let name = format!("partner-program console {}", config.worker_id);
            let opened = BrokerConnection::open(url, &name).await;
            let opened = Arc::new(opened.map_err(|error| error.to_string())?);
            Arc::clone(self.broker.insert(opened))
        };
        depths(&connection, lanes).await.map_err(|error| error.to_string())
    }

    fn sample(&mut self, stored: i64) -> Option<f64> {
        let at = self.app.clock.now();
        let (before, then) = self.stored.replace((stored, at))?;
        let elapsed = (at - then).max(TimeDelta::milliseconds(1));
        let grown = u32::try_from(stored - before).ok()?;
        let seconds = elapsed.to_std().ok()?.as_secs_f64();
        Some(f64::from(grown) / seconds)
    }
}

#[derive(Default)]
struct Depths {
    lanes: Vec<Option<Depth>>,
    letters: Option<u32>,
}

async fn depths(
    connection: &BrokerConnection,
    lanes: &[String],
) -> Result<Depths, broker::error::Error> {
    let mut found = Depths::default();
    for lane in lanes {
        found.lanes.push(depth::depth(connection, &topology::lane_queue(lane)).await?);
    }
    let letters = depth::depth(connection, topology::DEAD_LETTERS).await?;
    found.letters = letters.map(|depth| depth.ready);
    Ok(found)
}

/// Those of the configuration, then those that only the database knows.
fn lane_names(app: &App, seen: Option<&Seen>) -> Vec<String> {
    let mut names: Vec<String> = app.config.lanes.iter().map(|lane| lane.name.clone()).collect();
    for lane in seen.into_iter().flat_map(|seen| &seen.lanes) {
        if !names.contains(&lane.name) {
            names.push(lane.name.clone());
        }
    }
    names
}

async fn bounded<T>(look: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    match tokio::time::timeout(LOOK_MAX, look).await {
        Ok(seen) => seen,
        Err(_elapsed) => Err(format!("no answer within {LOOK_MAX:?}")),
    }
}
