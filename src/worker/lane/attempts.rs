//! The record of tries: what the next owner of a lane has to know if this process dies.

use std::collections::HashMap;
use std::time::Duration;

use uuid::Uuid;

use crate::domain::attempt::Company;
use crate::failpoint;
use crate::store::attempts::{self, Attempts};
use crate::store::error::Error;
use crate::store::session::{self, Session};
use crate::worker::lane::dead_letter;
use crate::worker::lane::error::GenerationError;
use crate::worker::lane::executor::Executor;
use crate::worker::lane::receive::Delivery;
use crate::worker::lane::retry::RetryState;

/// How long the tries that a generation has begun may take to be taken back.
const TAKE_BACK_TIMEOUT: Duration = Duration::from_secs(1);

impl Executor {
    /// What is known of the failures of the redelivered among `deliveries`.
    pub(crate) async fn known_attempts(
        &mut self,
        deliveries: &[&Delivery],
    ) -> Result<HashMap<Uuid, Attempts>, GenerationError> {
        let ids = redelivered(deliveries);
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let process = failpoint::without!(TakeBack, Uuid::nil(), else self.permits.process);
        let mut retry = RetryState::new();
        let mut known = loop {
            let timeout = self.session.timeout();
            let finding = async {
                let connection = self.session.connection().await?;
                attempts::find(connection, &self.fence, process, &ids).await
            };
            let found = session::bounded(timeout, finding).await;
            if let Some(found) = self.retry_transient(found, &mut retry).await? {
                break found;
            }
        };
        known.retain(|_, attempts| attempts.counted > 0 || attempts.deaths > 0);
        if !known.is_empty() {
            tracing::warn!(
                lane = self.lane,
                "{} commands were redelivered after a worker died with them; lane `{}` processes them in small batches",
                known.len(),
                self.lane,
            );
        }
        Ok(known)
    }

    pub(crate) async fn begin_attempt(
        &mut self,
        ids: &[Uuid],
        company: Company,
    ) -> Result<(), Error> {
        let (timeout, process) = (self.session.timeout(), self.permits.process);
        session::bounded(timeout, async {
            let connection = self.session.connection().await?;
            attempts::begin(connection, &self.fence, process, ids, company).await
        })
        .await
    }

    pub(crate) async fn end_attempt(
        &mut self,
        id: Uuid,
        counts: bool,
        why: &str,
    ) -> Result<u32, Error> {
        failpoint::without!(TakeBack if !counts, return Ok(0));
        let timeout = self.session.timeout();
        session::bounded(timeout, async {
            let connection = self.session.connection().await?;
            attempts::end(connection, &self.fence, id, counts, why).await
        })
        .await
    }
}

/// Takes back the tries that a generation of the lane has begun and not ended: the process has
/// survived them. Where the database is unavailable they stay, and this process knows them as its own.
pub(crate) async fn take_back(session: &mut Session, lane: &str, process: Uuid) {
    failpoint::without!(TakeBack, return);
    let taking_back = session::bounded(TAKE_BACK_TIMEOUT, async {
        attempts::take_back(session.connection().await?, lane, process).await
    });
    if let Err(error) = taking_back.await {
        tracing::debug!(lane, "the attempts of lane `{lane}` could not be taken back: {error}");
    }
}

/// What tries of the redelivered among `deliveries` are recorded under. Nothing is known of the others.
pub(crate) fn redelivered(deliveries: &[&Delivery]) -> Vec<Uuid> {
    let redelivered = deliveries.iter().filter(|delivery| delivery.redelivered);
    redelivered.map(|delivery| dead_letter::attempt_id(delivery)).collect()
}
