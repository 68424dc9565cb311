//! How what was looked up is printed.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use crate::cli::output::{Row, moment, or_dash};
use crate::store::lookup;
use crate::store::parked::Held;

/// A command with its envelope and its result.
#[derive(Serialize)]
pub(super) struct CommandView {
    org: String,
    command_id: String,
    operation: &'static str,
    verdict: &'static str,
    items_total: u32,
    items_succeeded: u32,
    items_failed: u32,
    occurred_at: DateTime<Utc>,
    recorded_at: DateTime<Utc>,
    sent_at: Option<DateTime<Utc>>,
    lane: String,
    lane_epoch: i64,
    sequence: i64,
    correlation_id: Option<String>,
    app_id: Option<String>,
    user_id: Option<String>,
    traceparent: Option<String>,
    pub(super) result: Value,
}

impl CommandView {
    pub(super) fn of(command_id: String, found: lookup::Command) -> serde_json::Result<Self> {
        let stored = found.stored;
        Ok(Self {
            org: stored.org_code,
            command_id,
            operation: stored.operation.as_str(),
            verdict: stored.verdict.as_str(),
            items_total: stored.counts.total,
            items_succeeded: stored.counts.succeeded,
            items_failed: stored.counts.failed,
            occurred_at: found.occurred_at,
            recorded_at: found.recorded_at,
            sent_at: stored.sent_at,
            lane: found.lane,
            lane_epoch: found.lane_epoch,
            sequence: found.sequence,
            correlation_id: stored.correlation_id,
            app_id: stored.app_id,
            user_id: stored.user_id,
            traceparent: stored.traceparent,
            result: serde_json::from_slice(&stored.result)?,
        })
    }

    pub(super) fn cells(&self) -> Vec<(&'static str, String)> {
        let items = format!(
            "{} total, {} succeeded, {} failed",
            self.items_total, self.items_succeeded, self.items_failed
        );
        vec![
            ("org", self.org.clone()),
            ("command", self.command_id.clone()),
            ("operation", self.operation.to_owned()),
            ("verdict", self.verdict.to_owned()),
            ("items", items),
            ("occurred", moment(self.occurred_at)),
            ("recorded", moment(self.recorded_at)),
            ("sent", time_or_dash(self.sent_at)),
            ("lane", format!("{}, epoch {}", self.lane, self.lane_epoch)),
            ("sequence", self.sequence.to_string()),
            ("correlation id", or_dash(self.correlation_id.as_ref())),
            ("app id", or_dash(self.app_id.as_ref())),
            ("user id", or_dash(self.user_id.as_ref())),
            ("traceparent", or_dash(self.traceparent.as_ref())),
        ]
    }
}

/// A customer with all their enrolments.
#[derive(Serialize)]
pub(super) struct CustomerView {
    org: String,
    id: i64,
    mobile: Option<String>,
    email: Option<String>,
    external_id: Option<String>,
    state: String,
    held_by: Vec<String>,
    parked: i64,
    pub(super) enrolments: Vec<Enrolment>,
}

impl CustomerView {
    pub(super) fn of(
        org: String,
        customer: lookup::Customer,
        enrolments: Vec<lookup::Enrolment>,
        held: &Held,
    ) -> Self {
        let held_by = held.letters.iter().map(ToString::to_string).collect();
        let parked = held.parked;
        let lookup::Customer { id, mobile, email, external_id, state } = customer;
        let enrolments = enrolments.into_iter().map(Enrolment::of).collect();
        Self { org, id, mobile, email, external_id, state, held_by, parked, enrolments }
    }

    pub(super) fn cells(&self) -> Vec<(&'static str, String)> {
        let mut cells = vec![
            ("org", self.org.clone()),
            ("customer", self.id.to_string()),
            ("mobile", or_dash(self.mobile.as_ref())),
            ("email", or_dash(self.email.as_ref())),
            ("external id", or_dash(self.external_id.as_ref())),
            ("state", self.state.clone()),
        ];
        if !self.held_by.is_empty() || self.parked > 0 {
            cells.push(("held", self.held()));
        }
        cells
    }

