//! What the demo plays on: both servers, a worker of its own, an upstream and a subscriber.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::broker::connection::Connection;
use crate::broker::consumer::Consumer;
use crate::broker::follower::Follower;
use crate::broker::publisher::{Publisher, Receipt};
use crate::broker::topology;
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::actor::Actor;
use crate::message::{JSON, Message, Properties};
use crate::store;
use crate::usecases::routing::apply;
use crate::usecases::{import, import_customers};
use crate::worker;
use crate::worker::counters::LaneCounters;

/// The org that the demo imports.
pub(super) const ORG: &str = "acme";
/// Bounds each wait: for a result, for a dead letter, for the worker's drain.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The demonstration acks at once.
const UNACKED_MAX: Duration = Duration::from_mins(30);
const CATALOGUE: &str = include_str!("../../../deploy/demo/catalogue.toml");
const CUSTOMERS: &str = include_str!("../../../deploy/demo/customers.csv");

/// See the module.
pub(super) struct Environment {
    pub(super) database: store::connection::Connection,
    /// Tells this run's commands from those of earlier runs.
    run: String,
    clock: Clock,
    broker: Arc<Connection>,
    publisher: Publisher,
    follower: Follower,
    shutdown: CancellationToken,
    worker: JoinHandle<Result<(), worker::error::Error>>,
}

impl Environment {
    /// Prepares both servers and starts the worker, whose clock shows `start`.
    pub(super) async fn set_up(config: &Config, start: DateTime<Utc>) -> anyhow::Result<Self> {
        let mut database = connect(config).await?;
        store::migrate::run(&mut database).await.context("migrating the database")?;
        let mut database = connect(config).await?;
        import(&mut database).await.context("importing the demo's catalogue and customers")?;
        let broker = Connection::open(config.amqp_url()?, "partner-program demo").await?;
        let broker = Arc::new(broker);
        let map = crate::cli::topology::of(config)?;
        let actor =
            Actor { name: "demo".into(), reason: "topology apply".into(), source: "cli".into() };
        apply::apply(&mut database, &broker, &map, &actor)
            .await
            .context("applying the topology")?;
        let publisher = Publisher::open(&broker, config.confirm_timeout()).await?;
        let follower = Follower::open(&broker, &[format!("{ORG}.#")]).await?;

        let clock = Clock::starting_at(start);
        let shutdown = CancellationToken::new();
        let worker = tokio::spawn({
            // The demo shows a letter as it lies in its queue.
            let config = Config { archive_dead_letters: false, ..config.clone() };
            let (clock, shutdown) = (clock.clone(), shutdown.clone());
            async move {
                let counters = LaneCounters::of(&config);
                worker::run(&config, clock, &counters, shutdown, CancellationToken::new()).await
            }
        });
        let (_, run) = Uuid::new_v4().to_string().rsplit_once('-').map_or_else(
            || (String::new(), String::new()),
            |(head, tail)| (head.to_owned(), tail.to_owned()),
        );
        Ok(Self { database, run, clock, broker, publisher, follower, shutdown, worker })
    }

    /// The id of this run's command `name`.
    pub(super) fn id(&self, name: &str) -> String {
        format!("demo-{}-{name}", self.run)
    }

    /// Publishes a command and waits for what the worker publishes of it.
    pub(super) async fn ask(
        &mut self,
        operation: &str,
        name: &str,
        body: &str,
    ) -> anyhow::Result<Message> {
        let id = self.id(name);
        let command = Message {
            exchange: topology::COMMANDS.to_owned(),
            routing_key: format!("{ORG}.{operation}"),
            properties: Properties {
                message_id: Some(id.clone()),
                content_type: Some(JSON.to_owned()),
                app_id: Some("partner-program demo".to_owned()),
                timestamp: Some(self.clock.now()),
                ..Properties::default()
            },
            body: body.as_bytes().to_vec(),
        };
        let receipts = self.publisher.publish(std::slice::from_ref(&command)).await?;
        if receipts != [Receipt::Routed] {
            bail!("the broker did not take the command `{id}`: is the topology as it should be?");
        }
        let answer = async {
            loop {
                let event = self.follower.next().await?;
                if event.properties.correlation_id.as_deref() == Some(&id) {
                    return anyhow::Ok(event);
                }
            }
        };
        tokio::time::timeout(TIMEOUT, answer)
            .await
            .with_context(|| format!("no result of the command `{id}` within {TIMEOUT:?}"))?
    }

    /// The dead letter of this run's command `name`. It stays in its queue: a channel that closes
    /// gives back what it has not acked.
    pub(super) async fn dead_letter(&mut self, name: &str) -> anyhow::Result<Message> {
        let id = self.id(name);
        let mut letters =
            Consumer::subscribe(&self.broker, topology::DEAD_LETTERS, 1000, "demo", UNACKED_MAX)
                .await?;
        let found = async {
            loop {
                let letter = letters.next().await?.message;
                if letter.properties.message_id.as_deref() == Some(&id) {
                    return anyhow::Ok(letter);
                }
            }
        };
        let found = tokio::time::timeout(TIMEOUT, found).await;
        letters.close().await;
        found.with_context(|| format!("no dead letter of `{id}` within {TIMEOUT:?}"))?
    }

    /// Drains the worker and says goodbye to the servers.
    pub(super) async fn tear_down(self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        tokio::time::timeout(TIMEOUT, self.worker)
            .await
            .context("the worker did not drain in time")?
            .context("the worker's task")??;
        self.follower.close().await;
        self.broker.close().await;
        Ok(())
    }
}

async fn connect(config: &Config) -> anyhow::Result<store::connection::Connection> {
    Ok(store::connection::connect(config.database_url()?, "partner-program demo").await?)
}

async fn import(database: &mut store::connection::Connection) -> anyhow::Result<()> {
    import::merge(database, &import::catalogue(CATALOGUE)?).await?;
    import_customers::merge(database, CUSTOMERS.as_bytes(), false, |_| {}).await?;
    Ok(())
}
