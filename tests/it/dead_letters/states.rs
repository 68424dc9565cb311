//! Model-based: two operators act at random on the same letters, while the lane is paused and resumed and
//! both they and the worker are killed. In the end each command has had at most one effect, and each
//! letter says what became of its command.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use chrono::Utc;
use partner_program_worker::message::Message;
use tempfile::TempDir;

use crate::dead_letters::{
    DEADLINE, LANE_QUEUE, QUEUE, bury, is_empty, link, refuse, scene_without_the_org,
};
use crate::harness::environment::TestEnv;
use crate::harness::eventually;
use crate::harness::random::{Random, seed};
use crate::harness::worker::{Process, Settings};
use crate::harness::workload;
use crate::model::{Customer, Model};

/// Commands, each of a customer of its own.
const COMMANDS: usize = 12;
const ROUNDS: usize = 40;
/// So many customers that each edited copy has one of its own: then no effect hides another.
const CUSTOMERS: i64 = 400;
/// An operator's program is killed within this time, if at all: it takes some 100 ms.
const KILLED_WITHIN_MS: usize = 250;

/// What the database says of a letter and of its command.
#[derive(Debug)]
struct Fate {
    state: String,
    /// The first letter of the command, which it is a replay or an edited copy of.
    root: String,
    effects: usize,
}

struct Operators {
    settings: Settings,
    folder: TempDir,
    /// Whom the next edited copy is about.
    next_customer: i64,
}

impl Operators {
    /// Something to do with one of these letters.
    fn action(&mut self, random: &mut Random, letters: &[String]) -> Vec<String> {
        let letter = random.pick(letters);
        let mut arguments = match random.below(10) {
            0..4 => vec!["replay".to_owned(), letter],
            4..6 => vec!["restore".to_owned(), letter],
            6 => vec!["discard".to_owned(), letter],
            7 => vec!["replay".to_owned(), "--all".to_owned(), "--yes".to_owned()],
            _ => {
                let number = self.next_customer;
                self.next_customer += 1;
                let file = self.folder.path().join(number.to_string());
                let body = link("", number, &format!("m-{number}")).body;
                std::fs::write(&file, body).expect("it is written");
                let file = file.to_str().expect("text").to_owned();
                let mut edit = vec!["edit".to_owned(), letter, "--file".to_owned(), file];
                edit.extend(random.chance(50).then(|| "--keep".to_owned()));
                edit
            }
        };
        arguments.extend(["--reason".to_owned(), "random".to_owned()]);
        arguments
    }

    /// Does it, unless its program is killed meanwhile.
    async fn act(&self, arguments: &[String], killed_after: Option<Duration>) {
        let all: Vec<&str> =
            std::iter::once("dead-letters").chain(arguments.iter().map(String::as_str)).collect();
        let mut command = self.settings.command(&all);
        command.env("USER", "olivia").stdout(Stdio::null()).stderr(Stdio::null());
        let mut program = command.kill_on_drop(true).spawn().expect("the program starts");
        let bound = killed_after.unwrap_or(DEADLINE);
        match tokio::time::timeout(bound, program.wait()).await {
            Ok(ended) => drop(ended.expect("it ends")),
            Err(_elapsed) => {
                assert!(killed_after.is_some(), "{arguments:?} does not end");
                program.kill().await.expect("it is killed");
            }
        }
    }
}

