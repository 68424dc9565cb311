//! Facts that change between the look-ahead, by which a batch is cut, and its commits: the commands of
//! a customer keep their order, by whichever facts they are decided.
//!
//! The tests place each change exactly: a row lock stops one sub-batch at its commit, and a lock of the
//! inbox stops all of them before they load.

use std::time::Duration;

use chrono::Utc;
use partner_program_worker::message::Message;
use serde_json::{Value, json};

use crate::harness::database::TestDatabase;
use crate::harness::environment::TestEnv;
use crate::harness::eventually;
use crate::harness::leftovers::assert_nothing_is_left;
use crate::harness::publisher::command;
use crate::harness::servers::Place;
use crate::harness::worker::Process;
use crate::harness::workload::{self, ORG, OTHER_PROGRAM, PROGRAM};
use crate::model::Model;

const DEADLINE: Duration = Duration::from_mins(1);
const MOBILE: &str = "919800000001";
/// The same, without the org's country code.
const NATIONAL: &str = "9800000001";
/// Commands of the one batch, which is then cut in two.
const BATCH: usize = 16;

struct Batch {
    env: TestEnv,
    /// Holds the locks, in a transaction of its own.
    blocker: TestDatabase,
    worker: Process,
    messages: Vec<Message>,
}

fn delink(id: &str, customer: &Value, program: &str) -> Message {
    let item = json!({ "partnerProgramName": program });
    let entry = json!({ "customer": customer, "deLinkFromPartnerPrograms": [item] });
    command(&format!("{ORG}.delink"), Some(id), json!({ "deLinkCustomers": [entry] }).to_string())
}

fn link(id: &str, customer: i64, program: &str, membership: &str) -> Message {
    let reference = json!({ "partnerMembershipId": membership });
    let item = json!({ "partnerProgramName": program, "customerPartnerReference": reference });
    let entry = json!({ "customer": { "id": customer }, "linkToPartnerPrograms": [item] });
    command(&format!("{ORG}.link"), Some(id), json!({ "linkCustomers": [entry] }).to_string())
}

impl Batch {
    /// Customer 1 has the mobile number; customers 1 and 2 are in both programs, and nobody else.
    async fn new(name: &str) -> Self {
        let world = workload::world_of(&[ORG], &[PROGRAM, OTHER_PROGRAM]);
        let mut env = TestEnv::new(name, &Model::new(Utc::now(), world)).await;
        env.settings = env.settings.with("BATCH_SIZE", BATCH).with("LINGER_MS", 1_000);
        env.rows
            .execute(&format!(
                "update customer set mobile = '{MOBILE}' where id = 1 and org_id > 0; \
                 insert into enrolment (org_id, customer_id, program_id, linked, membership_id, \
                     linked_since, version) \
                 select p.org_id, c.id, p.id, true, 'own-' || c.id, now(), 1 \
                 from program p, generate_series(1, 2) c (id) where p.org_id > 0"
            ))
            .await;
        let blocker = TestDatabase::of(&env.place).await;
        let worker = Process::start(&env.settings, "changing");
        Self { env, blocker, worker, messages: Vec::new() }
    }

    /// Publishes the commands, with others about customers from 20 on behind them, as one batch.
    async fn publish(&mut self, messages: Vec<Message>) {
        self.messages = messages;
        let others = 20..;
        let others = others.take(BATCH - self.messages.len());
        self.messages
            .extend(others.map(|n| link(&format!("other-{n}"), n, PROGRAM, &format!("m{n}"))));
        self.env.publisher.publish(&self.messages).await;
    }

    /// Waits until so many of the worker's sessions wait for a lock of this test's.
    async fn blocked(&mut self, sessions: usize) {
        let waiting = "select count(*) from pg_stat_activity \
            where datname = current_database() and wait_event_type = 'Lock'";
        let rows = &mut self.env.rows;
        eventually(DEADLINE, "the worker waits for the lock", async || {
            (rows.count(waiting).await == sessions).then_some(())
        })
        .await;
    }

    async fn committed(&mut self, id: &str) {
        let committed = format!("select count(*) from command_log where command_id = '{id}'");
        let rows = &mut self.env.rows;
        eventually(DEADLINE, "the command is committed", async || {
            (rows.count(&committed).await == 1).then_some(())
        })
        .await;
    }

    /// Imports that give customer 1's mobile number to customer 2. One file can't: rows are judged by what
    /// is stored.
    async fn move_the_number(&self) {
        for row in [format!("{ORG},1,919800000009"), format!("{ORG},2,{MOBILE}")] {
            let file = tempfile::NamedTempFile::with_suffix(".csv").expect("a file");
            let text = format!("org,id,mobile,email,external_id,state\n{row},,,active\n");
            std::fs::write(file.path(), text).expect("it is written");
            let path = file.path().to_str().expect("text");
            self.env.settings.run(&["import", "customers", path]).await;
        }
    }

