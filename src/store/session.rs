//! A lane's own way to the database: a connection opened when needed and dropped when in
//! doubt, and the catalogue as last read over it.
//!
//! Not a pool: a transaction on a pooled connection is not safe to abandon, and each connection of
//! a lane has one transaction at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::domain::program::Catalogue;
use crate::store::catalogue;
use crate::store::connection::{self, Connection};
use crate::store::doctor;
use crate::store::error::Error;

/// The share of the bound on a batch's work that may go into connecting: what is left is for the
/// work, however many hosts were silent.
const CONNECT_SHARE: f64 = 0.5;

/// See the module.
pub struct Session {
    database_url: String,
    name: String,
    /// Bounds a batch's work: sqlx has no TCP keepalive, a half-open socket would hang for ever.
    timeout: Duration,
    connection: Option<Connection>,
    /// As read over this connection: another may lead to a database that was restored, and counts
    /// versions anew.
    catalogue: Option<Arc<Catalogue>>,
    /// That of the customers, when the catalogue was asked for last.
    customers_version: i64,
    /// How many connections the lane's sessions have discarded.
    discarded: Arc<AtomicU64>,
    /// How many it were when this one's was opened.
    discarded_before: u64,
}

impl Session {
    /// Connects when first used. `name` is shown in `pg_stat_activity`; what takes longer than
    /// `timeout` is given up on both sides.
    #[must_use]
    pub fn new(database_url: String, name: String, timeout: Duration) -> Self {
        Self {
            database_url,
            name,
            timeout,
            connection: None,
            catalogue: None,
            customers_version: 0,
            discarded: Arc::default(),
            discarded_before: 0,
        }
    }

    /// A further one of the same lane. What one of them discards none of them uses again: after a
    /// failover the server that is left behind may go on answering clients that only read.
    #[must_use]
    pub fn another(&self) -> Self {
        let fresh = Self::new(self.database_url.clone(), self.name.clone(), self.timeout);
        Self { discarded: Arc::clone(&self.discarded), ..fresh }
    }

    /// The bound for [`bounded`] work on this session.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The connection, opened now if there is none.
    pub async fn connection(&mut self) -> Result<&mut Connection, Error> {
        let discarded = self.discarded.load(Ordering::Relaxed);
        let kept = self.connection.take().filter(|_| self.discarded_before == discarded);
        let connection = if let Some(connection) = kept {
            connection
        } else {
            self.discarded_before = discarded;
            self.catalogue = None;
            let within = self.timeout.mul_f64(CONNECT_SHARE);
            let mut fresh =
                connection::connect_within(within, &self.database_url, &self.name).await?;
            connection::configure_for_batches(&mut fresh, self.timeout).await?;
            fresh
        };
        Ok(self.connection.insert(connection))
    }

    /// Whether the server keeps what it commits.
    pub async fn is_durable(&mut self) -> Result<bool, Error> {
        doctor::durable(self.connection().await?).await
    }

    /// Closes the connection without a word. Right after any outage or abandoned work: what a
    /// transaction on it had come to is unknown, and the server undoes what was not committed.
    pub fn discard(&mut self) {
        if self.connection.take().is_some() {
            self.discarded.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The version that the customers had when [`Session::catalogue`] was called last: those that
    /// were loaded since are as new, or newer.
    #[must_use]
    pub fn customers_version(&self) -> i64 {
        self.customers_version
    }

    /// The catalogue, read again if its version has moved.
    pub async fn catalogue(&mut self) -> Result<Arc<Catalogue>, Error> {
        let connection = self.connection().await?;
        let versions = catalogue::versions(connection).await?;
        self.customers_version = versions.customers;
        let is_current = |known: &&Arc<Catalogue>| known.version == versions.catalogue;
        if let Some(known) = self.catalogue.as_ref().filter(is_current) {
            return Ok(Arc::clone(known));
        }
        let connection = self.connection().await?;
        let read = Arc::new(catalogue::load(connection).await?);
        Ok(Arc::clone(self.catalogue.insert(read)))
    }
}

/// Bounds work beside the lanes: a little longer than the server bounds a statement, so that only a
/// server that says nothing more meets it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(70);

/// Does `work` beside the lanes, a statement or a few. After an [`Error::Outage`] its connection is to be
/// dropped.
pub async fn answered<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    bounded(ANSWER_TIMEOUT, work).await
}

/// Does `work`, which uses a session's connection, within its timeout. After an error the
/// session's connection is to be discarded.
pub async fn bounded<T>(
    timeout: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(timeout, work).await {
        Ok(done) => done,
        Err(_elapsed) => Err(Error::timeout("the database", timeout)),
    }
}
