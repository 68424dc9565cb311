//! A subscriber to all results who never leaves: he notes what he hears and when, and comes back
//! by himself when the broker does.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lapin::options::BasicAckOptions;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::harness::collector::{Collector, Received, try_subscribe};

/// The queue of [`Collector::of_results`].
pub(crate) const QUEUE: &str = "test.results";
const CONNECT: Duration = Duration::from_secs(5);
/// After so long without a word the connection may be dead without a sign of it.
const SILENCE: Duration = Duration::from_secs(10);
const RECONNECT_EVERY: Duration = Duration::from_millis(100);

/// An event and when it came.
#[derive(Clone)]
pub(crate) struct Heard {
    pub(crate) at: Instant,
    pub(crate) event: Received,
}

/// See the module.
pub(crate) struct Subscriber {
    amqp_url: String,
    heard: Arc<Mutex<Vec<Heard>>>,
    pub(crate) queues: Vec<String>,
    listening: Vec<AbortOnDropHandle<()>>,
}

impl Subscriber {
    /// Binds a durable queue of its own and listens.
    pub(crate) async fn of_results(amqp_url: &str) -> Self {
        drop(Collector::of_results(amqp_url).await);
        let mut subscriber = Self {
            amqp_url: amqp_url.to_owned(),
            heard: Arc::default(),
            queues: vec![QUEUE.to_owned()],
            listening: Vec::new(),
        };
        subscriber.listen();
        subscriber
    }

    /// Listens there from now on.
    pub(crate) fn move_to(&mut self, amqp_url: &str) {
        amqp_url.clone_into(&mut self.amqp_url);
        self.listen();
    }

    /// Listens to that queue as well from the next [`Self::listen`] on.
    pub(crate) fn add(&mut self, queue: &str) {
        self.queues.push(queue.to_owned());
    }

    pub(crate) fn listen(&mut self) {
        let listening = self.queues.iter().map(|queue| {
            let heard = Arc::clone(&self.heard);
            AbortOnDropHandle::new(tokio::spawn(listen(
                self.amqp_url.clone(),
                queue.clone(),
                heard,
            )))
        });
        self.listening = listening.collect();
    }

    /// Lets the queues fill.
    pub(crate) fn pause(&mut self) {
        self.listening.clear();
    }

    /// Looks at all that was heard so far.
    pub(crate) fn look<T>(&self, at: impl FnOnce(&[Heard]) -> T) -> T {
        at(&self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn listen(amqp_url: String, queue: String, heard: Arc<Mutex<Vec<Heard>>>) {
    loop {
        // A broker that is starting may take a connection and not go on with it.
        let subscribing = timeout(CONNECT, try_subscribe(&amqp_url, &queue)).await;
        if let Ok(Ok((_connection, mut consumer))) = subscribing {
            while let Ok(Some(Ok(delivery))) = timeout(SILENCE, consumer.next()).await {
                let event = Received::from(&delivery);
                // That a command waits is no answer to it: the lanes' own tests look at these.
                if !event.is_parked() {
                    let now = Heard { at: Instant::now(), event };
                    heard.lock().unwrap_or_else(PoisonError::into_inner).push(now);
                }
                // Lost with the connection, it comes again.
                if timeout(CONNECT, delivery.ack(BasicAckOptions::default())).await.is_err() {
                    break;
                }
            }
        }
        tokio::time::sleep(RECONNECT_EVERY).await;
    }
}