    fn begin_import_of_country_code(&self, code: &str) -> tokio::process::Child {
        let path = std::env::temp_dir().join(format!("{}.toml", uuid::Uuid::new_v4()));
        let text =
            format!("[[org]]\ncode = \"{ORG}\"\nname = \"{ORG}\"\ncountry_code = \"{code}\"\n");
        std::fs::write(&path, text).expect("it is written");
        let path = path.to_str().expect("text").to_owned();
        let mut import = self.env.settings.command(&["import", "catalogue", &path]);
        import.stdout(std::process::Stdio::null()).spawn().expect("the program starts")
    }

    /// Waits for all answers; returns whom each command of the history was about, in its order.
    async fn done(mut self) -> Vec<(i64, String)> {
        let count = self.messages.len();
        let all = |all: &[crate::harness::collector::Received]| all.len() == count;
        self.env.results.read_until(DEADLINE, "every answer", all).await;
        let history = self.env.rows.history().await;
        self.worker.signal("TERM").await;
        assert!(self.worker.ended().await.success(), "{}", self.worker.words());
        assert_nothing_is_left(&self.env.place, &["main"]).await;
        let history = history.into_iter();
        history.map(|row| (row.key.1, row.command_id.expect("an id"))).collect()
    }
}

/// The commands that changed a customer, in the order of the history.
fn of(history: &[(i64, String)], customer: i64) -> Vec<&str> {
    let own = history.iter().filter(|(whom, _)| *whom == customer);
    own.map(|(_, command_id)| command_id.as_str()).collect()
}

/// How the first try of the sub-batch that is stopped at its commit ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// Its enrolment has another version.
    Conflict,
    /// Its connection is gone.
    Outage,
    /// As for a conflict, and an import of the catalogue gives the org another country code, by which the
    /// national number is customer 2's.
    Catalogue,
}

#[tokio::test]
async fn a_retry_after_an_import_overtakes_nothing_that_the_other_half_of_its_batch_committed() {
    for end in [End::Conflict, End::Outage, End::Catalogue] {
        let mut batch = Batch::new("facts-retry").await;
        let version = i32::from(!matches!(end, End::Outage));
        let stop = format!(
            "begin; update enrolment set version = version + {version} where customer_id = 1 and org_id > 0"
        );
        batch.blocker.execute(&stop).await;
        let by_mobile = delink("by-mobile", &json!({ "mobile": NATIONAL }), PROGRAM);
        let by_id = delink("by-id", &json!({ "id": 2 }), OTHER_PROGRAM);
        batch.publish(vec![by_mobile, by_id]).await;
        batch.blocked(1).await;
        batch.committed("by-id").await;

        match end {
            End::Conflict => {
                batch.move_the_number().await;
                batch.blocker.execute("commit").await;
            }
            End::Outage => {
                batch.move_the_number().await;
                let cut = "select pg_terminate_backend(pid) from pg_stat_activity \
                    where datname = current_database() and wait_event_type = 'Lock'";
                batch.env.rows.execute(cut).await;
                batch.blocker.execute("commit").await;
            }
            End::Catalogue => {
                let other = format!(
                    "update customer set mobile = '92{NATIONAL}' where id = 2 and org_id > 0"
                );
                batch.env.rows.execute(&other).await;
                let mut import = batch.begin_import_of_country_code("92");
                // It waits for the commit that is under way.
                batch.blocked(2).await;
                batch.blocker.execute("commit").await;
                assert!(import.wait().await.expect("it ends").success());
            }
        }

        let history = batch.done().await;
        assert_eq!(
            of(&history, 2),
            ["by-id"],
            "{end:?}: nothing that was queued before it came after it"
        );
        assert_eq!(of(&history, 1), ["by-mobile"], "{end:?}: whom it meant when the batch was cut");
    }
}

#[tokio::test]
async fn a_batch_of_which_nothing_is_committed_is_cut_again_by_the_facts_of_its_retry() {
    let mut batch = Batch::new("facts-again").await;
    let stop = "begin; update enrolment set version = version + 1 where org_id > 0";
    batch.blocker.execute(stop).await;
    let messages = vec![
        delink("by-mobile", &json!({ "mobile": MOBILE }), PROGRAM),
        delink("by-id", &json!({ "id": 2 }), OTHER_PROGRAM),
        delink("of-1", &json!({ "id": 1 }), OTHER_PROGRAM),
    ];
    batch.publish(messages).await;
    batch.blocked(2).await;
    batch.move_the_number().await;
    batch.blocker.execute("commit").await;

    let history = batch.done().await;
    assert_eq!(of(&history, 2), ["by-mobile", "by-id"]);
    assert_eq!(of(&history, 1), ["of-1"]);
}

