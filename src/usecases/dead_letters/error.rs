//! Why something could not be done with dead letters.

use uuid::Uuid;

use crate::broker;
use crate::config;
use crate::domain::rejection::Rejection;
use crate::store;

/// By what the operator does about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error("database: {0}")]
    Store(#[from] store::error::Error),
    /// The broker.
    #[error("broker: {0}")]
    Broker(#[from] broker::error::Error),
    /// A setting is missing.
    #[error(transparent)]
    Config(#[from] config::error::Error),
    /// There is no such dead letter.
    #[error("no dead letter `{0}`")]
    NotFound(Uuid),
    /// A filter has a word that no dead letter can have.
    #[error("{0}")]
    Meaningless(String),
    /// A filter names something that does not exist.
    #[error("{0}")]
    Unknown(String),
    /// Its state does not allow this.
    #[error("{0}")]
    Conflict(String),
    /// The edited copy would fail like its original.
    #[error("the copy would fail again: {0}")]
    StillBroken(Rejection),
    /// The output can't be written.
    #[error("can't write: {0}")]
    Output(#[from] std::io::Error),
    /// Another runner has the bulk job.
    #[error("bulk job {0} was taken over by another runner")]
    TakenOver(Uuid),
}
