//! A few connections to the database that requests share.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::config::Config;
use crate::console::error::Failure;
use crate::store::connection::{self, Connection};

/// Requests that are at the database at the same time; the others wait.
const CONNECTIONS_MAX: usize = 4;
/// How long one waits for its turn.
const TURN: Duration = Duration::from_secs(5);

/// The connections, opened when they are needed.
pub(super) struct Database {
    url: Option<String>,
    name: String,
    turns: Semaphore,
    idle: Mutex<Vec<Connection>>,
}

/// A connection of the pool. It is closed unless it is released: a caller that fails does not know what
/// state it is in.
pub(super) struct PooledConnection<'a> {
    connection: Connection,
    database: &'a Database,
    _turn: SemaphorePermit<'a>,
}

impl Database {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            url: config.database_url().ok().map(str::to_owned),
            name: format!("partner-program console {}", config.worker_id),
            turns: Semaphore::new(CONNECTIONS_MAX),
            idle: Mutex::default(),
        }
    }

    /// A connection that answers.
    pub(super) async fn acquire(&self) -> Result<PooledConnection<'_>, Failure> {
        let busy = || Failure::Away("The console is busy: try again.".to_owned());
        let turn = tokio::time::timeout(TURN, self.turns.acquire()).await;
        let turn = turn.map_err(|_elapsed| busy())?.map_err(|_closed| busy())?;
        while let Some(mut idle) = self.take() {
            if connection::is_writable(&mut idle).await {
                return Ok(PooledConnection { connection: idle, database: self, _turn: turn });
            }
        }
        let Some(url) = &self.url else {
            return Err(Failure::Away("database_url is not set.".to_owned()));
        };
        let connection = connection::connect_to_search(url, &self.name).await?;
        Ok(PooledConnection { connection, database: self, _turn: turn })
    }

    fn take(&self) -> Option<Connection> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

impl PooledConnection<'_> {
    /// For the next request.
    pub(super) fn release(self) {
        self.database.idle.lock().unwrap_or_else(PoisonError::into_inner).push(self.connection);
    }
}

impl Deref for PooledConnection<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for PooledConnection<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}
