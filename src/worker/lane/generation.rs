//! One generation of a lane: a set of connections, channels and tasks, from the subscription to the
//! end of all of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::store::session::Session;
use crate::worker::counters::PUBLISHING_GRACE;
use crate::worker::health::State;
use crate::worker::lane::attempts;
use crate::worker::lane::batches::IncomingBatches;
use crate::worker::lane::connect::Connected;
use crate::worker::lane::context::Lane;
use crate::worker::lane::direct_reply;
use crate::worker::lane::error::GenerationError;
use crate::worker::lane::look_ahead::LookAhead;
use crate::worker::lane::publish::ResultPublisher;
use crate::worker::lane::receive;
use crate::worker::lane::routing::LaneRouting;

/// Processed batches that may wait for the publisher: one, while it is busy with another.
const PROCESSED_WAITING: usize = 1;
/// Batches that wait to be processed, looked at already.
const BATCHES_WAITING: usize = 1;

impl Lane {
    /// Waits for the servers, subscribes, and works until the generation ends. An error ends it.
    pub(crate) async fn generation(
        &self,
        shutdown: &CancellationToken,
    ) -> Result<(), GenerationError> {
        let health = &self.counters.health;
        let mut session = self.session();
        let prepared = tokio::select! {
            prepared = health.turn_during(self.prepare(&mut session)) => prepared?,
            () = shutdown.cancelled() => return Ok(()),
        };
        let (routing, connected) = prepared;
        health.enter(State::StandingBy);
        health.recover();
        let Connected { consuming, publishing, consumer, publisher } = connected;

        // Ends the receiver when this generation ends, for whatever reason.
        let stop = shutdown.child_token();
        let acknowledger = consumer.acknowledger();
        let channel = acknowledger.clone();
        let (delivered_sender, delivered) = mpsc::channel(usize::from(self.config.prefetch));
        let (processed_sender, processed_batches) = mpsc::channel(PROCESSED_WAITING);
        let receiver = AbortOnDropHandle::new(tokio::spawn(receive::run(
            consumer,
            Arc::clone(&self.counters),
            delivered_sender,
            stop.clone(),
        )));
        let (replying, replies) = direct_reply::Sending::start(
            &self.urls.amqp_url,
            &self.connection_name(),
            &self.lost_replies,
        );
        let result_publisher = ResultPublisher {
            lane: self.name.clone(),
            grace: PUBLISHING_GRACE.min(Duration::from_millis(self.config.outage_grace_ms)),
            publisher,
            topology: routing.topology.clone(),
            acknowledger,
            replies,
            counters: Arc::clone(&self.counters),
            too_large_bytes: None,
        };
        let mut result_publisher =
            AbortOnDropHandle::new(tokio::spawn(result_publisher.run(processed_batches)));
        let (batch_sender, batches) = mpsc::channel(BATCHES_WAITING);
        let wanted = Arc::new(Notify::new());
        let incoming = IncomingBatches { batches, wanted: Arc::clone(&wanted), stop: stop.clone() };
        let look_ahead = LookAhead {
            config: Arc::clone(&self.config),
            session: session.another(),
            routing: Arc::clone(&routing),
            priority: self.priority_check(consuming.server()),
            wanted,
        };
        let mut look_ahead =
            AbortOnDropHandle::new(tokio::spawn(look_ahead.run(delivered, batch_sender)));

        let ended = tokio::select! {
            worked = self.process_batches(session, (&routing, &channel), incoming, processed_sender) => worked,
            ended = &mut result_publisher => Err(GenerationError::of_ended("publisher", ended)),
            () = replying.ended_early() => {
                Err(GenerationError::TaskStopped { task: "replies", why: "see the panic above".into() })
            }
            lost = consuming.closed() => Err(lost.into()),
            lost = publishing.closed() => Err(lost.into()),
        };
        // Dropping the sender lets the publisher finish what it has; `batches` has dropped it.
        let was_asked_to_stop = stop.is_cancelled();
        stop.cancel();
        let drained = match ended {
            Ok(()) => match health.turn_during(&mut result_publisher).await {
                Ok(ended) => ended,
                Err(panic) => Err(GenerationError::of_panic("publisher", &panic)),
            },
            Err(fault) => {
                result_publisher.abort();
                Err(fault)
            }
        };
        replying.finish().await;
        // Close the channel instead of cancelling the consumer: only then the broker requeues the unacked
        // deliveries in order. It stays open until here because acks need it.
        let returned = match receiver.await {
            Ok(Ok(consumer)) => {
                consumer.close().await;
                Ok(())
            }
            Ok(Err(lost)) => Err(lost.into()),
            Err(panic) => Err(GenerationError::of_panic("receiver", &panic)),
        };
        // The look-ahead may still wait for the database: the next generation does not wait for it.
        look_ahead.abort();
        let looked_ahead = match (&mut look_ahead).await {
            Err(ended) if ended.is_cancelled() => Ok(()),
            Ok(()) if was_asked_to_stop => Ok(()),
            Ok(()) => Err(GenerationError::TaskStopped {
                task: "look-ahead",
                why: "it ended although deliveries may come".into(),
            }),
            Err(panic) => Err(GenerationError::of_panic("look-ahead", &panic)),
        };
        self.counters.in_flight.clear();
        let (mut session, process) = (self.session(), self.permits.process);
        let taking_back = attempts::take_back(&mut session, &self.name, process);
        tokio::join!(publishing.close(), consuming.close(), taking_back);
        drained.and(returned).and(looked_ahead)
    }

    /// Waits for the database and the routing map before it connects to the broker: each channel that
    /// closes counts against the broker's delivery limit.
    async fn prepare(
        &self,
        session: &mut Session,
    ) -> Result<(Arc<LaneRouting>, Connected), GenerationError> {
        self.check_database(session).await?;
        let routing = self.wait_for_routing(session).await?;
        let connected = self.connect(session, &routing.topology).await?;
        Ok((routing, connected))
    }
}
