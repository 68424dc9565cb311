//! How the database reads what a batch asks for: by key, even where nothing was ever analysed, as
//! on the first day of a partition.

use std::time::Duration;

use chrono::Utc;
use partner_program_worker::message::Message;
use serde_json::json;

use crate::harness::environment::TestEnv;
use crate::harness::eventually;
use crate::harness::publisher::command;
use crate::harness::worker::Process;
use crate::harness::workload::{self, ORG, PROGRAM};
use crate::model::Model;

const DEADLINE: Duration = Duration::from_mins(2);
const COMMANDS: usize = 5_000;
/// A row is looked up when it is written, when its index is kept unique, and for the batch's facts.
const READS_MAX: usize = 10;

#[tokio::test]
async fn a_batch_reads_no_more_rows_than_it_asks_for() {
    let mut env = TestEnv::new("plans", &Model::new(Utc::now(), workload::world())).await;
    let customers = "insert into customer (org_id, id, mobile, state) \
         select org.id, n, (919000000000 + n)::text, 'active' \
         from org, generate_series(1000, 6000) n";
    env.rows.execute(customers).await;
    let messages: Vec<Message> = (0..COMMANDS).map(link).collect();
    env.publisher.publish(&messages).await;

    let mut worker = Process::start(&env.settings, "reader");
    eventually(DEADLINE, "all effects are stored", async || {
        (env.rows.history_count().await == COMMANDS).then_some(())
    })
    .await;
    worker.signal("TERM").await;
    assert!(worker.ended().await.success(), "{}", worker.words());
    // A session's figures are there when it has ended.
    eventually(DEADLINE, "the worker's sessions have ended", async || {
        (env.rows.workers_connections().await == 0).then_some(())
    })
    .await;
    for (table, read) in [
        ("command_log", env.rows.count(&reads("command_log_%")).await),
        ("enrolment", env.rows.count(&reads("enrolment")).await),
        ("customer", env.rows.count(&reads("customer")).await),
    ] {
        assert!(read <= READS_MAX * COMMANDS, "{read} rows of {table} for {COMMANDS} commands");
    }
}

/// The rows and index entries that were read of these tables.
fn reads(tables: &str) -> String {
    format!(
        "select (select coalesce(sum(seq_tup_read), 0) from pg_stat_user_tables \
                 where relname like '{tables}')::bigint \
            + (select coalesce(sum(idx_tup_read), 0) from pg_stat_user_indexes \
                 where relname like '{tables}')::bigint"
    )
}

/// Links a customer of his own for each number.
fn link(number: usize) -> Message {
    let body = json!({ "linkCustomers": [{
        "customer": { "mobile": format!("{}", 9_000_001_000_u64 + number as u64) },
        "linkToPartnerPrograms": [{
            "partnerProgramName": PROGRAM,
            "customerPartnerReference": { "partnerMembershipId": format!("m-{number}") },
        }],
    }]});
    command(&format!("{ORG}.link"), Some(&format!("plan-{number}")), body.to_string())
}
