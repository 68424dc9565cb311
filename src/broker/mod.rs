//! AMQP: connections, the topology, a lane's consumer, a confirming publisher.
//!
//! The only module that knows lapin. It moves [`Message`](crate::message::Message)s, whatever their
//! bodies mean. Deliberately absent: lapin's recovery. A fault ends a connection for good, and
//! its user reconnects with new ones, so that no delivery is mistaken for one of an
//! earlier channel.

pub mod connection;
pub mod error;
pub mod installation;
pub mod topology;
pub mod version;

pub mod consumer;
pub mod depth;
pub mod follower;
pub mod management;
pub mod probe;
pub mod publisher;

mod greeting;
mod header_values;
mod properties;

#[cfg(feature = "failpoints")]
mod failpoints;
