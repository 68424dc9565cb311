//! What the steps of one lane share, from the worker's start to its end.

use std::sync::Arc;

use crate::clock::Clock;
use crate::config::Config;
use crate::store::session::Session;
use crate::worker::context::{ServerUrls, TaskContext};
use crate::worker::counters::Counters;
use crate::worker::hold::admit::Holds;
use crate::worker::lane::lost_replies::LostReplies;
use crate::worker::lane::outgoing::MessageBuilder;
use crate::worker::lane::unpublishable::UnpublishedMessage;
use crate::worker::permits::Permits;

/// What the steps of a lane share.
pub(crate) struct Lane {
    pub(crate) name: String,
    pub(crate) config: Arc<Config>,
    pub(crate) urls: Arc<ServerUrls>,
    pub(crate) clock: Clock,
    pub(crate) counters: Arc<Counters>,
    pub(crate) permits: Arc<Permits>,
    pub(crate) message_builder: MessageBuilder,
    pub(crate) lost_replies: LostReplies,
    /// What the last generation could not publish.
    pub(crate) unpublished: UnpublishedMessage,
}

impl Lane {
    pub(crate) fn new(name: String, context: &TaskContext, counters: Arc<Counters>) -> Self {
        let TaskContext { config, urls, clock, permits, shutdown: _ } = context.clone();
        let message_builder = MessageBuilder {
            lane: name.clone(),
            worker: config.worker_id.clone(),
            letter_user: config.letter_user(),
            clock: clock.clone(),
            counters: Arc::clone(&counters),
        };
        let lost_replies = LostReplies::of(name.clone(), Arc::clone(&counters));
        let unpublished = UnpublishedMessage::default();
        Self {
            name,
            config,
            urls,
            clock,
            counters,
            permits,
            message_builder,
            lost_replies,
            unpublished,
        }
    }

    /// A session of its own with the database.
    pub(crate) fn session(&self) -> Session {
        let url = self.urls.database_url.clone();
        Session::new(url, self.connection_name(), self.config.database_timeout())
    }

    /// How the lane's connections are called in the listings of both servers.
    pub(crate) fn connection_name(&self) -> String {
        format!("partner-program {} {}", self.name, self.config.worker_id)
    }

    /// Where dead letters hold their customers.
    pub(crate) fn holds(&self) -> Holds {
        Holds::of(&self.config, &self.name)
    }
}
