//! What comes before a lane's generation works: the database, the routing map, and the broker's side,
//! which are connections, topology, publisher and subscription.

use std::sync::Arc;

use crate::broker::connection::Connection;
use crate::broker::consumer::Consumer;
use crate::broker::publisher::Publisher;
use crate::broker::topology::{self, Topology};
use crate::broker::version::Server;
use crate::config;
use crate::failpoint::{self, Point};
use crate::store::fence::Fence;
use crate::store::session::Session;
use crate::worker::counters::Counters;
use crate::worker::hold::admit::Holds;
use crate::worker::installation;
use crate::worker::lane::canary;
use crate::worker::lane::context::Lane;
use crate::worker::lane::error::GenerationError;
use crate::worker::lane::preflight;
use crate::worker::lane::priority::PriorityCheck;
use crate::worker::lane::routing::{self, LaneRouting, Permission};

/// The broker's side of a generation. Two connections: a blocked one stops all writes, and acks
/// must not wait behind results.
pub(crate) struct Connected {
    pub(crate) consuming: Connection,
    pub(crate) publishing: Arc<Connection>,
    pub(crate) consumer: Consumer,
    pub(crate) publisher: Publisher,
}

impl Lane {
    /// Returns when the canary passes. A channel that is closed because of the database would count as a
    /// delivery of everything that it held.
    pub(crate) async fn check_database(
        &self,
        session: &mut Session,
    ) -> Result<(), GenerationError> {
        preflight::check(session).await?;
        let (fence, worker) = (Fence::of_no_owner(&self.name), &self.config.worker_id);
        let holds = self.holds() != Holds::Nowhere;
        Ok(canary::run(session, &fence, worker, holds, self.clock.now()).await?)
    }

    /// Returns the routing map once it agrees with the worker's configuration.
    pub(crate) async fn wait_for_routing(
        &self,
        session: &mut Session,
    ) -> Result<Arc<LaneRouting>, GenerationError> {
        let mut told = String::new();
        loop {
            match LaneRouting::load(session, &self.config.lanes, &self.name).await? {
                Permission::Granted(routing) => return Ok(Arc::from(routing)),
                Permission::Denied(why) => {
                    self.counters.health.fail(&why);
                    if told != why {
                        tracing::error!(
                            lane = self.name,
                            "lane `{}` does not subscribe and looks again every {} s: {why}",
                            self.name,
                            routing::LOOK_INTERVAL.as_secs()
                        );
                        told = why;
                    }
                    tokio::time::sleep(routing::LOOK_INTERVAL).await;
                }
            }
        }
    }

    /// Connects, repairs the topology, publishes what the last generation could not publish, and
    /// subscribes.
    pub(crate) async fn connect(
        &self,
        session: &mut Session,
        topology: &Topology,
    ) -> Result<Connected, GenerationError> {
        let name = self.connection_name();
        let url = &self.urls.amqp_url;
        let consuming = Connection::open(url, &format!("{name} consuming")).await?;
        let publishing = Arc::new(Connection::open(url, &format!("{name} publishing")).await?);
        // The hosts of amqp_url may be two brokers.
        installation::check(session, &consuming).await?;
        installation::check(session, &publishing).await?;
        let ensured = self.make_topology_good(session, &publishing, topology).await;
        let mut publisher = Publisher::open(&publishing, self.config.confirm_timeout()).await?;
        // Before the result of the topology: its error says best what is wrong.
        self.unpublished.publish(&mut publisher, topology, &self.counters).await?;
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

    async fn make_topology_good(
        &self,
        session: &mut Session,
        publishing: &Connection,
        topology: &Topology,
    ) -> Result<(), GenerationError> {
        topology::declare::ensure(publishing, topology).await?;
        // Where the user may not bind, the task beside the lanes says so, which looks again within a
        // minute, too.
        if let Err(error) = routing::mend_bindings(session, publishing).await {
            session.discard();
            tracing::warn!(
                lane = self.name,
                "the bindings of lane `{}` could not be repaired; the worker retries within a minute: {error}",
                self.name
            );
        }
        Ok(())
    }

    /// What deliveries of this broker are checked by.
    pub(crate) fn priority_check(&self, server: &Server) -> PriorityCheck {
        let lane = self.config.lanes.iter().find(|lane| lane.name == self.name).cloned();
        let lane = lane.unwrap_or_else(|| config::lane::Lane::new(self.name.clone(), Vec::new()));
        PriorityCheck::of(lane, server, &self.counters)
    }
}
