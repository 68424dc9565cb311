//! The history as the database has it and as the reference model expects it.

use chrono::{DateTime, Utc};

use crate::model::{Enrolment, Event, Key};

/// An enrolment's values, as a history row has them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Values {
    pub(crate) linked: bool,
    pub(crate) membership_id: Option<String>,
    pub(crate) tier: Option<String>,
    pub(crate) tier_expires_at: Option<DateTime<Utc>>,
}

/// A history row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HistoryRow {
    pub(crate) key: Key,
    pub(crate) kind: String,
    /// `None`: an id that the worker has made.
    pub(crate) command_id: Option<String>,
    pub(crate) version: i64,
    pub(crate) old: Option<Values>,
    pub(crate) new: Values,
    pub(crate) reason: Option<String>,
    pub(crate) occurred_at: DateTime<Utc>,
}

impl Values {
    fn of(row: &Enrolment) -> Self {
        Self {
            linked: row.linked,
            membership_id: row.membership_id.clone(),
            tier: row.tier.clone(),
            tier_expires_at: row.tier_expires_at,
        }
    }
}

impl HistoryRow {
    /// The row that the reference model expects.
    pub(crate) fn expected(event: &Event, now: DateTime<Utc>) -> Self {
        Self {
            key: event.key.clone(),
            kind: event.kind.clone(),
            command_id: event.command_id.clone(),
            version: event.after.version,
            old: event.before.as_ref().map(Values::of),
            new: Values::of(&event.after),
            reason: event.reason.clone(),
            occurred_at: now,
        }
    }
}

/// Sorted by customer: the rows of one customer keep their order.
pub(crate) fn by_customer(mut history: Vec<HistoryRow>) -> Vec<HistoryRow> {
    history.sort_by(|one, other| (&one.key.0, one.key.1).cmp(&(&other.key.0, other.key.1)));
    history
}
