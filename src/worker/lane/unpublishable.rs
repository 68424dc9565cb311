//! Publishing that can't succeed: what the lane does once the bound on trying again is over.
//!
//! A lane that tried for ever would hold its deliveries until the broker closes its channel. A lane that only
//! reconnected would use up one of the deliveries that the broker allows each command with every try. So the
//! lane closes its channel once, keeps the first message that the broker has refused, and subscribes when
//! the broker accepts this one. It is published twice then, with the same id and bytes, like any result after
//! a crash. Nothing is acked meanwhile.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::broker::publisher::{Alone, Publisher, Receipt};
use crate::broker::topology::{self, Topology};
use crate::message::Message;
use crate::wire::{cut_body, frame, unavailable};
use crate::worker::counters::Counters;
use crate::worker::lane::error::GenerationError;
use crate::worker::lane::outgoing_message::{Need, OutgoingMessage};

/// Bounds the look at the topology.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(10);

/// The message that a lane keeps between its generations.
#[derive(Default)]
pub(crate) struct UnpublishedMessage(Mutex<Option<OutgoingMessage>>);

impl UnpublishedMessage {
    /// Keeps the message that ended the generation, if one did.
    pub(crate) fn keep(&self, fault: &GenerationError) {
        if let GenerationError::Unpublishable { unpublished, .. } = fault {
            self.set(Some((**unpublished).clone()));
        }
    }

    /// Publishes the message that is kept; an error as long as the broker refuses it. To be called before the
    /// lane subscribes.
    pub(crate) async fn publish(
        &self,
        publisher: &mut Publisher,
        topology: &Topology,
        counters: &Arc<Counters>,
    ) -> Result<(), GenerationError> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(mut kept) = kept else { return Ok(()) };
        frame::fit(&mut kept.message, publisher.connection().frame_max());
        if let Err(error) = topology::bindings::bind_dead_letters(publisher.connection()).await {
            tracing::debug!("the dead-letter queue could not be bound again: {error}");
        }
        let why = match publisher.publish_alone(&kept.message).await {
            Ok(Alone::Decided(receipt)) if is_done(receipt, kept.need) => None,
            Ok(Alone::Decided(_)) => Some(
                "it was refused by the broker again (is a queue full?) or found no queue"
                    .to_owned(),
            ),
            // The publisher makes something smaller of it.
            Ok(Alone::Unacceptable(_)) => None,
            Err(error) => Some(error.to_string()),
        };
        match why {
            None => {
                self.set(None);
                counters.set_publishing_trouble(None);
                Ok(())
            }
            Some(why) => {
                Counters::add(&counters.publishing_failures, 1);
                let differences = differences(publisher, topology).await;
                Err(unpublishable(kept, &format!("{why}{differences}"), counters))
            }
        }
    }

    fn set(&self, unpublished: Option<OutgoingMessage>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = unpublished;
    }
}

/// The fault of a generation whose bound is over, by the first message that the broker has refused.
pub(crate) async fn give_up(
    first: OutgoingMessage,
    why: &str,
    topology: &Topology,
    publisher: &Publisher,
    counters: &Counters,
) -> GenerationError {
    let differences = differences(publisher, topology).await;
    unpublishable(first, &format!("{why}{differences}"), counters)
}

fn unpublishable(unpublished: OutgoingMessage, why: &str, counters: &Counters) -> GenerationError {
    let exchange = &unpublished.message.exchange;
    let why = format!("messages to exchange `{exchange}` can't be published: {why}");
    counters.set_publishing_trouble(Some(why.clone()));
    GenerationError::Unpublishable { why, unpublished: Box::new(unpublished) }
}

/// What of the topology is not as it should be, for people.
async fn differences(publisher: &Publisher, topology: &Topology) -> String {
    let verifying = topology::declare::verify(publisher.connection(), topology);
    match tokio::time::timeout(VERIFY_TIMEOUT, verifying).await {
        Ok(Ok(differences)) => {
            let differences = differences.iter().map(|difference| format!("; {difference}"));
            differences.collect::<Vec<_>>().concat()
        }
        Ok(Err(error)) => format!("; the topology could not be verified: {error}"),
        Err(_elapsed) => "; the topology could not be verified in time".to_owned(),
    }
}

/// Whether no more is to be done about a message: it is safe, or no queue needs to have it.
pub(crate) fn is_done(receipt: Receipt, need: Need) -> bool {
    match (receipt, need) {
        (Receipt::Routed, _) | (Receipt::Unroutable, Need::Confirmed | Need::BestEffort) => true,
        (Receipt::Unroutable, Need::Queued) | (Receipt::Refused, _) => false,
    }
}

/// What can be published instead of a message that the broker refuses as too large.
pub(crate) fn smaller(message: &Message, need: Need) -> Option<Message> {
    match need {
        Need::Queued => cut_body::shortened(message),
        Need::Confirmed | Need::BestEffort => unavailable::in_place_of(message),
    }
}
