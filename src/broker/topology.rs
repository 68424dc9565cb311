//! The exchanges, queues and bindings that the system stands on, as data: declared, verified
//! and exported from one description.
//!
//! Queue arguments are written out rather than left to policies, so that a broker without any
//! set-up of its own is safe: quorum queues, a single active consumer, a positive delivery
//! limit (without one a requeue goes to the back), dead-lettering at least once.

use std::fmt;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{Channel, ExchangeKind};
use serde_json::json;

use crate::broker::connection::{Connection, close_channel, request};
use crate::broker::error::Error;
use crate::broker::patterns;
use crate::config::MAIN_LANE;

/// Where upstreams publish commands; topic.
pub const COMMANDS: &str = "partner-program.commands";
/// Takes the commands that no lane's pattern matches; fanout, alternate exchange of [`COMMANDS`].
pub const COMMANDS_UNBOUND: &str = "partner-program.commands.unbound";
/// Where results are published; topic.
pub const RESULTS: &str = "partner-program.results";
/// The dead-letter exchange, fanout, and the queue bound to it.
pub const DEAD_LETTERS: &str = "partner-program.dead-letters";
/// The lane that takes what no other lane is bound to.
pub const CATCH_ALL_LANE: &str = MAIN_LANE;

/// The broker's own limit of deliveries, a last resort: it blames all that a closed channel held,
/// while the worker finds the culprit. So no loop that the worker ends by itself may reach it. The
/// longest one is a prefetch full of commands that kill the process: each needs `attempts_limit`
/// deaths alone, after those that shrink its batch to one, and each death returns all that is behind
/// it. A network that breaks every five minutes, which is the longest pause between generations
/// without progress, reaches it in two years.
const DELIVERY_LIMIT: i64 = 200_000;

/// The queue of a lane.
#[must_use]
pub fn lane_queue(lane: &str) -> String {
    format!("{COMMANDS}.{lane}")
}

/// Whether a queue is one of this system's own, which no requester may have filled with replies:
/// a lane's queue would take them for commands, and among the dead letters they belong to none.
#[must_use]
pub fn is_own_queue(name: &str) -> bool {
    name == DEAD_LETTERS || name.starts_with(&lane_queue(""))
}

/// A lane and the patterns on [`COMMANDS`] that feed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Part of the queue's name.
    pub name: String,
    /// Topic patterns, e.g. `acme.*` or `acme.*.7`.
    pub bindings: Vec<String>,
}

