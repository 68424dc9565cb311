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
    /// There is no such letter.
    #[error("no dead letter `{0}`")]
    NotFound(Uuid),
    /// A filter has a word that no letter can have.
    #[error("{0}")]
    Meaningless(String),
    /// A filter names what there is not.
    #[error("{0}")]
    Unknown(String),
    /// It is in no state for this.
    #[error("{0}")]
    Conflict(String),
    /// The edited copy would die like its original.
    #[error("the copy would die again: {0}")]
    StillBroken(Rejection),
    /// What it wrote can't be written.
    #[error("can't write: {0}")]
    Output(#[from] std::io::Error),
    /// Another runner has the operation.
    #[error("operation {0} was taken over by another runner")]
    TakenOver(Uuid),
}
