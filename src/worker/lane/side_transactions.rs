//! What the owner of a lane stores beside its batches, in small transactions behind the fence.

use uuid::Uuid;

use crate::store::routing::change;
use crate::store::session;
use crate::worker::hold::admit;
use crate::worker::lane::error::GenerationError;
use crate::worker::lane::executor::Executor;
use crate::worker::lane::receive::Delivery;
use crate::worker::lane::retry::RetryState;

impl Executor {
    /// Holds the customers of a command that is given up.
    pub(crate) async fn hold_customers(
        &mut self,
        delivery: &Delivery,
    ) -> Result<(), GenerationError> {
        let mut retry = RetryState::new();
        loop {
            let timeout = self.session.timeout();
            let holding = admit::hold(&mut self.session, &self.fence, delivery);
            let held = session::bounded(timeout, holding).await;
            if self.retry_transient(held, &mut retry).await?.is_some() {
                return Ok(());
            }
        }
    }

    /// Notes that everything before these markers of moves is processed. Their batch, and all before it,
    /// is committed by now: a crash here delivers the markers again.
    pub(crate) async fn note_drained(&mut self, markers: &[Uuid]) -> Result<(), GenerationError> {
        let mut retry = RetryState::new();
        loop {
            let timeout = self.session.timeout();
            let fence = self.fence.clone();
            let noting = async {
                change::note_drained(self.session.connection().await?, &fence, markers).await
            };
            let noted = session::bounded(timeout, noting).await;
            if self.retry_transient(noted, &mut retry).await?.is_some() {
                let lane = &self.lane;
                tracing::info!(
                    lane,
                    "lane `{lane}` is drained of the commands that a move reroutes"
                );
                return Ok(());
            }
        }
    }
}
