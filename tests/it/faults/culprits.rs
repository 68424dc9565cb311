//! Only a culprit is given up: at default settings, with three lanes under load, whatever the
//! culprit does, wherever it stands, and however large the batch is that comes again.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt;

use crate::faults::database;
use crate::faults::lanes::{Lanes, POISON, poison, poison_for_all};
use crate::faults::trial::{DEADLINE, Doomed, LANE, Trial};
use crate::harness::collector::try_subscribe;
use crate::harness::eventually;
use crate::harness::random::Random;

/// Commands that wait in each lane: some batches of the default size.
const STEPS: usize = 1_600;
/// So many of them come again: as many as the prefetch of the tests' consumers.
const REDELIVERED: usize = 1_000;
/// The setting `attempts_limit`, at its default.
const ATTEMPTS: usize = 5;
/// The lane that holds the customers of its dead letters.
const HOLDING: usize = 2;
/// How often workers may die of one command before it is given up.
const DEATHS_MAX: usize = 20;
/// Workers die one after the other, and each needs seconds to start on a busy machine.
const KILLERS_DEADLINE: Duration = Duration::from_mins(6);
/// Counted by [`refuse`].
const TRIES_ALONE: &str = "select last_value from tries_alone";
/// Only what the data itself brings about is refused (`store::error`).
const REFUSALS: [&str; 5] = ["P0001", "23514", "22003", "21000", "54000"];

/// What a culprit does to the worker that evaluates or stores it.
#[derive(Clone, Copy, Debug)]
enum Harm {
    /// The database refuses it by this SQLSTATE.
    Refused(&'static str),
    /// Its evaluation panics.
    Panics,
    /// It kills the process.
    Kills,
}

impl Harm {
    /// What its letter has to say.
    fn says(self) -> String {
        match self {
            Self::Refused(code) => format!("SQLSTATE {code}"),
            Self::Panics => "as the fault suite asked for".to_owned(),
            Self::Kills => String::new(),
        }
    }
}

/// One culprit in some lanes each, at some position.
fn culprits(harm: Harm, lanes: &[(usize, usize)]) -> Vec<Doomed> {
    let culprit = |(lane, position): &(usize, usize)| Doomed {
        lane: *lane,
        position: *position,
        message: poison(*lane, *position),
        says: harm.says(),
    };
    lanes.iter().map(culprit).collect()
}

/// The points at which culprits panic or abort.
fn points(what: &str, culprits: &[Doomed]) -> String {
    let ids = culprits.iter().filter_map(|c| c.message.properties.message_id.as_deref());
    format!("evaluate=return({what} {})", ids.collect::<Vec<_>>().join(" "))
}

/// Lets the database refuse every [`poison`], and count in sequences, which are not rolled back.
async fn refuse(trial: &mut Trial, code: &str) {
    let statements = format!(
        "create sequence tries; create sequence tries_alone; \
         create function refuse() returns trigger language plpgsql as $$ begin \
             perform nextval('tries'); \
             if (select count(*) from command_log where xmin = pg_current_xact_id()::xid) = 1 then \
                 perform nextval('tries_alone'); \
             end if; \
             raise exception 'as the suite asked' using errcode = '{code}', constraint = 'tested'; \
         end $$; \
         create trigger refuse before insert on enrolment for each row \
             when (new.membership_id like '{POISON}%') execute function refuse()"
    );
    trial.rows.execute(&statements).await;
}

impl Trial {
    /// Lets the first of the waiting commands be delivered to a consumer that goes away.
    async fn redeliver(&self) {
        for lane in self.lanes.names() {
            let queue = format!("partner-program.commands.{lane}");
            let (_connection, mut consumer) =
                try_subscribe(&self.place.amqp_url, &queue).await.expect("the broker answers");
            for _ in 0..REDELIVERED {
                let next = tokio::time::timeout(DEADLINE, consumer.next()).await;
                next.expect("a delivery in time").expect("it goes on").expect("a delivery");
            }
        }
    }

