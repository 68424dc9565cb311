//! Sends replies to their requesters, beside the lane.
//!
//! A requester may be gone, may have named a queue that is full, silent or not ours to write to, or an
//! address that breaks the connection (RabbitMQ 3.10 ends it on a made-up direct reply-to). The lane
//! must not wait for any of that, and a channel shares the flow control of its connection. So replies go
//! over connections of their own: one for queues, and one for direct reply-to addresses, which alone
//! can break theirs. What is wrong with a reply costs this reply, a count and a line of the log.
//! Deliberately absent: an order of replies, and a second try once the broker has decided on one.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::broker::connection::Connection;
use crate::broker::error::Error;
use crate::broker::publisher::{Alone, Confirmed, Confirming, Publisher, Receipt};
use crate::message::Message;
use crate::retry::Backoff;
use crate::wire::unavailable;
use crate::worker::lane::lost_replies::LostReplies;
use crate::worker::lane::reply_queue::{Handover, Reply};

/// How often a lane looks whether its replies' tasks are there.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// What the broker puts into `reply_to` for a requester without a queue begins with this.
const DIRECT: &str = "amq.rabbitmq.reply-to";
/// Replies whose confirms may be out at a time.
const IN_FLIGHT_MAX: usize = 256;
/// A requester waits for no longer, and neither do those behind him.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);
/// How long replies are sent one by one to find out which of them broke the channel.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(20);
/// How long an address gets nothing that has not confirmed in time.
const SUSPENDED: Duration = Duration::from_secs(30);
/// Addresses that may be suspended.
const SUSPENDED_MAX: usize = 1_000;
/// The first and the longest pause in which replies are lost at once, after the broker let none through.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// How long those that wait at the end may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// The generation's publisher hands replies over here.
pub(crate) struct Replies {
    queued: Handover,
    direct: Handover,
}

impl Replies {
    /// Hands a reply over; one for which there is no room is lost.
    pub(crate) async fn send(&mut self, reply: Message) {
        let line =
            if reply.routing_key.starts_with(DIRECT) { &mut self.direct } else { &mut self.queued };
        line.send(reply).await;
    }
}

/// The tasks that send replies; they end when no more can be handed over.
pub(crate) struct Sending {
    tasks: [AbortOnDropHandle<()>; 2],
    pending: Arc<AtomicUsize>,
    lost_replies: LostReplies,
}

impl Sending {
    /// Connects when the first reply comes.
    pub(crate) fn start(url: &str, name: &str, lost_replies: &LostReplies) -> (Self, Replies) {
        let pending = Arc::new(AtomicUsize::new(0));
        let (queued, queue_task) = start(url, format!("{name} replying"), lost_replies, &pending);
        let (direct, direct_task) =
            start(url, format!("{name} replying direct"), lost_replies, &pending);
        let sending =
            Self { tasks: [queue_task, direct_task], pending, lost_replies: lost_replies.clone() };
        (sending, Replies { queued, direct })
    }

