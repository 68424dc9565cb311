//! A lane's own way to the database: a connection opened when needed and thrown away when in
//! doubt, and the catalogue as last read over it.
//!
//! Not a pool: a transaction on a pooled connection is not safe to abandon, and a lane has one
//! transaction at a time.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::program::Catalogue;
use crate::store::catalogue;
use crate::store::connection::{self, Connection};
use crate::store::doctor;
use crate::store::error::Error;

/// Bounds a window's work: sqlx has no TCP keepalive, a half-open socket would hang for ever.
const WORK_TIMEOUT: Duration = Duration::from_secs(90);

/// See the module.
pub struct Session {
    database_url: String,
    name: String,
    connection: Option<Connection>,
    catalogue: Arc<Catalogue>,
}

impl Session {
    /// Connects when first used. `name` is shown in `pg_stat_activity`.
    #[must_use]
    pub fn new(database_url: String, name: String) -> Self {
        Self { database_url, name, connection: None, catalogue: Arc::default() }
    }

    /// The connection, opened now if there is none.
    pub async fn connection(&mut self) -> Result<&mut Connection, Error> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => connection::connect(&self.database_url, &self.name).await?,
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
        self.connection = None;
    }

    /// The catalogue, read again if its version has moved.
    pub async fn catalogue(&mut self) -> Result<Arc<Catalogue>, Error> {
        let known = self.catalogue.version;
        let connection = self.connection().await?;
        if catalogue::version(connection).await? != known {
            let read = catalogue::load(connection).await?;
            self.catalogue = Arc::new(read);
        }
        Ok(Arc::clone(&self.catalogue))
    }

    /// Does `work`, which uses this session's connection, within a bound.
    pub async fn bounded<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match tokio::time::timeout(WORK_TIMEOUT, work).await {
            Ok(done) => done,
            Err(_elapsed) => Err(Error::Outage(format!("no answer within {WORK_TIMEOUT:?}"))),
        }
    }
}
