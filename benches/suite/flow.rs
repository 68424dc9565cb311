//! Commands that keep coming: how long from the publish to the result?

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lapin::PublisherConfirm;
use lapin::options::BasicConsumeOptions;
use lapin::types::FieldTable;
use partner_program_worker::message::Message;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::harness::connect;
use crate::harness::publisher::Publisher;
use crate::stage::{RESULTS, Stage};

/// How the upstream sends.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// So many a second, whatever comes back.
    PerSecond(f64),
    /// As fast as they are answered, with so many on their way.
    Outstanding(usize),
}

/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(1);
/// At a hundred commands a second.
const DEADLINE: Duration = Duration::from_mins(5);
/// The share of the commands that only warm up.
const WARM_UP: usize = 5;

/// When each command was due and when it was answered.
pub(crate) struct Flow {
    answers: Vec<(Instant, Instant)>,
}

/// Sends the messages at that pace, and listens until each is answered.
pub(crate) async fn flow(stage: &Stage, messages: Vec<Message>, pace: Pace) -> Flow {
    let count = messages.len();
    let answered = Arc::new(AtomicUsize::new(0));
    let listening = listen(stage, count, Arc::clone(&answered)).await;
    let publisher = Publisher::open(&stage.place.amqp_url).await;
    let (confirm_sender, confirms) = mpsc::unbounded_channel();
    let confirming = AbortOnDropHandle::new(tokio::spawn(confirmed(confirms)));
    let began = Instant::now();
    let mut due_at = Vec::with_capacity(count);
    for (number, message) in messages.iter().enumerate() {
        let due = match pace {
            Pace::PerSecond(rate) => {
                let due = began + Duration::from_secs_f64(f64::from(small(number)) / rate);
                while Instant::now() < due {
                    tokio::time::sleep(TICK).await;
                }
                due
            }
            Pace::Outstanding(most) => {
                while number - answered.load(Ordering::Relaxed) >= most {
                    tokio::time::sleep(TICK).await;
                }
                Instant::now()
            }
        };
        due_at.push(due);
        let sent = publisher.send(message).await.expect("a message is sent");
        confirm_sender.send(sent).expect("confirms are waited for");
    }
    drop(confirm_sender);
    confirming.await.expect("all are confirmed");
    let heard = tokio::time::timeout(DEADLINE, listening).await;
    let heard = heard.expect("all are answered in time").expect("the subscriber goes on");
    Flow { answers: due_at.into_iter().zip(heard).collect() }
}

impl Flow {
    /// Results a second, without the start.
    pub(crate) fn per_second(&self) -> f64 {
        let mut answered: Vec<Instant> = self.answers.iter().map(|(_, at)| *at).collect();
        answered.sort_unstable();
        let measured = &answered[answered.len() / WARM_UP..];
        crate::rate::per_second(measured.len(), measured[measured.len() - 1] - measured[0])
    }

    /// The latencies of these shares of the commands, in milliseconds.
    pub(crate) fn latencies(&self, shares: [f64; 3]) -> [f64; 3] {
        let measured = &self.answers[self.answers.len() / WARM_UP..];
        let mut took: Vec<f64> =
            measured.iter().map(|(due, at)| (*at - *due).as_secs_f64() * 1000.0).collect();
        took.sort_unstable_by(f64::total_cmp);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place")]
        shares.map(|share| took[(f64::from(small(took.len() - 1)) * share) as usize])
    }

    /// The longest time without a result, from `since` on.
    pub(crate) fn longest_stall(&self, since: Instant) -> Duration {
        let mut answered: Vec<Instant> = self.answers.iter().map(|(_, at)| *at).collect();
        answered.retain(|at| *at >= since);
        answered.sort_unstable();
        answered.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}

/// Notes when each command is answered for the first time: by the number that ends its id.
async fn listen(
    stage: &Stage,
    count: usize,
    answered: Arc<AtomicUsize>,
) -> AbortOnDropHandle<Vec<Instant>> {
    let connection = connect(&stage.place.amqp_url, "subscriber").await.expect("a connection");
    let channel = connection.create_channel().await.expect("a channel");
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let consuming =
        channel.basic_consume(RESULTS.into(), "flow".into(), options, FieldTable::default());
    let mut consumer = consuming.await.expect("the queue is there");
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut heard: Vec<Option<Instant>> = vec![None; count];
        let mut missing = count;
        while missing > 0 {
            let delivery = consumer.next().await.expect("it goes on").expect("a delivery");
            let id = delivery.properties.message_id().as_ref().expect("a result has an id");
            let number = id.as_str().trim_end_matches(".result").rsplit('-').next();
            let number: usize = number.and_then(|n| n.parse().ok()).expect("it ends in a number");
            if heard[number].is_none() {
                heard[number] = Some(Instant::now());
                missing -= 1;
                answered.fetch_add(1, Ordering::Relaxed);
            }
        }
        drop(connection);
        heard.into_iter().flatten().collect()
    }))
}

async fn confirmed(mut confirms: mpsc::UnboundedReceiver<PublisherConfirm>) {
    while let Some(confirm) = confirms.recv().await {
        confirm.await.expect("the broker confirms");
    }
}

fn small(number: usize) -> u32 {
    u32::try_from(number).expect("few")
}
