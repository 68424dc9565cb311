//! What is forgotten, and what never is.

use partner_program_worker::store::connection::connect;
use partner_program_worker::store::retention::delete_expired_dead_letters;
use sqlx::Executor as _;

use crate::harness::database::TestDatabase;
use crate::harness::servers::Place;

/// A letter of each state, named by it, that died 100 days ago and changed 50 or 10 days ago; and
/// some that something else points to. Each has an action.
const LETTERS: &str = "
    create function letter(name text, letter_state text, changed_days_ago int) returns uuid language sql as $$
        insert into dead_letter (id, reason, operation, detail, fingerprint, state, command_id, exchange,
            routing_key, properties, headers, body, first_died_at, last_died_at, changed_at)
        values (gen_random_uuid(), 'r', 'link', 'd', 'f', letter_state, name, 'e', 'k', '{}', '{}', '',
            now() - interval '100 days', now() - interval '100 days', now() - changed_days_ago * interval '1 day')
        returning id
    $$;
    select letter(state || ' ' || days, state, days) from unnest(array[50, 10]) days, unnest(array['open',
        'replaying', 'replayed', 'applied', 'failed_again', 'discarded', 'superseded']) state;
    update dead_letter set replay_of = letter('came back', 'failed_again', 50) where command_id = 'open 50';
    update dead_letter set edited_from = letter('edited', 'superseded', 50) where command_id = 'open 10';
    insert into hold (dead_letter_id, lane, org_id, command_id) values (letter('holds', 'discarded', 50), 'main', 1, 'holds');
    insert into dead_letter_action (dead_letter_id, action, actor, reason) select id, 'discard', 'olivia', '' from dead_letter;";

#[tokio::test]
async fn letters_that_were_settled_long_ago_are_forgotten_and_no_others() {
    let place = Place::new("retention").await;
    let mut rows = TestDatabase::of(&place).await;
    rows.execute(LETTERS).await;
    let mut worker = connect(&place.database_url, "tests").await.expect("it connects");
    worker.execute("set role partner_program_worker").await.expect("the role is there");

    assert_eq!(delete_expired_dead_letters(&mut worker, 60).await.expect("it may"), 0, "not yet");
    assert_eq!(delete_expired_dead_letters(&mut worker, 30).await.expect("it may"), 4);
    let left = rows.archived_commands().await;
    let mut left: Vec<&str> = left.iter().map(String::as_str).collect();
    left.sort_unstable();
    assert_eq!(
        left,
        [
            "applied 10",
            "came back",
            "discarded 10",
            "edited",
            "failed_again 10",
            "holds",
            "open 10",
            "open 50",
            "replayed 10",
            "replayed 50",
            "replaying 10",
            "replaying 50",
            "superseded 10",
        ]
    );
    assert_eq!(rows.count("select count(*) from dead_letter_action").await, left.len());
    let counted = "select coalesce(sum(letters), 0)::bigint from dead_letter_group";
    assert_eq!(rows.count(counted).await, left.len());

    // What was kept for another's sake goes after it.
    rows.execute("delete from hold; update dead_letter set replay_of = null, edited_from = null")
        .await;
    assert_eq!(delete_expired_dead_letters(&mut worker, 30).await.expect("it may"), 3);
    assert!(delete_expired_dead_letters(&mut worker, 0).await.is_err());
}
