//! Runs the canary: the statements of a batch for an org that no publisher can address, rolled back,
//! and one committed row.
//!
//! It tells whose fault a failure is. If the canary passes, the database accepts the statements and
//! commits, so the failure is the command's own. If it fails, the lane waits. A lane also waits for a canary
//! that passes before it subscribes: each closed channel counts as a delivery of everything it held.

use std::panic::AssertUnwindSafe;

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use uuid::Uuid;

use crate::domain::canary;
use crate::domain::evaluate::evaluate;
use crate::domain::needs::Needs;
use crate::failpoint;
use crate::store;
use crate::store::command_log::{CommandKey, Record, Stored};
use crate::store::commit::{self, Batch};
use crate::store::error::Error;
use crate::store::fence::Fence;
use crate::store::held_letters::Hold;
use crate::store::holds::{Changes, Parking, Question};
use crate::store::session::{self, Session};
use crate::wire::result;

/// Runs the canary, and says what failed. The session can be used afterwards.
pub(crate) async fn run(
    session: &mut Session,
    fence: &Fence,
    worker: &str,
    asks_for_holds: bool,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    failpoint::without!(Canary, return Ok(()));
    let timeout = session.timeout();
    let running = rehearse(session, fence, worker, asks_for_holds, now);
    let passed = AssertUnwindSafe(session::bounded(timeout, running)).catch_unwind().await;
    let passed = passed.unwrap_or_else(|_panic| {
        Err(Error::Outage("the canary panicked: see the log for where".into()))
    });
    if passed.is_err() {
        session.discard();
    }
    passed
}

async fn rehearse(
    session: &mut Session,
    fence: &Fence,
    worker: &str,
    asks_for_holds: bool,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let catalogue = session.catalogue().await?.version;
    let connection = session.connection().await?;
    let org = canary::org();
    let commands = canary::commands(&Uuid::now_v7().to_string(), now);
    let mut needs = Needs::default();
    for command in &commands {
        needs.add_command(&org, command);
    }
    let keys = commands
        .each_ref()
        .map(|_| CommandKey { org_id: org.id, command_id: Uuid::now_v7().to_string() });
    store::command_log::find(connection, &keys).await?;
    let mut snapshot = store::load::load(connection, &needs).await?;
    let records: Vec<Record> = commands
        .iter()
        .zip(&keys)
        .map(|(command, key)| {
            let outcome = evaluate(&org, &mut snapshot, command, now);
            let stored = Stored {
                org_code: org.code.clone(),
                body_hash: [0; 32],
                operation: command.operation(),
                verdict: outcome.verdict(),
                counts: outcome.counts(),
                result: result::encode(command, &outcome),
                correlation_id: None,
                app_id: None,
                user_id: None,
                traceparent: None,
                sent_at: Some(now),
            };
            Record { key: key.clone(), stored, effects: outcome.effects, now }
        })
        .collect();
    let holds = if asks_for_holds {
        let customers = canary::customers();
        let question = Question { customers, keys: keys.to_vec(), letters: vec![Uuid::nil()] };
        store::holds::find(connection, &fence.lane, &question).await?;
        store::holds::count(connection, &fence.lane).await?;
        store::held_letters::find(connection, &question.letters, &question.keys).await?;
        Some(wait_queue_changes(&keys))
    } else {
        None
    };
    let batch = Batch {
        records: &records,
        changes: &snapshot.changes(),
        attempts: &[Uuid::nil()],
        catalogue,
        replays: &[],
        holds: holds.as_ref(),
    };
    commit::rehearse(connection, fence, &batch).await?;
    store::canary::record(connection, &fence.lane, worker).await
}

/// One of each kind of change.
fn wait_queue_changes(keys: &[CommandKey; 2]) -> Changes {
    let [parked, held] = keys.clone();
    Changes {
        parked: vec![Parking {
            key: parked,
            body_hash: [0; 32],
            message: String::new(),
            body: Vec::new(),
            customers: canary::customers(),
            sequence: None,
            position: None,
        }],
        held: vec![Hold {
            dead_letter_id: Uuid::now_v7(),
            key: held,
            customers: canary::customers(),
            replay_of: None,
            sequence: None,
        }],
        widened: Vec::new(),
        released: vec![Uuid::nil()],
        reinstated: vec![Uuid::nil()],
        applied: vec![-1],
    }
}
