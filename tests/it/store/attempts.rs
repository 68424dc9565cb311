//! The record of tries.

use std::collections::HashMap;

use partner_program_worker::domain::attempt::Company;
use partner_program_worker::store::attempts::{self, Attempts};
use partner_program_worker::store::commit::{self, Batch};
use partner_program_worker::store::error::Error;
use partner_program_worker::store::fence;
use uuid::Uuid;

use crate::store::TestEnv;

/// The rows of the table in `src/ARCHITECTURE.md#attempts` that the database decides: what is left of a
/// try that a process did not end, by who asks.
#[tokio::test]
async fn a_try_counts_as_a_death_only_if_its_process_did_not_survive_it() {
    let mut env = TestEnv::new("attempts").await;
    let (process, next) = (Uuid::from_u128(10), Uuid::from_u128(11));
    let (one, other, third) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
    let ids = [one, other, third];
    let catalogue = env.catalogue.version;
    let (connection, fence) = (&mut env.connection, &env.fence);
    let counts = |found: &HashMap<Uuid, Attempts>, id| {
        found.get(&id).map(|attempts: &Attempts| (attempts.counted, attempts.deaths))
    };
    assert!(attempts::find(connection, fence, next, &ids).await.unwrap().is_empty());

    // The same process knows that it lives.
    attempts::begin(connection, fence, process, &[one, one], Company::Alone).await.unwrap();
    attempts::begin(connection, fence, process, &[other], Company::Shared).await.unwrap();
    let found = attempts::find(connection, fence, process, &ids).await.unwrap();
    assert_eq!(
        [one, other, third].map(|id| counts(&found, id)),
        [Some((0, 0)), Some((0, 0)), None]
    );

    // Another one counts each try as a death, once.
    attempts::begin(connection, fence, process, &[one], Company::Alone).await.unwrap();
    attempts::begin(connection, fence, process, &[other], Company::Shared).await.unwrap();
    for _ in 0..2 {
        let found = attempts::find(connection, fence, next, &ids).await.unwrap();
        assert_eq!([one, other].map(|id| counts(&found, id)), [Some((1, 0)), Some((0, 1))]);
        assert!(found[&one].last_error.as_deref().is_some_and(|error| error.contains("died")));
    }

    // A try that was taken back, or that ended, is no death.
    attempts::begin(connection, fence, process, &[one, other], Company::Alone).await.unwrap();
    attempts::take_back(connection, "main", process).await.unwrap();
    attempts::begin(connection, fence, process, &[third], Company::Alone).await.unwrap();
    assert_eq!(attempts::end(connection, fence, third, true, "P0001").await.unwrap(), 1);
    assert_eq!(attempts::end(connection, fence, third, false, "53100").await.unwrap(), 1);
    let found = attempts::find(connection, fence, next, &ids).await.unwrap();
    assert_eq!(ids.map(|id| counts(&found, id)), [Some((1, 0)), Some((0, 1)), Some((1, 0))]);
    assert_eq!(found[&third].last_error.as_deref(), Some("53100"));

    // A commit forgets them, and a worker that has lost the lane has no say in what is given up.
    let batch = Batch {
        records: &[],
        changes: &[],
        attempts: &[one],
        catalogue,
        replays: &[],
        holds: None,
    };
    commit::commit(connection, fence, &batch).await.unwrap();
    let found = attempts::find(connection, fence, next, &ids).await.unwrap();
    assert_eq!(counts(&found, one), None);
    fence::acquire(connection, "main", "another").await.unwrap();
    let found = attempts::find(connection, fence, next, &[other]).await;
    assert!(matches!(found, Err(Error::Fenced { .. })), "{found:?}");
    let begun = attempts::begin(connection, fence, next, &[other], Company::Shared).await;
    assert!(matches!(begun, Err(Error::Fenced { .. })), "{begun:?}");
}