    /// Discards what the last lane holds customers for, until nothing waits there.
    async fn discard_what_holds(&mut self) {
        let lane = self.lanes.names()[HOLDING];
        let discard = ["dead-letters", "discard", "--lane", lane, "--yes", "--reason", "a trial"];
        eventually(DEADLINE, "nothing is held or parked", async || {
            let open = format!(
                "select count(*) from dead_letter where state = 'open' and lane = '{lane}'"
            );
            if self.rows.count(&open).await > 0 {
                self.settings.run(&discard).await;
            }
            let left = "select (select count(*) from hold) + (select count(*) from parked_command)";
            let unarchived = self.place.broker.depth("partner-program.dead-letters")?.ready;
            (self.rows.count(left).await == 0 && unarchived == 0).then_some(())
        })
        .await;
    }

    /// All is delivered again, and each culprit of its lane is given up.
    async fn give_up_culprits(&mut self, points: &str) {
        self.redeliver().await;
        self.start_worker(points);
        assert!(self.drained().await, "the lanes run empty");
        self.discard_what_holds().await;
    }
}

/// The property: a position, a batch size, one to three lanes, two or four connections.
async fn only_culprits_are_given_up(name: &str, harms: &[Harm]) {
    let mut random = Random::new(crate::harness::random::seed());
    let connections = random.pick(&[2, 4]);
    let mut trial = Trial::at_defaults(name, connections).await;
    let harm = random.pick(harms);
    let mut lanes = BTreeSet::new();
    while lanes.len() < random.below(3) + 1 {
        lanes.insert(random.below(3));
    }
    let lanes: Vec<_> = lanes.into_iter().map(|lane| (lane, random.below(REDELIVERED))).collect();
    let batch = if random.chance(50) { 512 } else { 32 + random.below(480) };
    if batch != 512 {
        trial.settings = trial.settings.clone().with("BATCH_SIZE", batch);
    }
    eprintln!("{harm:?} at {lanes:?}, batches of {batch}, {connections} connections");
    let culprits = culprits(harm, &lanes);
    trial.queue_up_with_doomed(STEPS, &culprits).await;
    let points = match harm {
        Harm::Refused(code) => {
            refuse(&mut trial, code).await;
            String::new()
        }
        Harm::Panics => points("panic", &culprits),
        Harm::Kills => points("abort", &culprits),
    };
    trial.give_up_culprits(&points).await;
    let alone = match harm {
        Harm::Refused(_) => trial.rows.count(TRIES_ALONE).await,
        Harm::Panics | Harm::Kills => ATTEMPTS * lanes.len(),
    };
    trial.assert_kept().await;
    assert!(alone >= ATTEMPTS * lanes.len(), "{alone} tries of culprits alone");
}

#[tokio::test]
async fn of_a_redelivered_batch_only_what_the_database_refuses_is_given_up() {
    let harms = REFUSALS.map(Harm::Refused);
    only_culprits_are_given_up("a command of a redelivered batch is refused", &harms).await;
}

#[tokio::test]
async fn of_a_redelivered_batch_only_what_panics_is_given_up() {
    only_culprits_are_given_up("a command of a redelivered batch panics", &[Harm::Panics]).await;
}

/// Restarts the worker until all of these have been given up: what is in flight beside them each
/// time the process dies is innocent.
async fn beside_killers(mut trial: Trial, killers: &[Doomed], further: &str) -> Trial {
    let points = format!("{further}{}", points("abort", killers));
    let mut deaths = 0;
    eventually(KILLERS_DEADLINE, "the killers are given up", async || {
        if trial.workers.last_mut().is_none_or(|last| !last.is_running()) {
            deaths += usize::from(!trial.workers.is_empty());
            // Their locks would keep the lanes from the next worker.
            database::terminate(&mut trial).await;
            trial.start_worker(&points);
        }
        // A letter that was published when the process died of another one is published again.
        let given_up = "select count(distinct command_id) from dead_letter";
        (trial.rows.count(given_up).await >= killers.len()).then_some(())
    })
    .await;
    let most = DEATHS_MAX * killers.len();
    assert!(deaths <= most, "{deaths} deaths by {} commands", killers.len());
    trial
}

/// The first command of a lane kills the process while the other lanes are at their commits, each
/// of which takes so many seconds.
pub(super) async fn a_head_kills_the_process(points: &str, seconds: u32) -> Trial {
    let mut trial = Trial::at_defaults("a command kills the process beside two lanes", 2).await;
    let killers = culprits(Harm::Kills, &[(0, 0)]);
    trial.queue_up_with_doomed(STEPS, &killers).await;
    let statements = format!(
        "create function wait() returns trigger language plpgsql as $$ begin \
             perform pg_sleep(1.5); return new; end $$; \
         create trigger wait before insert or update on lane for each row \
             when (new.name = 'main') execute function wait(); \
         create function wait_longer() returns trigger language plpgsql as $$ begin \
             if exists (select from added where lane <> 'main' and org_id > 0) then \
                 perform pg_sleep({seconds}); \
             end if; \
             return null; end $$; \
         create trigger wait_longer after insert on command_log \
             referencing new table as added for each statement execute function wait_longer()"
    );
    trial.rows.execute(&statements).await;
    let mut trial = beside_killers(trial, &killers, points).await;
    let statements = "lock table lane, command_log; drop function wait, wait_longer cascade";
    trial.rows.execute(statements).await;
    assert!(trial.drained().await, "the lanes run empty");
    trial
}

#[tokio::test]
async fn a_command_that_kills_the_process_takes_no_head_of_another_lane_with_it() {
    a_head_kills_the_process("", 1).await.assert_kept().await;
}

#[tokio::test]
async fn commands_that_kill_the_process_are_given_up_wherever_they_are() {
    let mut random = Random::new(crate::harness::random::seed());
    let mut trial = Trial::at_defaults("commands kill the process in two lanes", 4).await;
    let lane = random.below(3);
    let positions = [(lane, random.below(STEPS)), ((lane + 1) % 3, random.below(STEPS))];
    eprintln!("{positions:?}");
    let killers = culprits(Harm::Kills, &positions);
    trial.queue_up_with_doomed(STEPS, &killers).await;
    let mut trial = beside_killers(trial, &killers, "").await;
    assert!(trial.drained().await, "the lanes run empty");
    trial.discard_what_holds().await;
    trial.assert_kept().await;
}

#[tokio::test]
async fn of_parked_commands_that_are_released_only_the_culprit_is_given_up() {
    let mut random = Random::new(crate::harness::random::seed());
    let mut trial = Trial::at_defaults("a released command is refused", 2).await;
    let code = random.pick(&REFUSALS);
    let position = 1 + random.below(STEPS - 1);
    eprintln!("{code} at {position}");
    let mut doomed = culprits(Harm::Refused(code), &[(HOLDING, position)]);
    let first = Doomed {
        lane: HOLDING,
        position: 0,
        message: poison_for_all(HOLDING),
        says: Harm::Panics.says(),
    };
    let points = points("panic", std::slice::from_ref(&first));
    doomed.insert(0, first);
    trial.queue_up_with_doomed(STEPS, &doomed).await;
    refuse(&mut trial, code).await;
    trial.start_worker(&points);
    let rows = &mut trial.rows;
    eventually(DEADLINE, "all of the lane is parked", async || {
        (rows.count("select count(*) from parked_command").await == STEPS + 1).then_some(())
    })
    .await;
    trial.discard_what_holds().await;
    let alone = trial.rows.count(TRIES_ALONE).await;
    trial.assert_kept().await;
    assert!(alone >= ATTEMPTS, "{alone} tries of the culprit alone");
}

#[test]
fn culprits_are_of_lanes_that_are_apart() {
    let names = Lanes::Apart.names();
    assert_eq!((names[0], names.len()), (LANE, HOLDING + 1));
}
