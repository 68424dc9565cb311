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

/// See the module.
pub struct Session {
    database_url: String,
    name: String,
    /// Bounds a window's work: sqlx has no TCP keepalive, a half-open socket would hang for ever.
    timeout: Duration,
    connection: Option<Connection>,
    catalogue: Arc<Catalogue>,
}

impl Session {
    /// Connects when first used. `name` is shown in `pg_stat_activity`; what takes longer than
    /// `timeout` is given up on both sides.
    #[must_use]
    pub fn new(database_url: String, name: String, timeout: Duration) -> Self {
        Self { database_url, name, timeout, connection: None, catalogue: Arc::default() }
    }

    /// The bound for [`bounded`] work on this session.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The connection, opened now if there is none.
    pub async fn connection(&mut self) -> Result<&mut Connection, Error> {
        let connection = if let Some(connection) = self.connection.take() {
            connection
        } else {
            let mut fresh = connection::connect(&self.database_url, &self.name).await?;
            connection::bound_statements(&mut fresh, self.timeout).await?;
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
