//! Stores a batch: ONE transaction of fence, inbox, enrolments, history.
//!
//! A crash before the commit leaves nothing; after it, everything. Where the connection breaks
//! during the commit the outcome is unknown, and the batch is simply done again: the inbox
//! tells which of its commands are in.

use std::collections::BTreeSet;

use sqlx::Connection as _;
use uuid::Uuid;

use crate::domain::replay::Replay;
use crate::domain::snapshot::Change;
use crate::failpoint::{self, Point};
use crate::store::attempts;
use crate::store::command_log::{self, Record};
use crate::store::connection::Connection;
use crate::store::dead_letters::replayed;
use crate::store::enrolments;
use crate::store::error::Error;
use crate::store::fence::{self, DecidedBy, Fence};
use crate::store::history;
use crate::store::holds;

/// A batch after its evaluation.
pub struct Batch<'a> {
    /// The commands that were not in the inbox, in the order in which they take effect.
    pub records: &'a [Record],
    /// What they have made of the facts, ordered by key.
    pub changes: &'a [Change<'a>],
    /// The deliveries whose attempts were counted; they are done now.
    pub attempts: &'a [Uuid],
    /// The version of the catalogue by which the commands were decided.
    pub catalogue: i64,
    /// Replays of dead letters that take effect with it.
    pub replays: &'a [Replay],
    /// Who waits behind dead letters now, and who no longer; in lanes that hold customers.
    pub holds: Option<&'a holds::Changes>,
}

/// Commits the batch if the lane is still this worker's.
///
/// # Errors
///
/// [`Error::Fenced`] if it is not; [`Error::Conflict`] if the catalogue, an enrolment, a membership
/// id, a command id or a replayed dead letter is no longer as it was loaded. Either way nothing is stored.
pub async fn commit(
    connection: &mut Connection,
    fence: &Fence,
    batch: &Batch<'_>,
) -> Result<(), Error> {
    failpoint::reach(Point::BeforeBegin);
    // Dropped without a commit on each early return, the transaction is rolled back.
    let mut transaction = connection.begin().await?;
    let org_ids = batch.org_ids();
    let decided_by = DecidedBy { catalogue: batch.catalogue, org_ids: &org_ids };
    fence::check_decisions(&mut transaction, fence, decided_by).await?;
    write(&mut transaction, fence, batch).await?;
    failpoint::reach(Point::BeforeCommit);
    // Every statement above succeeded, so this is no commit of an aborted transaction, which
    // would say nothing and roll back.
    transaction.commit().await?;
    failpoint::reach(Point::AfterCommit);
    Ok(())
}

/// Runs the statements of [`commit`] and rolls them back, under any owner of the lane: the canary does,
/// to tell whether the database takes them.
pub async fn rehearse(
    connection: &mut Connection,
    fence: &Fence,
    batch: &Batch<'_>,
) -> Result<(), Error> {
    let mut transaction = connection.begin().await?;
    let org_ids = batch.org_ids();
    let decided_by = DecidedBy { catalogue: batch.catalogue, org_ids: &org_ids };
    match fence::check_decisions(&mut transaction, fence, decided_by).await {
        // An import in between is no fault of the database.
        Ok(()) | Err(Error::Fenced { .. } | Error::Conflict(_)) => {}
        Err(error) => return Err(error),
    }
    write(&mut transaction, fence, batch).await?;
    transaction.rollback().await?;
    Ok(())
}

impl Batch<'_> {
    /// Each org once.
    fn org_ids(&self) -> Vec<i32> {
        let ids: BTreeSet<i32> = self.records.iter().map(|record| record.key.org_id.0).collect();
        ids.into_iter().collect()
    }
}

async fn write(
    transaction: &mut Connection,
    fence: &Fence,
    batch: &Batch<'_>,
) -> Result<(), Error> {
    command_log::append(transaction, fence, batch.records).await?;
    enrolments::write(transaction, batch.changes).await?;
    history::append(transaction, batch.records).await?;
    if !batch.attempts.is_empty() {
        attempts::clear(transaction, &fence.lane, batch.attempts).await?;
    }
    if !batch.replays.is_empty() {
        replayed::mark_applied(transaction, batch.replays).await?;
    }
    if let Some(changes) = batch.holds {
        holds::write(transaction, &fence.lane, changes).await?;
    }
    Ok(())
}

/// Returns when all that could be read before is as safe as a commit of our own.
///
/// A commit that waits for a synchronous standby is there to read, on this server alone, once the
/// wait was cut off: by a restart, or by an operator who ended the session. If it were answered for
/// then, a failover would lose it for good. A transaction that only locks a row waits as well, and
/// no shorter, for the log is passed on in order.
///
/// The wait has no bound on the server. Those who give up and come again wait for the lock
/// instead, which has one, so no more than one session a lane is left behind.
pub async fn confirm(connection: &mut Connection, fence: &Fence) -> Result<(), Error> {
    let mut transaction = connection.begin().await?;
    fence::check_alone(&mut transaction, fence).await?;
    transaction.commit().await?;
    Ok(())
}
