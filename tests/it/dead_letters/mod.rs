//! Dead letters as operators work with them: archived once, found, replayed, put right.

mod archive;
mod bulk;
mod bulk_jobs;
mod bytes;
mod commands;
mod cut;
mod edit;
mod hostile;
mod one_effect;
mod order;
mod publishers;
mod replay;
mod retention;
mod search;
mod states;
mod strangers;

use std::time::Duration;

use chrono::Utc;
use partner_program_worker::message::Message;
use serde_json::Value;

use crate::harness::environment::TestEnv;
use crate::harness::eventually;
use crate::harness::management::Depth;
use crate::harness::publisher::command;
use crate::harness::servers::Place;
use crate::harness::worker::{Process, Settings};
use crate::harness::workload::{self, ORG, PROGRAM};
use crate::model::Model;

/// Long enough for a slow machine; reached only by a failure.
const DEADLINE: Duration = Duration::from_mins(2);
const QUEUE: &str = "partner-program.dead-letters";
const LANE_QUEUE: &str = "partner-program.commands.main";

/// Every workload's customer and no enrolment; workers archive.
async fn env(name: &str) -> TestEnv {
    let mut env = TestEnv::new(name, &Model::new(Utc::now(), workload::world())).await;
    env.settings = env.settings.with("ARCHIVE_DEAD_LETTERS", true).with("BATCH_SIZE", 64);
    env
}

/// As [`env`], but the org is unknown, so that each command dies.
async fn scene_without_the_org(name: &str) -> TestEnv {
    let mut env = TestEnv::new(name, &Model::new(Utc::now(), Vec::new())).await;
    env.settings = env.settings.with("ARCHIVE_DEAD_LETTERS", true).with("BATCH_SIZE", 64);
    env
}

/// The org comes into being, and with it what all its letters lacked.
async fn found_the_org(env: &mut TestEnv) {
    env.rows.insert(&Model::new(Utc::now(), workload::world())).await;
}

/// Lets these commands die, and the worker with them.
async fn bury(env: &mut TestEnv, messages: &[Message]) {
    let before = env.rows.archived_commands().await.len();
    let mut worker = Process::start(&env.settings, "undertaker");
    env.publisher.publish(messages).await;
    archived(env, before + messages.len()).await;
    worker.signal("TERM").await;
    assert!(worker.ended().await.success());
}

/// Waits until so many letters are in the archive and none is in the queue.
async fn archived(env: &mut TestEnv, letters: usize) {
    let TestEnv { rows, place, .. } = env;
    eventually(DEADLINE, &format!("{letters} letters are archived"), async || {
        let all = rows.count("select count(*) from dead_letter").await >= letters;
        (all && is_empty(place, QUEUE)).then_some(())
    })
    .await;
}

fn is_empty(place: &Place, queue: &str) -> bool {
    place.broker.depth(queue) == Some(Depth::default())
}

/// A command that a worker can't read.
fn broken(number: usize) -> Message {
    command(&format!("{ORG}.link"), Some(&format!("broken-{number}")), format!("no JSON {number}"))
}

/// The database refuses links under these membership ids, as long as they stand in the table `poison`.
async fn refuse(env: &mut TestEnv, membership_ids: &[&str]) {
    let statements = "create table poison (membership_id text); \
         create function refuse() returns trigger language plpgsql as $$ begin \
             if exists (select from poison where membership_id = new.membership_id) then \
                 raise exception 'refused' using errcode = '22000'; end if; \
             return new; \
         end $$; \
         create trigger refuse before insert on enrolment for each row execute function refuse();";
    env.rows.execute(statements).await;
    for id in membership_ids {
        env.rows.execute(&format!("insert into poison values ('{id}')")).await;
    }
}

/// A link of a customer under a membership id.
fn link(id: &str, customer: i64, membership: &str) -> Message {
    let body = serde_json::json!({ "linkCustomers": [{
        "customer": { "id": customer },
        "linkToPartnerPrograms": [{
            "partnerProgramName": PROGRAM,
            "customerPartnerReference": { "partnerMembershipId": membership },
        }],
    }]});
    command(&format!("{ORG}.link"), Some(id), body.to_string())
}

/// What the program answered.
pub(crate) struct Answer {
    code: i32,
    out: String,
    err: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("{}\n{}", self.out, self.err))
    }

    /// What it said to people.
    pub(crate) fn err(&self) -> &str {
        &self.err
    }

    /// The answer, which must have this exit code.
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        self
    }
}

/// Runs `dead-letters` with these arguments, and answers in JSON.
pub(crate) async fn dead_letters(settings: &Settings, arguments: &[&str]) -> Answer {
    let all = [&["dead-letters"], arguments, &["-o", "json"]].concat();
    let running = settings.command(&all).env("USER", "olivia").output();
    let output = tokio::time::timeout(DEADLINE, running).await.expect("it ends in time");
    let output = output.expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    Answer {
        code: output.status.code().expect("it ends by itself"),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}

/// The rows of a JSON list.
fn rows(answer: &Answer) -> Vec<Value> {
    answer.json().as_array().cloned().expect("a list")
}