#[tokio::test]
async fn each_command_has_one_effect_at_most_and_each_letter_tells_the_truth() {
    let mut random = Random::new(seed());
    let mut env = scene_without_the_org("states").await;
    env.settings = env.settings.with("ATTEMPTS_LIMIT", 1);
    let commands: Vec<Message> = (1..=COMMANDS).map(original).collect();
    bury(&mut env, &commands).await;
    found_the_large_org(&mut env).await;
    // Some replays die again, for a while.
    refuse(&mut env, &["m-1", "m-2"]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut operators = Operators { settings: env.settings.clone(), folder, next_customer: 100 };
    let mut surroundings = Surroundings::default();
    for round in 0..ROUNDS {
        if round == ROUNDS / 2 {
            env.rows.execute("delete from poison").await;
        }
        let letters = env.rows.texts("select id::text from dead_letter order by sequence").await;
        let one = operators.action(&mut random, &letters);
        let other = operators.action(&mut random, &letters);
        let mut kill = || {
            let after = random.below(KILLED_WITHIN_MS);
            random.chance(20).then(|| Duration::from_millis(after as u64))
        };
        let (kill_one, kill_other) = (kill(), kill());
        tokio::join!(operators.act(&one, kill_one), operators.act(&other, kill_other));
        surroundings.disturb(&mut random, &env, round).await;
    }
    surroundings.settle(&mut env).await;
    let fates = fates(&mut env).await;
    let mut effects: BTreeMap<&str, usize> = BTreeMap::new();
    for fate in &fates {
        assert!(fate.effects <= 1, "{fate:?} has several effects");
        let told = effects.entry(&fate.root).or_default();
        // Another letter of the same command stands for it.
        if !matches!(fate.state.as_str(), "failed_again" | "taken_back") {
            let is_applied = fate.state == "applied";
            assert_eq!(fate.effects, usize::from(is_applied), "{fate:?} does not tell the truth");
            *told += fate.effects;
        }
    }
    assert_eq!(effects.len(), COMMANDS, "a command is lost");
    assert!(effects.values().all(|effects| *effects <= 1), "{effects:?}\n{fates:#?}");
    let applied: usize = effects.values().sum();
    assert_eq!(env.rows.history_count().await, applied, "effects that no letter tells of");
}

/// Every third has no id.
fn original(number: usize) -> Message {
    let customer = i64::try_from(number).expect("few");
    let mut message = link(&format!("c-{number}"), customer, &format!("m-{number}"));
    if number.is_multiple_of(3) {
        message.properties.message_id = None;
    }
    message
}

async fn found_the_large_org(env: &mut TestEnv) {
    let mut world = workload::world();
    world[0].customers = (1..=CUSTOMERS)
        .map(|id| Customer { id, mobile: None, email: None, external_id: None, state: "active" })
        .collect();
    env.rows.insert(&Model::new(Utc::now(), world)).await;
}

/// The worker and its lane.
#[derive(Default)]
struct Surroundings {
    worker: Option<Process>,
    is_paused: bool,
}

impl Surroundings {
    /// Pauses or resumes the lane, kills or starts the worker, or nothing.
    async fn disturb(&mut self, random: &mut Random, env: &TestEnv, round: usize) {
        match random.below(8) {
            0 | 1 if self.is_paused => self.resume(env).await,
            0 => {
                env.settings.run(&["lanes", "pause", "main", "--reason", "random"]).await;
                self.is_paused = true;
            }
            2 => {
                if let Some(mut dying) = self.worker.take() {
                    dying.kill().await;
                }
            }
            3..6 if self.worker.is_none() => {
                self.worker = Some(Process::start(&env.settings, &format!("worker-{round}")));
            }
            _ => {}
        }
    }

    async fn resume(&mut self, env: &TestEnv) {
        env.settings.run(&["lanes", "resume", "main"]).await;
        self.is_paused = false;
    }

    async fn settle(&mut self, env: &mut TestEnv) {
        if self.is_paused {
            self.resume(env).await;
        }
        let worker = self.worker.take();
        settle(env, worker.unwrap_or_else(|| Process::start(&env.settings, "last"))).await;
    }
}

/// Waits until all that is under way has come to its end.
async fn settle(env: &mut TestEnv, worker: Process) {
    let TestEnv { rows, place, .. } = env;
    eventually(DEADLINE, "nothing is under way", async || {
        let query = "select (select count(*) from dead_letter where state in ('replaying', 'replayed')) \
                     + (select count(*) from bulk_job where state = 'running')";
        let is_settled = rows.count(query).await == 0;
        (is_settled && is_empty(place, LANE_QUEUE) && is_empty(place, QUEUE)).then_some(())
    })
    .await;
    drop(worker);
}

async fn fates(env: &mut TestEnv) -> Vec<Fate> {
    let rows = env
        .rows
        .texts(
            "with recursive origin as (
                select id, id as root from dead_letter
                where edited_from is null and replay_of is null
                union all
                select letter.id, origin.root from dead_letter letter
                    join origin on origin.id = coalesce(letter.edited_from, letter.replay_of))
            select concat_ws(' ', letter.id,
                case when superseded_by = replay_of then 'taken_back' else state end, origin.root,
                (select count(*) from enrolment_history history
                    where history.command_id = coalesce(letter.command_id, letter.id::text)))
            from dead_letter letter left join origin using (id)",
        )
        .await;
    let fate = |row: &String| {
        let words: Vec<&str> = row.split(' ').collect();
        let [_letter, state, root, effects] = words[..] else {
            panic!("a letter of no command: {row}")
        };
        Fate {
            state: state.to_owned(),
            root: root.to_owned(),
            effects: effects.parse().expect("a number"),
        }
    };
    rows.iter().map(fate).collect()
}
