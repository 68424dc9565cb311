//! The topology as a document for the broker's own tools.

use lapin::ExchangeKind;
use serde_json::json;

use crate::broker::topology::{Argument, Destination, EXCHANGES, Topology};

/// The topology as definitions for `rabbitmqctl import_definitions`, in the virtual host `/`.
#[must_use]
pub fn export(topology: &Topology) -> serde_json::Value {
    let arguments = |arguments: &[(&str, Argument)]| -> serde_json::Map<_, _> {
        let pairs = arguments.iter().map(|(key, value)| {
            let value = match value {
                Argument::Text(text) => json!(text),
                Argument::Number(number) => json!(number),
                Argument::Flag => json!(true),
            };
            ((*key).to_owned(), value)
        });
        pairs.collect()
    };
    let exchanges: Vec<_> = EXCHANGES
        .iter()
        .map(|exchange| {
            let kind = match exchange.kind {
                ExchangeKind::Fanout => "fanout",
                _ => "topic",
            };
            json!({
                "name": exchange.name, "vhost": "/", "type": kind, "durable": true,
                "auto_delete": false, "internal": exchange.is_internal,
                "arguments": arguments(exchange.arguments),
            })
        })
        .collect();
    let queues: Vec<_> = topology
        .queues()
        .map(|queue| {
            json!({
                "name": queue.name, "vhost": "/", "durable": true, "auto_delete": false,
                "arguments": arguments(queue.arguments),
            })
        })
        .collect();
    let bindings: Vec<_> = topology
        .bindings()
        .map(|binding| {
            let (destination, kind) = match &binding.destination {
                Destination::Queue(queue) => (queue.as_str(), "queue"),
                Destination::Exchange(exchange) => (*exchange, "exchange"),
            };
            json!({
                "source": binding.exchange, "vhost": "/", "destination": destination,
                "destination_type": kind, "routing_key": binding.pattern, "arguments": {},
            })
        })
        .collect();
    json!({ "exchanges": exchanges, "queues": queues, "bindings": bindings })
}
