//! Each transaction that changes several dead letters locks them in the order of their ids, so no two of
//! them deadlock.

use std::time::Duration;

use partner_program_worker::store::connection;
use partner_program_worker::store::dead_letters::claims;
use sqlx::{Connection, Executor, raw_sql};
use uuid::Uuid;

use crate::harness::eventually;
use crate::store::TestEnv;

const SOON: Duration = Duration::from_secs(20);

/// Two claimed letters; the one with the larger id is first in the table.
const LETTERS: &str = "
    insert into bulk_job (id, kind, filter, actor, reason, source, matched)
        values ('00000000-0000-0000-0000-000000000009', 'replay', '{}', 'ana', 'test', 'cli', 2);
    insert into dead_letter (id, operation, reason, detail, fingerprint, exchange, routing_key, properties,
            headers, body, state, bulk_job_id)
        select ('00000000-0000-0000-0000-00000000000' || n)::uuid, 'link', 'not-json', '', 'f', '', '', '{}',
            '{}', '', 'replaying', '00000000-0000-0000-0000-000000000009'
        from unnest(array[2, 1]) n;";

const WAITS: &str = "select exists (select from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock')";

#[tokio::test]
async fn claims_are_closed_in_the_order_of_the_letters_ids() {
    let mut env = TestEnv::new("lock order").await;
    env.connection.execute(raw_sql(LETTERS)).await.unwrap();
    let [first, second, job] = [1, 2, 9].map(Uuid::from_u128);
    let mut runner = connection::connect(&env.place.database_url, "runner").await.unwrap();

    let mut transaction = env.connection.begin().await.unwrap();
    let lock = "select from dead_letter where id = $1 for update nowait";
    sqlx::query(lock).bind(first).execute(&mut *transaction).await.unwrap();
    let closing =
        tokio::spawn(async move { claims::close(&mut runner, job, &[second, first], &[]).await });
    eventually(SOON, "the runner waits", async || {
        let waits: bool = sqlx::query_scalar(WAITS).fetch_one(&mut *transaction).await.unwrap();
        waits.then_some(())
    })
    .await;
    let locked = sqlx::query(lock).bind(second).execute(&mut *transaction).await;
    assert!(locked.is_ok(), "the runner has locked the second letter before the first: {locked:?}");
    transaction.commit().await.unwrap();
    closing.await.unwrap().unwrap();
    let open = "select count(*) from dead_letter where state = 'replayed'";
    let replayed: i64 = sqlx::query_scalar(open).fetch_one(&mut env.connection).await.unwrap();
    assert_eq!(replayed, 2);
}
