//! Plain lapin and sqlx, one transaction per message: connections, deliveries, results.
//!
//! Each task owns a channel to publish on: tasks that share one can get each other's confirms.

mod apply;
mod command;
mod rules;

use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;
use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicPublishOptions, BasicQosOptions,
    BasicRejectOptions, ConfirmSelectOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::apply::{Catalogue, Error, Stored};
use crate::command::Command;

const RESULTS_EXCHANGE: &str = "partner-program.results";
const PERSISTENT: u8 = 2;

#[derive(Parser)]
struct Args {
    #[arg(long, env = "DATABASE_URL")]
    database_url: String,
    #[arg(long, env = "AMQP_URL")]
    amqp_url: String,
    /// Commands that are worked on at once, each on a database connection of its own
    #[arg(long, env = "PEER_CONCURRENCY", default_value_t = 48)]
    concurrency: u16,
    /// Unacknowledged deliveries; by default twice the concurrency
    #[arg(long, env = "PEER_PREFETCH")]
    prefetch: Option<u16>,
    #[arg(long, env = "PEER_QUEUE", default_value = "partner-program.commands.main")]
    queue: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    rustls::crypto::ring::default_provider().install_default().ok().context("TLS")?;
    let pool = PgPoolOptions::new()
        .min_connections(args.concurrency.into())
        .max_connections(args.concurrency.into())
        .test_before_acquire(false)
        .connect(&args.database_url)
        .await?;
    let consuming = Connection::connect(&args.amqp_url, ConnectionProperties::default()).await?;
    let publishing = Connection::connect(&args.amqp_url, ConnectionProperties::default()).await?;
    let channel = consuming.create_channel().await?;
    let prefetch = args.prefetch.unwrap_or(2 * args.concurrency);
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let consumer = channel
        .basic_consume(
            args.queue.as_str().into(),
            "peer".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    let deliveries = Arc::new(Mutex::new(consumer));
    let catalogue = Arc::new(Catalogue::default());
    let stop = CancellationToken::new();
    let mut workers = JoinSet::new();
    for _ in 0..args.concurrency {
        let publisher = publishing.create_channel().await?;
        publisher.confirm_select(ConfirmSelectOptions::default()).await?;
        let worker = Worker { pool: pool.clone(), catalogue: Arc::clone(&catalogue), publisher };
        workers.spawn(worker.run(Arc::clone(&deliveries), stop.clone()));
    }
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => stop.cancel(),
        Some(ended) = workers.join_next() => ended??,
    }
    while let Some(ended) = workers.join_next().await {
        ended??;
    }
    consuming.close(200, "done".into()).await?;
    publishing.close(200, "done".into()).await?;
    pool.close().await;
    Ok(())
}

struct Worker {
    pool: PgPool,
    catalogue: Arc<Catalogue>,
    publisher: Channel,
}

impl Worker {
    async fn run(
        self,
        deliveries: Arc<Mutex<Consumer>>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        loop {
            let next = async { deliveries.lock().await.next().await };
            let delivery = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                delivery = next => delivery.context("the broker ended the subscription")??,
            };
            match self.handle(&delivery).await {
                Ok(()) => delivery.ack(BasicAckOptions::default()).await?,
                Err(Error::Refused(why)) => {
                    eprintln!("refused: {why}");
                    delivery.reject(BasicRejectOptions { requeue: false }).await?
                }
                Err(error) => {
                    if !matches!(error, Error::Conflict) {
                        eprintln!("{error}");
                    }
                    delivery.nack(BasicNackOptions { requeue: true, multiple: false }).await?
                }
            };
        }
    }

    /// Commits, publishes the result and waits for its confirm.
    async fn handle(&self, delivery: &Delivery) -> Result<(), Error> {
        let command = Command::parse(delivery)?;
        let mut transaction = self.pool.begin().await?;
        let stored = apply::apply(&mut transaction, &self.catalogue, &command).await?;
        transaction.commit().await?;
        self.publish(&command, &stored).await?;
        Ok(())
    }

    async fn publish(&self, command: &Command, stored: &Stored) -> Result<(), Error> {
        let operation = &stored.operation;
        let mut headers = FieldTable::default();
        headers.insert("command-id".into(), AMQPValue::LongString(command.id.as_str().into()));
        headers.insert("items-total".into(), AMQPValue::LongInt(stored.items_total));
        headers.insert("items-succeeded".into(), AMQPValue::LongInt(stored.items_succeeded));
        headers.insert("items-failed".into(), AMQPValue::LongInt(stored.items_failed));
        let correlation_id = command.correlation_id.as_ref().unwrap_or(&command.id);
        let properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_message_id(format!("{}.result", command.id).into())
            .with_correlation_id(correlation_id.as_str().into())
            .with_type(format!("partner-program.{operation}.result.v1").into())
            .with_content_type("application/json".into())
            .with_headers(headers);
        let routing_key = format!("{}.{operation}.{}", command.org, stored.verdict);
        let confirmation = self
            .publisher
            .basic_publish(
                RESULTS_EXCHANGE.into(),
                routing_key.into(),
                BasicPublishOptions::default(),
                &stored.result,
                properties,
            )
            .await?
            .await?;
        if confirmation.is_nack() { Err(Error::Unconfirmed) } else { Ok(()) }
    }
}
