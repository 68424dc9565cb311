//! A stored word that this program does not know is an error that names it, not another word.

use partner_program_worker::domain::needs::Needs;
use partner_program_worker::store::error::Error;
use partner_program_worker::store::{catalogue, load, routing};
use sqlx::{Executor, raw_sql};

use crate::store::{TestEnv, customer, link_of};

#[tokio::test]
async fn an_unknown_state_of_a_customer_is_named_and_the_customer_is_not() {
    let mut env = TestEnv::new("unknown_state").await;
    let change = "alter table customer drop constraint customer_state_check;
        update customer set state = 'asleep' where id = 2";
    env.connection.execute(raw_sql(change)).await.unwrap();
    env.apply(&[("1", link_of(customer(1), "a"))]).await.expect("another customer is as before");
    let mut needs = Needs::default();
    needs.add_command(&env.catalogue.orgs["acme"], &link_of(customer(2), "b"));
    let Err(Error::Statement(text)) = load::load(&mut env.connection, &needs).await else {
        panic!("the canary tells whether it is the command's own");
    };
    assert!(text.starts_with("customer.state holds `asleep`, which this program does not know: "));
    assert!(!text.contains("910000000002") && !text.contains("example"), "{text}");
}

#[tokio::test]
async fn an_unknown_kind_of_a_program_or_a_change_is_an_outage() {
    let mut env = TestEnv::new("unknown_kind").await;
    let change = "alter table program drop constraint program_kind_check;
        update program set kind = 'OTHER';
        insert into routing_map (version) values (1);
        alter table routing_change drop constraint routing_change_step_check;
        alter table routing_change drop constraint routing_change_finished_check;
        insert into routing_change (kind, step, pattern, from_lane, to_lane, leg_from, leg_to, actor, reason, source)
            values ('move', 'other', 'a.#', 'main', 'b', 'main', 'b', 'ann', 'r', 's')";
    env.connection.execute(raw_sql(change)).await.unwrap();
    let read = catalogue::load(&mut env.connection).await;
    assert!(
        matches!(read, Err(Error::Outage(text)) if text.contains("program.kind holds `OTHER`"))
    );
    let read = routing::load(&mut env.connection).await;
    assert!(
        matches!(read, Err(Error::Outage(text)) if text.contains("routing_change.step holds `other`"))
    );
    let change = "alter table routing_change drop constraint routing_change_kind_check;
        alter table routing_change drop constraint routing_change_move_check;
        update routing_change set kind = 'other'";
    env.connection.execute(raw_sql(change)).await.unwrap();
    let read = routing::load(&mut env.connection).await;
    assert!(
        matches!(read, Err(Error::Outage(text)) if text.contains("routing_change.kind holds `other`"))
    );
}
