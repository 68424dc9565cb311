//! Checks before a lane's generation subscribes that the database keeps what it commits and that its schema
//! fits.
//!
//! The checks come first because each closed channel counts against the broker's delivery limit for
//! everything that it held.

use crate::store::compatibility::{self, Compatibility};
use crate::store::error::Error;
use crate::store::session::{self, Session};
use crate::worker::lane::error::GenerationError;

/// Fails while the generation must not begin. A schema that is too old is an outage, which `migrate` ends.
/// If the program is too old or the database loses commits, the worker ends and an operator must act.
pub(crate) async fn check(session: &mut Session) -> Result<(), GenerationError> {
    let timeout = session.timeout();
    let looking = async {
        let is_durable = session.is_durable().await?;
        Ok((is_durable, compatibility::check(session.connection().await?).await?))
    };
    let (is_durable, fit) = session::bounded(timeout, looking).await?;
    if !is_durable {
        return Err(GenerationError::NotDurable);
    }
    match (fit, fit.problem()) {
        (Compatibility::Fits { .. }, _) | (_, None) => Ok(()),
        (Compatibility::SchemaTooOld { .. }, Some(problem)) => Err(Error::Outage(problem).into()),
        (Compatibility::ProgramTooOld { .. }, Some(problem)) => {
            Err(GenerationError::ProgramTooOld(problem))
        }
    }
}
