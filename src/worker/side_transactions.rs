//! What the owner of a lane stores beside its batches, in small transactions behind the fence.

use uuid::Uuid;

use crate::store::routing::change;
use crate::store::session;
use crate::worker::executor::Executor;
use crate::worker::fault::Fault;
use crate::worker::holding;
use crate::worker::intake::Taken;
use crate::worker::outage::Patience;

impl Executor {
    /// Holds the customers of a command that is given up.
    pub(super) async fn hold_customers(&mut self, taken: &Taken) -> Result<(), Fault> {
        let mut patience = Patience::new();
        loop {
            let timeout = self.session.timeout();
            let holding = holding::hold(&mut self.session, &self.fence, taken);
            let held = session::bounded(timeout, holding).await;
            if self.outlast(held, &mut patience).await?.is_some() {
                return Ok(());
            }
        }
    }

    /// Notes that everything before these markers of moves is processed. Their batch, and all before it,
    /// is committed by now: a crash here delivers the markers again.
    pub(super) async fn note_drained(&mut self, markers: &[Uuid]) -> Result<(), Fault> {
        let mut patience = Patience::new();
        loop {
            let timeout = self.session.timeout();
            let fence = self.fence.clone();
            let noting = async {
                change::note_drained(self.session.connection().await?, &fence, markers).await
            };
            let noted = session::bounded(timeout, noting).await;
            if self.outlast(noted, &mut patience).await?.is_some() {
                let lane = &self.lane;
                tracing::info!(lane, "lane `{lane}` is drained of what a move takes from it");
                return Ok(());
            }
        }
    }
}
