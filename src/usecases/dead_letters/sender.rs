//! The way of replays to the broker: opened when needed, opened again after a fault.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::broker::connection::Connection;
use crate::broker::error::Error as BrokerError;
use crate::broker::installation;
use crate::broker::publisher::{Publisher, Receipt};
use crate::config::Config;
use crate::message::Message;
use crate::retry::Backoff;
use crate::usecases::dead_letters::error::Error;
use crate::wire::frame;

/// How often a batch is sent before the broker counts as unavailable.
const TRIES: u32 = 6;
/// The first and the longest pause between them.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// See the module.
pub(super) struct Sender<'a> {
    config: &'a Config,
    /// Whose broker it has to be.
    installation: Uuid,
    /// Who publishes, where workers ask for that.
    user: Option<String>,
    open: Option<(Arc<Connection>, Publisher)>,
}

impl<'a> Sender<'a> {
    pub(super) fn new(config: &'a Config, installation: Uuid, user: Option<String>) -> Self {
        let user = user.filter(|_| !config.publishers.is_empty());
        Self { config, installation, user, open: None }
    }

    /// Fails if the broker is another installation's. One that is unavailable may be looked at later.
    pub(super) async fn check(&mut self) -> Result<(), Error> {
        match self.connect().await {
            Ok(open) => self.open = Some(open),
            Err(Error::Broker(error @ BrokerError::Outage(_))) => {
                tracing::debug!("broker unavailable; the first replay connects again: {error}");
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Publishes all of them, in order, and waits for every confirm. After a fault all are sent
    /// again: their ids let them count once.
    pub(super) async fn send(&mut self, messages: &[Message]) -> Result<Vec<Receipt>, Error> {
        let mut pause = Backoff::new(PAUSE.0, PAUSE.1);
        for _ in 1..TRIES {
            match self.try_send(messages).await {
                Ok(receipts) => return Ok(receipts),
                Err(Error::Broker(
                    error @ (BrokerError::Outage(_) | BrokerError::Unconfirmed(_)),
                )) => {
                    tracing::warn!("replays were not confirmed; they are sent again: {error}");
                    self.close().await;
                    pause.wait().await;
                }
                Err(error) => return Err(error),
            }
        }
        self.try_send(messages).await
    }

    async fn try_send(&mut self, messages: &[Message]) -> Result<Vec<Receipt>, Error> {
        let (connection, mut publisher) = match self.open.take() {
            Some(open) => open,
            None => self.connect().await?,
        };
        let mut messages = messages.to_vec();
        for message in &mut messages {
            let dropped = frame::fit(message, connection.frame_max());
            if dropped > 0 {
                tracing::warn!(
                    "a replay goes without {dropped} headers, which the broker would refuse or which fit no frame"
                );
            }
        }
        let receipts = publisher.publish(&messages).await;
        self.open = Some((connection, publisher));
        Ok(receipts?)
    }

    async fn connect(&self) -> Result<(Arc<Connection>, Publisher), Error> {
        let name = format!("partner-program replay {}", self.config.worker_id);
        let connection = Arc::new(Connection::open(self.config.amqp_url()?, &name).await?);
        if let Some(problem) =
            installation::owner(&connection, self.installation).await?.problem(self.installation)
        {
            connection.close().await;
            return Err(Error::Conflict(format!("nothing was replayed: {problem}")));
        }
        let timeout = self.config.confirm_timeout();
        let publisher = match &self.user {
            Some(user) => Publisher::open_as(user, &connection, timeout).await?,
            None => Publisher::open(&connection, timeout).await?,
        };
        Ok((connection, publisher))
    }

    pub(super) async fn close(&mut self) {
        if let Some((connection, _)) = self.open.take() {
            connection.close().await;
        }
    }
}