/// The batch behind was looked at before the import; facts don't go back.
#[tokio::test]
async fn a_batch_that_was_looked_at_before_an_import_goes_by_no_older_facts_than_the_one_before_it()
{
    let mut batch = Batch::new("facts-back").await;
    batch
        .blocker
        .execute("begin; update enrolment set version = version + 1 where org_id > 0")
        .await;
    let messages = vec![
        delink("by-mobile", &json!({ "mobile": MOBILE }), PROGRAM),
        delink("by-id", &json!({ "id": 2 }), PROGRAM),
    ];
    batch.publish(messages).await;
    batch.blocked(2).await;
    let rows = &mut batch.env.rows;
    let now = rows.texts("select now()::text").await.remove(0);
    let of_1 = |n| delink(&format!("of-30-{n}"), &json!({ "id": 30 }), PROGRAM);
    let mut behind = vec![delink("again", &json!({ "mobile": MOBILE }), OTHER_PROGRAM)];
    behind.extend((1..BATCH).map(of_1));
    batch.env.publisher.publish(&behind).await;
    let looked = format!(
        "select count(*) from pg_stat_activity where datname = current_database() \
            and state = 'idle' and query_start > '{now}' and query like '%from (%customer c%'"
    );
    eventually(DEADLINE, "the batch behind is looked at", async || {
        (rows.count(&looked).await == 1).then_some(())
    })
    .await;
    batch.move_the_number().await;
    batch.blocker.execute("commit").await;

    batch.messages.extend(behind);
    let history = batch.done().await;
    assert_eq!(of(&history, 2), ["by-mobile", "again"], "whose number it is by then");
    assert_eq!(of(&history, 1), [""; 0]);
}

/// Another lane gives the membership id to a customer of the other half, between look-ahead and load.
#[tokio::test]
async fn a_membership_id_that_changes_its_holder_before_the_load_joins_what_was_cut_apart() {
    let mut batch = Batch::new("facts-holder").await;
    // The canary and the acquisition of the lane need the inbox: an order before everything else.
    let first: Vec<Message> =
        (0..BATCH).map(|n| delink(&format!("first-{n}"), &json!({ "id": 40 }), PROGRAM)).collect();
    batch.env.publisher.publish(&first).await;
    batch.committed("first-0").await;
    batch.blocker.execute("begin; lock table command_log in access exclusive mode").await;
    let messages = vec![
        delink("leaves", &json!({ "id": 2 }), PROGRAM),
        link("joins", 3, PROGRAM, "passed-on"),
    ];
    batch.publish(messages).await;
    batch.blocked(2).await;
    let other_lane = "update enrolment set membership_id = 'passed-on', version = version + 1 \
        where customer_id = 2 and org_id > 0 and program_id = (select id from program where name = 'Plain')";
    batch.env.rows.execute(other_lane).await;
    batch.blocker.execute("commit").await;

    let answered = |id: &str| {
        format!("select convert_from(result, 'UTF8') from command_log where command_id = '{id}'")
    };
    batch.committed("joins").await;
    let answer = batch.env.rows.texts(&answered("joins")).await;
    assert!(answer[0].contains("\"code\":200"), "`leaves` went before it: {answer:?}");
    batch.messages.extend(first);
    let history = batch.done().await;
    assert_eq!(of(&history, 2), ["leaves"]);
    assert_eq!(of(&history, 3), ["joins"]);
}

/// An import may take minutes, and other systems change customers meanwhile.
#[tokio::test]
async fn changes_of_customers_are_counted_and_none_waits_for_another() {
    let place = Place::new("customer_changes").await;
    let mut rows = TestDatabase::of(&place).await;
    rows.insert(&Model::new(Utc::now(), workload::world())).await;
    let count = "select coalesce(sum(changes), 0)::bigint from customer_change_count";
    let before = rows.count(count).await;
    let mut open = Vec::new();
    for id in 1..=3 {
        let mut other = TestDatabase::of(&place).await;
        let change = format!(
            "set lock_timeout = '5s'; begin; update customer set state = 'fraud' where org_id > 0 and id = {id}; \
             update customer set state = 'active' where org_id > 0 and id = {id}"
        );
        other.execute(&change).await;
        open.push(other);
    }
    assert_eq!(rows.count(count).await, before, "nothing is committed");
    for mut other in open {
        other.execute("commit").await;
    }
    assert_eq!(rows.count(count).await, before + 6);
    let slots = rows.count("select count(*) from customer_change_count").await;
    assert!(slots <= 4, "{slots}");
}