    /// Somebody who shares a command with a held customer is held without a letter.
    fn held(&self) -> String {
        let behind = match self.held_by.as_slice() {
            [] => "behind another customer's letter".to_owned(),
            letters => format!("behind letter {}", letters.join(", ")),
        };
        format!("{behind}: {} commands are parked", self.parked)
    }
}

#[derive(Serialize)]
pub(super) struct Enrolment {
    program: String,
    linked: bool,
    membership_id: Option<String>,
    tier: Option<String>,
    tier_expires_at: Option<DateTime<Utc>>,
    linked_since: DateTime<Utc>,
    version: i64,
}

impl Enrolment {
    fn of(found: lookup::Enrolment) -> Self {
        let lookup::Enrolment {
            program,
            linked,
            membership_id,
            tier,
            tier_expires_at,
            linked_since,
            version,
        } = found;
        Self { program, linked, membership_id, tier, tier_expires_at, linked_since, version }
    }
}

impl Row for Enrolment {
    const HEADERS: &'static [&'static str] =
        &["PROGRAM", "LINKED", "MEMBERSHIP", "TIER", "EXPIRES", "SINCE", "VERSION"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.program.clone(),
            yes_or_no(self.linked),
            or_dash(self.membership_id.as_ref()),
            or_dash(self.tier.as_ref()),
            time_or_dash(self.tier_expires_at),
            moment(self.linked_since),
            self.version.to_string(),
        ]
    }
}

/// A row of the history.
#[derive(Serialize)]
pub(super) struct Effect {
    occurred_at: DateTime<Utc>,
    kind: String,
    program: String,
    old: Option<Standing>,
    new: Standing,
    command_id: String,
    position: i32,
    reason: Option<String>,
    version: i64,
}

#[derive(Serialize)]
struct Standing {
    linked: bool,
    membership_id: Option<String>,
    tier: Option<String>,
    tier_expires_at: Option<DateTime<Utc>>,
}

impl Effect {
    pub(super) fn of(found: lookup::Effect) -> Self {
        Self {
            occurred_at: found.occurred_at,
            kind: found.kind,
            program: found.program,
            old: found.old.map(Standing::of),
            new: Standing::of(found.new),
            command_id: found.command_id,
            position: found.position,
            reason: found.reason,
            version: found.version,
        }
    }
}

impl Standing {
    fn of(found: lookup::Standing) -> Self {
        let lookup::Standing { linked, membership_id, tier, tier_expires_at } = found;
        Self { linked, membership_id, tier, tier_expires_at }
    }

    fn cells(&self) -> [String; 4] {
        [
            yes_or_no(self.linked),
            or_dash(self.membership_id.as_ref()),
            or_dash(self.tier.as_ref()),
            time_or_dash(self.tier_expires_at),
        ]
    }
}

impl Row for Effect {
    const HEADERS: &'static [&'static str] = &[
        "WHEN",
        "KIND",
        "PROGRAM",
        "LINKED",
        "MEMBERSHIP",
        "TIER",
        "EXPIRES",
        "COMMAND",
        "REASON",
    ];

    fn cells(&self) -> Vec<String> {
        let none = || std::array::from_fn(|_| "-".to_owned());
        let old: [String; 4] = self.old.as_ref().map_or_else(none, Standing::cells);
        let changes = old
            .into_iter()
            .zip(self.new.cells())
            .map(|(old, new)| if old == new { new } else { format!("{old} → {new}") });
        let mut cells = vec![moment(self.occurred_at), self.kind.clone(), self.program.clone()];
        cells.extend(changes);
        cells.push(self.command_id.clone());
        cells.push(or_dash(self.reason.as_ref()));
        cells
    }
}

fn yes_or_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

fn time_or_dash(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(|| "-".to_owned(), moment)
}
