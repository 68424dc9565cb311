//! A witness inside the database: for each inbox row, who held the lane when it was written.
//!
//! A worker that was fenced off may write rows that look right in the end. The witness sees that
//! they were not its to write.

use crate::checker::{Check, Findings};
use crate::harness::database::TestDatabase;

/// Lets the witness watch from now on.
pub(crate) async fn install(rows: &mut TestDatabase) {
    rows.execute(
        "create table witness (command_id text, epoch bigint, held bigint); \
         create function witness() returns trigger language plpgsql as $$ begin \
             insert into witness select new.command_id, new.lane_epoch, lane.epoch \
             from lane where lane.name = new.lane; \
             return null; \
         end $$; \
         create trigger witness after insert on command_log for each row \
             execute function witness()",
    )
    .await;
}

pub(crate) async fn judge(findings: &mut Findings, rows: &mut TestDatabase) {
    let strangers = rows.count("select count(*) from witness where epoch <> held").await;
    if strangers > 0 {
        let what = format!("{strangers} commands were applied by a worker that had lost the lane");
        findings.add(Check::Order, what);
    }
    let deadlocks = rows
        .count("select deadlocks from pg_stat_database where datname = current_database()")
        .await;
    if deadlocks > 0 {
        findings.add(Check::Clean, format!("{deadlocks} deadlocks"));
    }
}
