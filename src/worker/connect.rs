//! The broker's side of a lane's generation: connections, topology, publisher and subscription.

use std::sync::Arc;

use crate::broker::connection::Connection;
use crate::broker::consumer::Consumer;
use crate::broker::publisher::Publisher;
use crate::broker::topology::{self, Topology};
use crate::broker::version::Server;
use crate::config;
use crate::failpoint::{self, Point};
use crate::worker::counters::Counters;
use crate::worker::fault::Fault;
use crate::worker::lane::Lane;
use crate::worker::priority::PriorityCheck;

/// The broker's side of a generation. Two connections: a blocked one stops all writes, and acks
/// must not wait behind results.
pub(super) struct Connected {
    pub(super) consuming: Connection,
    pub(super) publishing: Arc<Connection>,
    pub(super) consumer: Consumer,
    pub(super) publisher: Publisher,
}

impl Lane {
    /// Connects, makes the topology good, publishes what the last generation could not, and
    /// subscribes.
    pub(super) async fn connect(&self) -> Result<Connected, Fault> {
        let name = self.connection_name();
        let url = &self.places.amqp_url;
        let consuming = Connection::open(url, &format!("{name} consuming")).await?;
        let publishing = Arc::new(Connection::open(url, &format!("{name} publishing")).await?);
        let topology = self.topology();
        let ensured = topology::ensure(&publishing, &topology).await;
        let mut publisher = Publisher::open(&publishing, self.config.confirm_timeout()).await?;
        // First, because it says best what is wrong.
        self.unpublished.publish(&mut publisher, &topology, &self.counters).await?;
        ensured?;
        let queue = topology::lane_queue(&self.name);
        let config = &self.config;
        let (prefetch, worker_id) = (config.prefetch, &config.worker_id);
        let consumer =
            Consumer::subscribe(&consuming, &queue, prefetch, worker_id, config.unacked_max())
                .await?;
        failpoint::reach(Point::AfterSubscribe);
        Counters::add(&self.counters.subscribed, 1);
        tracing::info!(lane = self.name, "subscribed to {queue}");
        Ok(Connected { consuming, publishing, consumer, publisher })
    }

    /// What deliveries of this broker are checked by.
    pub(super) fn priority_check(&self, server: &Server) -> PriorityCheck {
        let lane = self.config.lanes.iter().find(|lane| lane.name == self.name).cloned();
        let lane = lane.unwrap_or_else(|| config::Lane::new(self.name.clone(), Vec::new()));
        PriorityCheck::of(lane, server, &self.counters)
    }

    pub(super) fn topology(&self) -> Topology {
        let lanes = self.config.lanes.iter().map(|lane| topology::Lane {
            name: lane.name.clone(),
            bindings: lane.bindings.clone(),
        });
        Topology { lanes: lanes.collect() }
    }
}
