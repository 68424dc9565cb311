//! Which server a connection goes to, and what is known of its version.

use std::fmt;

use crate::domain::priority::DeliveryOrder;

/// A server, as it calls itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    product: String,
    /// As it was said.
    text: String,
    version: Option<Version>,
}

/// Major and minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32);

/// What is to be known about a server before one relies on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Whether the tests run on it.
    pub tested: bool,
    /// For people, one sentence each.
    pub notes: &'static [&'static str],
}

const PRIORITY_IGNORED: &str = "it ignores message priority; from 4.0 on priority reorders a lane";
const PRIORITY_CLASSES: &str =
    "commands of priority 5 and more overtake the others of their lane, so lanes refuse them";
const PRIORITY_LEVELS: &str = "each priority level overtakes the lower ones (none counts as 4, and many clients send 0), so lanes refuse every level but their own";
const DEEP_HEADERS: &str =
    "deeply nested headers cost it seconds for each delivery: set frame_max = 16384";
const EXPIRY: &str = "a command with `expiration` and a forged x-death header can end the node's dead-letter worker: then no lane can be declared until the node is restarted";
const CONSUMER_TIMEOUT: &str = "a consumer time-out returns only the overdue deliveries: lanes subscribe with one of their own; update to 4.3.6 or later, as earlier ones can wedge a lane after it";

impl Server {
    /// By what it calls itself.
    #[must_use]
    pub fn of(product: &str, version: &str) -> Self {
        let known = (product == "RabbitMQ").then(|| Version::parse(version)).flatten();
        Self { product: product.to_owned(), text: version.to_owned(), version: known }
    }

    /// How it delivers. A server that does not say what it is counts as the newest one known.
    #[must_use]
    pub fn delivery_order(&self) -> DeliveryOrder {
        match self.version {
            Some(version) if version < Version(4, 0) => DeliveryOrder::Queued,
            Some(version) if version < Version(4, 3) => DeliveryOrder::TwoClasses,
            Some(_) | None => DeliveryOrder::Levels,
        }
    }

    /// Whether its time over a delivery grows with the square of its headers' depth.
    #[must_use]
    pub fn is_slow_on_deep_headers(&self) -> bool {
        self.version.is_none_or(|version| version >= Version(4, 0))
    }

    /// What is known of it; nothing of one that was never run.
    #[must_use]
    pub fn known(&self) -> Option<Known> {
        let version = self.version?;
        let known = match version {
            Version(3, 10) => Known { tested: true, notes: &[PRIORITY_IGNORED, EXPIRY] },
            Version(3, 11..) => Known { tested: false, notes: &[PRIORITY_IGNORED] },
            Version(4, minor @ 0..=2) => {
                Known { tested: minor == 0, notes: &[PRIORITY_CLASSES, DEEP_HEADERS] }
            }
            Version(4, 3) => {
                Known { tested: true, notes: &[PRIORITY_LEVELS, CONSUMER_TIMEOUT, DEEP_HEADERS] }
            }
            _ => return None,
        };
        Some(known)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.product.is_empty(), self.text.is_empty()) {
            (true, _) => f.write_str("a server that does not say what it is"),
            (false, true) => write!(f, "{} of an unknown version", self.product),
            (false, false) => write!(f, "{} {}", self.product, self.text),
        }
    }
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(['.', '-', '+']);
        Some(Self(numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_decides_on_the_order_of_delivery() {
        use DeliveryOrder::{Levels, Queued, TwoClasses};
        for (product, version, order, is_known) in [
            ("RabbitMQ", "3.9.13", Queued, false),
            ("RabbitMQ", "3.10.8", Queued, true),
            ("RabbitMQ", "3.13.0-rc.1", Queued, true),
            ("RabbitMQ", "4.0.5", TwoClasses, true),
            ("RabbitMQ", "4.2.1+1.g0abc", TwoClasses, true),
            ("RabbitMQ", "4.3.6", Levels, true),
            ("RabbitMQ", "4.10.0", Levels, false),
            ("RabbitMQ", "5.0.0", Levels, false),
            ("RabbitMQ", "next", Levels, false),
            ("LavinMQ", "3.10.8", Levels, false),
            ("", "", Levels, false),
        ] {
            let server = Server::of(product, version);
            assert_eq!(server.delivery_order(), order, "{server}");
            assert_eq!(server.known().is_some(), is_known, "{server}");
        }
    }
}
