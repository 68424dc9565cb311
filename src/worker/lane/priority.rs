//! Commands with another priority than their lane's (`docs/contract.md#priority`): refused where the broker
//! reorders by it, and counted by who publishes them on any.

use std::sync::Arc;

use crate::broker::version::Server;
use crate::config::lane::{Lane, OtherPriority};
use crate::domain::priority::DeliveryOrder;
use crate::domain::rejection::{Reason, Rejection};
use crate::message::Properties;
use crate::worker::counters::Counters;
use crate::worker::priority_counts::Outcome;

/// Checks the priorities of a generation's deliveries.
pub(crate) struct PriorityCheck {
    lane: Lane,
    order: DeliveryOrder,
    server: String,
    counters: Arc<Counters>,
}

impl PriorityCheck {
    /// Of a lane on this broker.
    pub(crate) fn of(lane: Lane, server: &Server, counters: &Arc<Counters>) -> Self {
        let (order, server) = (server.delivery_order(), server.to_string());
        Self { lane, order, server, counters: Arc::clone(counters) }
    }

    /// Counts a delivery with another priority, and says why it is refused, if it is.
    pub(crate) fn check(&self, properties: &Properties) -> Option<Rejection> {
        let Properties { priority, user_id, .. } = properties;
        let lane_priority = self.lane.priority;
        let differs = |order: DeliveryOrder| order.tells_apart(Some(lane_priority), *priority);
        if !differs(DeliveryOrder::Levels) {
            return None;
        }
        let outcome = match (differs(self.order), self.lane.other_priority) {
            (false, _) => Outcome::Harmless,
            (true, OtherPriority::Refuse) => Outcome::Refused,
            (true, OtherPriority::Warn) => Outcome::Warned,
        };
        let counts = &self.counters.other_priorities;
        counts.count(user_id.as_deref(), outcome);
        let (lane, server) = (&self.lane.name, &self.server);
        let came = priority.map_or_else(|| "no priority".into(), |own| format!("priority {own}"));
        let why = format!(
            "{came}, while the commands of lane `{lane}` have {lane_priority} (none counts as 4), and {server} delivers by priority"
        );
        match outcome {
            Outcome::Refused => Some(Rejection::new(
                Reason::Priority,
                format!("{why}: publish without a priority of its own, then replay"),
            )),
            Outcome::Warned => {
                if counts.may_warn() {
                    tracing::warn!(
                        lane,
                        "a command may take effect out of order, because it has {why}; other_priority is \"warn\", so it is applied; the metric worker_other_priority_commands has the publishers"
                    );
                }
                None
            }
            Outcome::Harmless => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(other: OtherPriority, priority: u8, version: &str) -> PriorityCheck {
        let lane =
            Lane { priority, other_priority: other, ..Lane::new("main".to_owned(), Vec::new()) };
        PriorityCheck::of(lane, &Server::of("RabbitMQ", version), &Arc::default())
    }

    fn of(priority: Option<u8>, user: &str) -> Properties {
        Properties { priority, user_id: Some(user.to_owned()), ..Properties::default() }
    }

    #[test]
    fn the_brokers_version_and_the_setting_decide() {
        use OtherPriority::{Refuse, Warn};
        for (other, lane, version, came, expected) in [
            (Refuse, 4, "3.10.8", Some(9), Some(Outcome::Harmless)),
            (Refuse, 4, "3.10.8", None, None),
            (Refuse, 4, "4.0.5", Some(0), Some(Outcome::Harmless)),
            (Refuse, 4, "4.0.5", Some(5), Some(Outcome::Refused)),
            (Warn, 4, "4.0.5", Some(5), Some(Outcome::Warned)),
            (Refuse, 9, "4.0.5", Some(9), None),
            (Refuse, 9, "4.0.5", None, Some(Outcome::Refused)),
            (Refuse, 4, "4.3.6", Some(0), Some(Outcome::Refused)),
            (Refuse, 0, "4.3.6", Some(0), None),
            (Refuse, 0, "4.3.6", None, Some(Outcome::Refused)),
            (Warn, 0, "4.3.6", None, Some(Outcome::Warned)),
        ] {
            let check = check(other, lane, version);
            let refused = check.check(&of(came, "crm")).is_some();
            assert_eq!(refused, expected == Some(Outcome::Refused), "{came:?} {lane} {version}");
            let counted = check.counters.other_priorities.each();
            let expected = expected.map(|outcome| (("crm".to_owned(), outcome), 1));
            assert_eq!(counted, expected.into_iter().collect::<Vec<_>>());
        }
    }
}
