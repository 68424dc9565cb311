//! Binds and unbinds. Both are idempotent, and over AMQP nothing tells which bindings there are.

use lapin::Channel;
use lapin::options::{ExchangeBindOptions, QueueBindOptions};
use lapin::types::FieldTable;

use crate::broker::connection::{Connection, close_channel, request};
use crate::broker::error::Error;
use crate::broker::topology::{Binding, DEAD_LETTERS, Destination, ROUTING, Topology, lane_queue};

/// What came of binding everything again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mended {
    /// Every binding is there now.
    Bound,
    /// The user may not bind (AMQP asks for write on the queue and read on the exchange).
    NotPermitted,
}

/// Makes every binding of the topology that is missing.
pub async fn bind_all(connection: &Connection, topology: &Topology) -> Result<(), Error> {
    let channel = connection.channel().await?;
    for binding in topology.bindings() {
        bind_one(&channel, &binding).await?;
    }
    close_channel(&channel).await;
    Ok(())
}

/// Makes every binding that is missing, where the user may. Of an exchange that the user may not bind
/// from, one binding is tried: the broker logs each refusal.
pub async fn mend(connection: &Connection, topology: &Topology) -> Result<Mended, Error> {
    let mut mended = Mended::Bound;
    let mut refused: Option<&'static str> = None;
    let mut channel = connection.channel().await?;
    // Those of one exchange follow each other.
    for binding in topology.bindings() {
        if refused == Some(binding.exchange) {
            continue;
        }
        match bind_one(&channel, &binding).await {
            Ok(()) => {}
            Err(Error::Refused(_)) => {
                refused = Some(binding.exchange);
                mended = Mended::NotPermitted;
                channel = connection.channel().await?;
            }
            Err(error) => return Err(error),
        }
    }
    close_channel(&channel).await;
    Ok(mended)
}

/// Binds the dead letters' queue to their exchange, should the binding be gone: nothing else can tell,
/// and a dead letter that no queue holds would be lost.
pub async fn bind_dead_letters(connection: &Connection) -> Result<(), Error> {
    let destination = Destination::Queue(DEAD_LETTERS.to_owned());
    on_a_channel(
        connection,
        &Binding { exchange: DEAD_LETTERS, destination, pattern: String::new() },
    )
    .await
}

/// From when this returns on, commands that match the pattern go to the lane, on this node.
pub async fn bind(connection: &Connection, pattern: &str, lane: &str) -> Result<(), Error> {
    on_a_channel(connection, &of_lane(pattern, lane)).await
}

/// From when this returns on, commands that match the pattern do not go to the lane for it, on this
/// node. A queue that does not exist has no bindings.
pub async fn unbind(connection: &Connection, pattern: &str, lane: &str) -> Result<(), Error> {
    let channel = connection.channel().await?;
    let queue = lane_queue(lane);
    let what = format!("unbinding {queue} from {ROUTING}");
    let unbound = channel.queue_unbind(
        queue.as_str().into(),
        ROUTING.into(),
        pattern.into(),
        FieldTable::default(),
    );
    match request(&what, unbound).await {
        Ok(()) => close_channel(&channel).await,
        Err(Error::NotFound(_)) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

fn of_lane(pattern: &str, lane: &str) -> Binding {
    Binding {
        exchange: ROUTING,
        destination: Destination::Queue(lane_queue(lane)),
        pattern: pattern.to_owned(),
    }
}

async fn on_a_channel(connection: &Connection, binding: &Binding) -> Result<(), Error> {
    let channel = connection.channel().await?;
    bind_one(&channel, binding).await?;
    close_channel(&channel).await;
    Ok(())
}

async fn bind_one(channel: &Channel, binding: &Binding) -> Result<(), Error> {
    let Binding { exchange, destination, pattern } = binding;
    match destination {
        Destination::Queue(queue) => {
            let bound = channel.queue_bind(
                queue.as_str().into(),
                (*exchange).into(),
                pattern.as_str().into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            );
            request(&format!("binding {queue} to {exchange}"), bound).await
        }
        Destination::Exchange(to) => {
            let bound = channel.exchange_bind(
                (*to).into(),
                (*exchange).into(),
                pattern.as_str().into(),
                ExchangeBindOptions::default(),
                FieldTable::default(),
            );
            request(&format!("binding {to} to {exchange}"), bound).await
        }
    }
}
