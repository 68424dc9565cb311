//! The dead letters of a trial: some commands of the load are broken, and every fault has to leave
//! each of them in the archive once.

use std::time::{Duration, Instant};

use partner_program_worker::message::Message;

use crate::faults::trial::{DEADLINE, Trial};
use crate::harness::collector::Collector;
use crate::harness::database::Letter;
use crate::harness::eventually;
use crate::harness::management::Depth;
use crate::harness::publisher::command;
use crate::harness::workload;

const QUEUE: &str = "partner-program.dead-letters";
/// So many commands of those that queue up at first are followed by a broken one.
const EVERY: usize = 50;

/// The commands with broken ones among them, and these alone.
pub(super) fn among(commands: Vec<Message>) -> (Vec<Message>, Vec<Message>) {
    let (mut all, mut broken) = (Vec::new(), Vec::new());
    for (number, message) in commands.into_iter().enumerate() {
        all.push(message);
        if number % EVERY == 0 {
            let id = format!("broken-{number}");
            let key = format!("{}.link", workload::ORG);
            broken.push(command(&key, Some(&id), format!("no JSON, {number}")));
            all.extend(broken.last().cloned());
        }
    }
    (all, broken)
}

impl Trial {
    /// How many letters there are, archived or not.
    pub(super) async fn letter_count(&mut self) -> usize {
        let queued = self.place.broker.depth(QUEUE).map_or(0, |depth| depth.ready);
        let queued = usize::try_from(queued).expect("few");
        queued + self.rows.count("select count(*) from dead_letter").await
    }

    /// Waits until the queue of the dead letters is empty; `false` if it stays as it is.
    pub(super) async fn archived(&self) -> bool {
        let end = Instant::now() + DEADLINE;
        while self.place.broker.depth(QUEUE) != Some(Depth::default()) {
            if Instant::now() > end {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        true
    }

    /// The dead letters: those in the archive, and those that are not there yet.
    pub(super) async fn letters(&mut self) -> Vec<Letter> {
        let mut letters = self.rows.archived_letters().await;
        let count = eventually(DEADLINE, "the dead letters are counted", async || {
            self.place.broker.depth(QUEUE).map(|depth| depth.ready)
        })
        .await;
        let mut queued = Collector::of_queue(&self.place.amqp_url, QUEUE);
        let queued = queued.read(usize::try_from(count).expect("few"), DEADLINE).await;
        letters.extend(queued.iter().map(|letter| Letter {
            command_id: letter.message_id.clone().unwrap_or_default(),
            detail: letter.header("x-detail").unwrap_or_default(),
        }));
        letters
    }
}
