//! The exchanges, queues and bindings that the system needs, as data: declared, verified
//! and exported from one description.
//!
//! Publishers write to [`COMMANDS`]. It passes everything on to [`ROUTING`], which is internal, and only
//! there lanes are bound. So a foreign queue that is bound to [`COMMANDS`] gets copies and removes nothing
//! from a lane: an alternate exchange gets what has found no queue, and only lanes are bound to [`ROUTING`].
//!
//! Queue arguments are written out rather than left to policies, so that a broker without any
//! set-up of its own is safe: quorum queues, a single active consumer, a positive delivery
//! limit (without one a requeue goes to the back), dead-lettering at least once.

pub mod bindings;
pub mod declare;
pub mod export;

use std::fmt;

use lapin::ExchangeKind;

use crate::config::lane::MAIN_LANE;
use crate::domain::routing::RoutingMap;

/// Where upstreams publish commands; topic.
pub const COMMANDS: &str = "partner-program.commands";
/// Gets every command from [`COMMANDS`] and routes it to its lane; topic, internal.
pub const ROUTING: &str = "partner-program.commands.routing";
/// Receives the commands that no lane's pattern matches; fanout, alternate exchange of [`ROUTING`].
pub const COMMANDS_UNBOUND: &str = "partner-program.commands.unbound";
/// Where results are published; topic.
pub const RESULTS: &str = "partner-program.results";
/// The dead-letter exchange, fanout, and the queue bound to it.
pub const DEAD_LETTERS: &str = "partner-program.dead-letters";
/// The lane that receives what no other lane is bound to.
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

/// Everything the system needs on the broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// The lanes and the patterns that feed them.
    pub map: RoutingMap,
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
    /// Publishers can't publish to it.
    is_internal: bool,
    arguments: &'static [(&'static str, Argument)],
}

struct Queue {
    name: String,
    arguments: &'static [(&'static str, Argument)],
}

/// What a binding leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Destination {
    Queue(String),
    Exchange(&'static str),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Binding {
    exchange: &'static str,
    destination: Destination,
    pattern: String,
}

#[derive(Clone, Copy)]
pub(super) enum Argument {
    Text(&'static str),
    Number(i64),
    Flag,
}

const EXCHANGES: [Exchange; 5] = [
    Exchange {
        name: COMMANDS_UNBOUND,
        kind: ExchangeKind::Fanout,
        is_internal: true,
        arguments: &[],
    },
    Exchange {
        name: ROUTING,
        kind: ExchangeKind::Topic,
        is_internal: true,
        arguments: &[("alternate-exchange", Argument::Text(COMMANDS_UNBOUND))],
    },
    // The alternate exchange replaces the binding to the same exchange if that is lost.
    Exchange {
        name: COMMANDS,
        kind: ExchangeKind::Topic,
        is_internal: false,
        arguments: &[("alternate-exchange", Argument::Text(ROUTING))],
    },
    Exchange { name: RESULTS, kind: ExchangeKind::Topic, is_internal: false, arguments: &[] },
    Exchange { name: DEAD_LETTERS, kind: ExchangeKind::Fanout, is_internal: false, arguments: &[] },
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
            .map
            .lanes
            .iter()
            .map(|lane| Queue { name: lane_queue(lane), arguments: LANE_ARGUMENTS });
        std::iter::once(dead_letters).chain(lanes)
    }

    /// Source, destination and pattern of each binding.
    pub(super) fn binding_names(&self) -> impl Iterator<Item = [String; 3]> {
        self.bindings().map(|Binding { exchange, destination, pattern }| {
            let destination = match destination {
                Destination::Queue(queue) => queue,
                Destination::Exchange(exchange) => exchange.to_owned(),
            };
            [exchange.to_owned(), destination, pattern]
        })
    }

    fn bindings(&self) -> impl Iterator<Item = Binding> {
        let to_queue = |exchange, queue, pattern: &str| Binding {
            exchange,
            destination: Destination::Queue(queue),
            pattern: pattern.to_owned(),
        };
        let all_commands = Binding {
            exchange: COMMANDS,
            destination: Destination::Exchange(ROUTING),
            pattern: "#".to_owned(),
        };
        let fixed = [
            to_queue(DEAD_LETTERS, DEAD_LETTERS.to_owned(), ""),
            to_queue(COMMANDS_UNBOUND, lane_queue(CATCH_ALL_LANE), ""),
            all_commands,
        ];
        let lanes = self.map.patterns.iter();
        let lanes = lanes.map(move |(pattern, lane)| to_queue(ROUTING, lane_queue(lane), pattern));
        fixed.into_iter().chain(lanes)
    }
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
}
