//! The end of a trial: all is healed, the workers finish, and the checker judges.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use partner_program_worker::message::Message;

use crate::checker::{Check, Evidence, Expected, Violation, judge};
use crate::faults::lanes::Lanes;
use crate::faults::outcome::Outcome;
use crate::faults::table;
use crate::faults::trial::{DEADLINE, LANE, QUIET, Trial, id};
use crate::harness::management::Depth;
use crate::harness::subscriber::Heard;

/// Transactions that nothing is done in.
const OPEN: &str = "select count(*) from pg_stat_activity \
    where datname = current_database() and state like 'idle in transaction%'";

impl Trial {
    /// All is healed: lets the workers finish, stops them, and judges.
    pub(crate) async fn end(mut self) -> Outcome {
        self.pause_load().await;
        let mut violations = Vec::new();
        let mut add = |check, what: &str| {
            violations.push(Violation { check, what: what.to_owned() });
        };
        if !self.drained().await {
            add(Check::Drained, "the lane did not run empty");
        }
        if !self.archived().await {
            add(Check::Archived, "dead letters are left in their queue");
        }
        let redeliveries =
            self.place.broker.redelivered(&format!("partner-program.commands.{LANE}"));
        for what in self.leaked().await {
            add(Check::Clean, &what);
        }
        for mut worker in std::mem::take(&mut self.workers) {
            if worker.is_running() {
                worker.signal("TERM").await;
                if !worker.ended().await.success() {
                    add(Check::Clean, "a worker did not end well");
                }
            }
        }
        let lanes = self.lanes.names().iter().enumerate();
        let doomed = self.doomed.iter().map(|(message, says)| (id(message), says.clone()));
        let expected = Expected {
            lanes: lanes.map(|(lane, name)| (*name, self.messages(lane))).collect(),
            replayed: self.replayed.clone(),
            doomed: doomed.collect(),
            is_moving: self.lanes == Lanes::Moving,
            law: self.lanes.law(),
        };
        let letters = self.letters().await;
        self.heard_all(&expected).await;
        let heard = self.subscriber.look(<[Heard]>::to_vec);
        let evidence = Evidence { heard: &heard, letters: &letters, rows: &mut self.rows };
        violations.extend(judge(&expected, evidence).await);
        let stalls = heard.windows(2).map(|pair| pair[1].at - pair[0].at);
        let outcome = Outcome {
            commands: self.expected(),
            redeliveries,
            suppressed: heard.len().saturating_sub(self.answered()),
            longest_stall: stalls.max().unwrap_or_default(),
            violations,
        };
        if !outcome.violations.is_empty() {
            for worker in &self.workers {
                eprintln!("{}", worker.words());
            }
        }
        outcome
    }

    /// Ends it, notes it in the table, and fails unless all promises were kept.
    pub(crate) async fn assert_kept(self) {
        let (name, seed) = (self.name.clone(), self.seed);
        let outcome = self.end().await;
        table::note_fault(&name, &outcome);
        assert!(outcome.violations.is_empty(), "{name}, seed {seed}:\n{outcome}");
    }

    /// All that was sent through a lane; the doomed are of any.
    fn messages(&self, lane: usize) -> Vec<Message> {
        if lane > 0 {
            return (0..self.before).map(|number| self.lanes.step(lane, number)).collect();
        }
        let steps = (0..self.before).map(self.step);
        steps.chain(self.doomed.iter().map(|(message, _)| message.clone())).collect()
    }

    /// Waits until the subscriber has heard all, or all that is in his queues.
    async fn heard_all(&mut self, expected: &Expected) {
        let wanted = expected.ids().len() + expected.replayed.len();
        let mut empty_since = Instant::now();
        let end = Instant::now() + DEADLINE;
        while self.answered() < wanted && empty_since.elapsed() < QUIET && Instant::now() < end {
            let mut queues = self.subscriber.queues.iter();
            if !queues.all(|queue| self.place.broker.depth(queue) == Some(Depth::default())) {
                empty_since = Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What idle workers must not hold: a transaction, and more than a channel a connection.
    async fn leaked(&mut self) -> Vec<String> {
        let mut leaked = Vec::new();
        // Samples and the like are passing: what is still open after a while has been left so.
        let end = Instant::now() + QUIET;
        let mut open = self.rows.count(OPEN).await;
        while open > 0 && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(50)).await;
            open = self.rows.count(OPEN).await;
        }
        if open > 0 {
            leaked.push(format!("{open} transactions are open"));
        }
        let mut channels: BTreeMap<String, usize> = BTreeMap::new();
        for connection in self.place.broker.channels() {
            if connection.starts_with("partner-program") {
                *channels.entry(connection).or_default() += 1;
            }
        }
        for (connection, count) in channels.into_iter().filter(|(_, count)| *count > 1) {
            leaked.push(format!("{count} channels on {connection}"));
        }
        leaked
    }
}