    /// Returns when a task has ended although replies may come: only a panic does that.
    pub(crate) async fn ended_early(&self) {
        while !self.tasks.iter().any(AbortOnDropHandle::is_finished) {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Waits for the last ones, within a bound.
    pub(crate) async fn finish(self) {
        let [queued, direct] = self.tasks;
        let ended = async { tokio::join!(queued, direct) };
        if timeout(DRAIN_TIMEOUT, ended).await.is_err() {
            let left = self.pending.load(Ordering::Relaxed);
            self.lost_replies
                .add(left, &"they were not confirmed before the lane's generation ended");
        }
    }
}

fn start(
    url: &str,
    name: String,
    lost_replies: &LostReplies,
    pending: &Arc<AtomicUsize>,
) -> (Handover, AbortOnDropHandle<()>) {
    let confirmed = Arc::new(AtomicUsize::new(0));
    let (handover, replies) = Handover::new(&confirmed, pending, lost_replies);
    let sender = Sender {
        url: url.to_owned(),
        name,
        lost_replies: lost_replies.clone(),
        confirmed,
        open: None,
        in_flight: InFlight::default(),
        suspended: HashMap::new(),
        paused_until: None,
        pause: Backoff::new(PAUSE.0, PAUSE.1),
    };
    (handover, AbortOnDropHandle::new(tokio::spawn(sender.run(replies))))
}

/// Sends over one connection.
struct Sender {
    url: String,
    name: String,
    lost_replies: LostReplies,
    confirmed: Arc<AtomicUsize>,
    open: Option<Publisher>,
    in_flight: InFlight,
    /// Addresses that did not confirm in time, and until when they get nothing.
    suspended: HashMap<String, Instant>,
    /// Until when replies are lost at once.
    paused_until: Option<Instant>,
    pause: Backoff,
}

/// Replies whose confirms are out, by their numbers.
#[derive(Default)]
struct InFlight {
    replies: BTreeMap<u64, Reply>,
    confirming: FuturesUnordered<BoxFuture<'static, (u64, Outcome)>>,
    next: u64,
}

enum Outcome {
    Confirmed(Result<Confirmed, Error>),
    /// The broker has not decided within the bound.
    Late,
}

impl Sender {
    async fn run(mut self, mut replies: mpsc::Receiver<Reply>) {
        let mut come = Vec::new();
        loop {
            let due = self.lost_replies.due();
            let room = IN_FLIGHT_MAX - self.in_flight.replies.len();
            tokio::select! {
                biased;
                Some((number, outcome)) = self.in_flight.confirming.next() => {
                    self.decided(number, outcome).await;
                }
                count = replies.recv_many(&mut come, room), if room > 0 => {
                    if count == 0 {
                        break;
                    }
                    self.send(std::mem::take(&mut come)).await;
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.lost_replies.say_if_due();
                }
            }
        }
        while let Some((number, outcome)) = self.in_flight.confirming.next().await {
            self.decided(number, outcome).await;
        }
        if let Some(publisher) = self.open {
            publisher.connection().close().await;
        }
    }

    async fn send(&mut self, mut replies: Vec<Reply>) {
        replies.retain(|reply| match self.is_pointless(&reply.message) {
            Some(why) => {
                self.lost_replies.add(1, &why);
                false
            }
            None => true,
        });
        if replies.is_empty() {
            return;
        }
        let Some(mut publisher) = self.open(replies.len()).await else { return };
        let messages = replies.iter().map(|reply| &reply.message);
        let sent = timeout(CONFIRM_TIMEOUT, publisher.send_each(messages)).await;
        match sent {
            Ok(Ok(confirming)) => {
                self.open = Some(publisher);
                self.in_flight.add(replies, confirming);
            }
            Ok(Err(error)) => {
                self.open = Some(publisher);
                self.in_flight.add(replies, Vec::new());
                self.find_culprit(error).await;
            }
            // The broker reads nothing from this connection: it has blocked it, or is unavailable.
            Err(_elapsed) => {
                let lost = self.in_flight.take().len() + replies.len();
                self.give_up(lost, &"the broker takes none for now");
            }
        }
    }

    /// Why a reply is not even tried.
    fn is_pointless(&mut self, reply: &Message) -> Option<&'static str> {
        if self.paused_until.is_some_and(|until| Instant::now() < until) {
            return Some("the broker let none through shortly before");
        }
        let until = self.suspended.get(&reply.routing_key)?;
        if Instant::now() < *until {
            return Some("their queue did not confirm shortly before");
        }
        self.suspended.remove(&reply.routing_key);
        None
    }

    /// The open connection, or a new one; without any, so many replies are lost.
    async fn open(&mut self, replies: usize) -> Option<Publisher> {
        if let Some(publisher) = self.open.take() {
            return Some(publisher);
        }
        let opening = async {
            let connection = Arc::new(Connection::open(&self.url, &self.name).await?);
            Publisher::open(&connection, CONFIRM_TIMEOUT).await
        };
        match opening.await {
            Ok(publisher) => Some(publisher),
            Err(error) => {
                self.give_up(replies, &error);
                None
            }
        }
    }

    /// Loses replies, and those of the next moments, because none gets through.
    fn give_up(&mut self, lost: usize, why: &dyn Display) {
        self.open = None;
        self.paused_until = Some(Instant::now() + self.pause.next_delay());
        self.lost_replies.add(lost, why);
    }

    async fn decided(&mut self, number: u64, outcome: Outcome) {
        match outcome {
            Outcome::Confirmed(Ok(confirmed)) => {
                let Some(reply) = self.in_flight.replies.remove(&number) else { return };
                let Some(publisher) = &mut self.open else { return };
                let receipts = publisher.receipts(std::slice::from_ref(&reply.message), confirmed);
                publisher.forget_returned(IN_FLIGHT_MAX);
                self.note(receipts.first().copied());
            }
            Outcome::Late => {
                let Some(reply) = self.in_flight.replies.remove(&number) else { return };
                self.suspend(reply.message.routing_key);
            }
            Outcome::Confirmed(Err(error)) => self.find_culprit(error).await,
        }
    }

    fn note(&mut self, receipt: Option<Receipt>) {
        self.confirmed.fetch_add(1, Ordering::Relaxed);
        match receipt {
            Some(Receipt::Routed) => self.pause.reset(),
            Some(Receipt::Unroutable) => self.lost_replies.add(1, &"their queue is gone"),
            Some(Receipt::Refused) | None => self.lost_replies.add(1, &"their queue refused them"),
        }
    }

    fn suspend(&mut self, address: String) {
        self.lost_replies.add(1, &"their queue did not confirm in time");
        let now = Instant::now();
        self.suspended.retain(|_, until| *until > now);
        if self.suspended.len() < SUSPENDED_MAX {
            self.suspended.insert(address, now + SUSPENDED);
        }
    }

    /// Sends replies again one by one after the channel or the connection has closed: which of them have arrived
    /// is unknown. So only the reply that has closed it is lost. A requester may get a reply twice, with the
    /// same message id.
    async fn find_culprit(&mut self, error: Error) {
        let suspects = self.in_flight.take();
        // The right to write replies is one for all of them.
        if matches!(error, Error::Refused(_)) {
            return self.give_up(suspects.len(), &error);
        }
        self.renew().await;
        let until = Instant::now() + SEARCH_TIMEOUT;
        for reply in suspects {
            if Instant::now() > until {
                self.lost_replies.add(1, &error);
            } else if let Some(why) = self.is_pointless(&reply.message) {
                self.lost_replies.add(1, &why);
            } else {
                self.send_alone(reply.message).await;
            }
        }
    }

    async fn send_alone(&mut self, message: Message) {
        let mut message = message;
        loop {
            let Some(mut publisher) = self.open(1).await else { return };
            let sent = timeout(CONFIRM_TIMEOUT, publisher.publish_alone(&message)).await;
            self.open = Some(publisher);
            match sent {
                Ok(Ok(Alone::Decided(receipt))) => return self.note(Some(receipt)),
                Ok(Ok(Alone::Unacceptable(why))) => match unavailable::in_place_of(&message) {
                    Some(small) => message = small,
                    None => return self.lost_replies.add(1, &why),
                },
                Ok(Err(error @ Error::Refused(_))) => return self.give_up(1, &error),
                Ok(Err(error)) => {
                    self.lost_replies.add(1, &error);
                    return self.renew().await;
                }
                Err(_elapsed) => {
                    self.suspend(message.routing_key);
                    return self.renew().await;
                }
            }
        }
    }

    /// A new channel, if the connection lives; otherwise the next reply opens both.
    async fn renew(&mut self) {
        if let Some(mut publisher) = self.open.take()
            && publisher.is_connected()
            && publisher.reopen().await.is_ok()
        {
            self.open = Some(publisher);
        }
    }
}

impl InFlight {
    fn add(&mut self, replies: Vec<Reply>, confirming: Vec<Confirming>) {
        let first = self.next;
        for (number, reply) in (first..).zip(replies) {
            self.replies.insert(number, reply);
            self.next = number + 1;
        }
        for (number, confirming) in (first..).zip(confirming) {
            let waiting = async move {
                match timeout(CONFIRM_TIMEOUT, confirming).await {
                    Ok(confirmed) => (number, Outcome::Confirmed(confirmed)),
                    Err(_elapsed) => (number, Outcome::Late),
                }
            };
            self.confirming.push(waiting.boxed());
        }
    }

    /// Stops waiting for all of them.
    fn take(&mut self) -> Vec<Reply> {
        self.confirming.clear();
        std::mem::take(&mut self.replies).into_values().collect()
    }
}
