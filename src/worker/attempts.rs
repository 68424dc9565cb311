//! The record of tries: what the next owner of a lane has to know if this process dies.

use std::collections::HashMap;
use std::time::Duration;

use uuid::Uuid;

use crate::domain::attempt::Company;
use crate::failpoint::{self, Protection};
use crate::store::attempts::{self, Attempts};
use crate::store::error::Error;
use crate::store::session::{self, Session};
use crate::worker::dead_letter;
use crate::worker::executor::Executor;
use crate::worker::fault::Fault;
use crate::worker::intake::Taken;
use crate::worker::outage::Patience;

/// How long the tries that a generation has begun may take to be taken back.
const TAKE_BACK_TIMEOUT: Duration = Duration::from_secs(1);

impl Executor {
    /// What is known of the failures of the redelivered among `taken`.
    pub(super) async fn known_attempts(
        &mut self,
        taken: &[&Taken],
    ) -> Result<HashMap<Uuid, Attempts>, Fault> {
        let ids = redelivered(taken);
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        // Without the protection, a try of this very process counts as a death, too.
        let process = if failpoint::is_without(Protection::TakeBack) {
            Uuid::nil()
        } else {
            self.permits.process
        };
        let mut patience = Patience::new();
        let mut known = loop {
            let timeout = self.session.timeout();
            let finding = async {
                let connection = self.session.connection().await?;
                attempts::find(connection, &self.fence, process, &ids).await
            };
            let found = session::bounded(timeout, finding).await;
            if let Some(found) = self.outlast(found, &mut patience).await? {
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

    pub(super) async fn begin_attempt(
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

    pub(super) async fn end_attempt(
        &mut self,
        id: Uuid,
        counts: bool,
        why: &str,
    ) -> Result<u32, Error> {
        if !counts && failpoint::is_without(Protection::TakeBack) {
            return Ok(0);
        }
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
pub(super) async fn take_back(session: &mut Session, lane: &str, process: Uuid) {
    if failpoint::is_without(Protection::TakeBack) {
        return;
    }
    let taking_back = session::bounded(TAKE_BACK_TIMEOUT, async {
        attempts::take_back(session.connection().await?, lane, process).await
    });
    if let Err(error) = taking_back.await {
        tracing::debug!(lane, "attempts could not be uncounted: {error}");
    }
}

/// What tries of the redelivered among `taken` are recorded under. Nothing is known of the others.
pub(super) fn redelivered(taken: &[&Taken]) -> Vec<Uuid> {
    let redelivered = taken.iter().filter(|taken| taken.redelivered);
    redelivered.map(|taken| dead_letter::attempt_id(taken)).collect()
}