/// Everything the system needs on the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Among them [`CATCH_ALL_LANE`].
    pub lanes: Vec<Lane>,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `queue` or `exchange`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// In the broker's words where it has some.
    pub problem: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`: {}", self.kind, self.name, self.problem)
    }
}

struct Exchange {
    name: &'static str,
    kind: ExchangeKind,
    arguments: &'static [(&'static str, Argument)],
}

struct Queue {
    name: String,
    arguments: &'static [(&'static str, Argument)],
}

struct Binding {
    exchange: &'static str,
    queue: String,
    pattern: String,
}

#[derive(Clone, Copy)]
pub(super) enum Argument {
    Text(&'static str),
    Number(i64),
    Flag,
}

const EXCHANGES: [Exchange; 4] = [
    Exchange { name: COMMANDS_UNBOUND, kind: ExchangeKind::Fanout, arguments: &[] },
    Exchange {
        name: COMMANDS,
        kind: ExchangeKind::Topic,
        arguments: &[("alternate-exchange", Argument::Text(COMMANDS_UNBOUND))],
    },
    Exchange { name: RESULTS, kind: ExchangeKind::Topic, arguments: &[] },
    Exchange { name: DEAD_LETTERS, kind: ExchangeKind::Fanout, arguments: &[] },
];

pub(super) const LANE_ARGUMENTS: &[(&str, Argument)] = &[
    ("x-queue-type", Argument::Text("quorum")),
    ("x-single-active-consumer", Argument::Flag),
    ("x-delivery-limit", Argument::Number(DELIVERY_LIMIT)),
    ("x-dead-letter-exchange", Argument::Text(DEAD_LETTERS)),
    ("x-dead-letter-strategy", Argument::Text("at-least-once")),
    ("x-overflow", Argument::Text("reject-publish")),
];

/// Dead letters have nowhere further to go, so the limit that newer brokers set by themselves
/// would lose them; and a negative one, for none, drops messages on RabbitMQ 3.10.
const DEAD_LETTER_ARGUMENTS: &[(&str, Argument)] = &[
    ("x-queue-type", Argument::Text("quorum")),
    ("x-delivery-limit", Argument::Number(1_000_000_000)),
];

impl Topology {
    fn queues(&self) -> impl Iterator<Item = Queue> {
        let dead_letters =
            Queue { name: DEAD_LETTERS.to_owned(), arguments: DEAD_LETTER_ARGUMENTS };
        let lanes = self
            .lanes
            .iter()
            .map(|lane| Queue { name: lane_queue(&lane.name), arguments: LANE_ARGUMENTS });
        std::iter::once(dead_letters).chain(lanes)
    }

    fn bindings(&self) -> impl Iterator<Item = Binding> {
        let fixed = [
            (DEAD_LETTERS, DEAD_LETTERS.to_owned()),
            (COMMANDS_UNBOUND, lane_queue(CATCH_ALL_LANE)),
        ]
        .map(|(exchange, queue)| Binding { exchange, queue, pattern: String::new() });
        let lanes = self.lanes.iter().flat_map(|lane| {
            lane.bindings.iter().map(|pattern| Binding {
                exchange: COMMANDS,
                queue: lane_queue(&lane.name),
                pattern: pattern.clone(),
            })
        });
        fixed.into_iter().chain(lanes)
    }
}

/// Declares what is missing. What is there already must be as described.
pub async fn declare(connection: &Connection, topology: &Topology) -> Result<(), Error> {
    let mut differences = Vec::new();
    for exchange in &EXCHANGES {
        differences.extend(probe_exchange(connection, exchange, false).await?);
    }
    for queue in topology.queues() {
        differences.extend(probe_queue(connection, &queue, false).await?);
    }
    if !differences.is_empty() {
        return Err(Error::Topology(differences));
    }
    let channel = connection.channel().await?;
    for Binding { exchange, queue, pattern } in topology.bindings() {
        let what = format!("binding {queue} to {exchange}");
        let options = QueueBindOptions::default();
        let bound = channel.queue_bind(
            queue.as_str().into(),
            exchange.into(),
            pattern.as_str().into(),
            options,
            FieldTable::default(),
        );
        request(&what, bound).await?;
    }
    close_channel(&channel).await;
    Ok(())
}

/// What differs from the description. Creates nothing. Bindings can't be asked for over AMQP:
/// declaring them again is harmless.
pub async fn verify(
    connection: &Connection,
    topology: &Topology,
) -> Result<Vec<Difference>, Error> {
    let mut differences = Vec::new();
    for exchange in &EXCHANGES {
        match probe_exchange(connection, exchange, true).await? {
            None => differences.extend(probe_exchange(connection, exchange, false).await?),
            missing => differences.extend(missing),
        }
    }
    for queue in topology.queues() {
        match probe_queue(connection, &queue, true).await? {
            None => differences.extend(probe_queue(connection, &queue, false).await?),
            missing => differences.extend(missing),
        }
    }
    Ok(differences)
}

/// Makes the topology good before work begins: nothing is declared where nothing is missing, so
/// a user without the right to configure can work on a topology that somebody else applied.
pub async fn ensure(connection: &Connection, topology: &Topology) -> Result<(), Error> {
    let mut missing = false;
    for exchange in &EXCHANGES {
        missing |= probe_exchange(connection, exchange, true).await?.is_some();
    }
    for queue in topology.queues() {
        missing |= probe_queue(connection, &queue, true).await?.is_some();
    }
    if missing { declare(connection, topology).await } else { Ok(()) }
}

/// Binds the dead letters' queue to their exchange, should the binding be gone: nothing else can tell,
/// and a dead letter that no queue holds would be lost.
pub async fn bind_dead_letters(connection: &Connection) -> Result<(), Error> {
    let channel = connection.channel().await?;
    let bound = channel.queue_bind(
        DEAD_LETTERS.into(),
        DEAD_LETTERS.into(),
        "".into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    request("binding the dead letters' queue to its exchange", bound).await?;
    close_channel(&channel).await;
    Ok(())
}

/// Declares an exchange on a channel of its own, because a refusal closes the channel.
async fn probe_exchange(
    connection: &Connection,
    exchange: &Exchange,
    passive: bool,
) -> Result<Option<Difference>, Error> {
    let channel = connection.channel().await?;
    let options =
        ExchangeDeclareOptions { passive, durable: true, ..ExchangeDeclareOptions::default() };
    let declared = channel.exchange_declare(
        exchange.name.into(),
        exchange.kind.clone(),
        options,
        table(exchange.arguments),
    );
    judge(&channel, "exchange", exchange.name, declared).await
}

/// See [`probe_exchange`].
async fn probe_queue(
    connection: &Connection,
    queue: &Queue,
    passive: bool,
) -> Result<Option<Difference>, Error> {
    let channel = connection.channel().await?;
    let options = QueueDeclareOptions { passive, durable: true, ..QueueDeclareOptions::default() };
    let declared =
        channel.queue_declare(queue.name.as_str().into(), options, table(queue.arguments));
    judge(&channel, "queue", &queue.name, declared).await
}

async fn judge<T>(
    channel: &Channel,
    kind: &'static str,
    name: &str,
    declared: impl Future<Output = lapin::Result<T>>,
) -> Result<Option<Difference>, Error> {
    match request(&format!("declaring {kind} {name}"), declared).await {
        Ok(_) => {
            close_channel(channel).await;
            Ok(None)
        }
        Err(Error::NotFound(_)) => {
            Ok(Some(Difference { kind, name: name.to_owned(), problem: "missing".into() }))
        }
        Err(Error::Precondition(problem)) => {
            Ok(Some(Difference { kind, name: name.to_owned(), problem }))
        }
        Err(error) => Err(error),
    }
}

pub(super) fn table(arguments: &[(&str, Argument)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in arguments {
        let value = match value {
            Argument::Text(text) => AMQPValue::LongString(LongString::from(*text)),
            Argument::Number(number) => AMQPValue::LongLongInt(*number),
            Argument::Flag => AMQPValue::Boolean(true),
        };
        table.insert((*key).into(), value);
    }
    table
}

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
                "auto_delete": false, "internal": false,
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
            json!({
                "source": binding.exchange, "vhost": "/", "destination": binding.queue,
                "destination_type": "queue", "routing_key": binding.pattern, "arguments": {},
            })
        })
        .collect();
    json!({ "exchanges": exchanges, "queues": queues, "bindings": bindings })
}

/// Two patterns of different lanes that could match the same key: such a command would take
/// effect in two lanes, in no order.
#[must_use]
pub fn overlapping(lanes: &[Lane]) -> Option<[(&str, &str); 2]> {
    for (index, one) in lanes.iter().enumerate() {
        for other in &lanes[index + 1..] {
            for a in &one.bindings {
                for b in &other.bindings {
                    if patterns::overlap(a, b) {
                        return Some([(&one.name, a), (&other.name, b)]);
                    }
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loops_that_the_worker_ends_stay_below_the_delivery_limit() {
        // The greatest values that the settings take, and batches that shrink from 1,999 to 1.
        let (prefetch, attempts_limit, deaths_until_alone) = (1_999, 50, 4);
        assert!(DELIVERY_LIMIT > prefetch * (attempts_limit + deaths_until_alone));
    }

    #[test]
    fn the_lanes_of_an_overlap_are_named() {
        let lane = |name: &str, bindings: &[&str]| Lane {
            name: name.into(),
            bindings: bindings.iter().map(ToString::to_string).collect(),
        };
        let lanes = [lane("one", &["acme.*"]), lane("two", &["beta.#", "*.link"])];
        assert_eq!(overlapping(&lanes), Some([("one", "acme.*"), ("two", "*.link")]));
        assert_eq!(overlapping(&[lane("one", &["acme.*"]), lane("two", &["acme.*.7"])]), None);
    }
}
