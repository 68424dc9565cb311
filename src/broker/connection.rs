//! One connection, from its opening to its first fault.

use std::mem::ManuallyDrop;
use std::pin::pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::uri::AMQPUri;
use lapin::{Channel, ConnectionProperties, ConnectionStatus, Event};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::broker::error::Error;
use crate::broker::greeting;
use crate::broker::version::Server;
use crate::config::hosts::each_in_turn;

/// Bounds the whole handshake, over all hosts.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Bounds a request to the broker.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Bounds an orderly close: a broker that does not answer it is likely gone.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);
/// How soon a silent peer counts as gone, where the URL does not say otherwise.
const HEARTBEAT_S: u16 = 10;
/// AMQP's reply code of a close without a fault.
const REPLY_SUCCESS: u16 = 200;

/// An open connection. It does not recover: after a fault a new one is opened.
pub struct Connection {
    inner: Arc<lapin::Connection>,
    consumers: Consumers,
    lost: Loss,
    server: Server,
    /// Tells `lost` when lapin reports an error.
    _watch: AbortOnDropHandle<()>,
}

impl Connection {
    /// Connects under a `name` that the broker's management shows, to the first of the hosts of
    /// `url` that answers. Bounded by 15 s.
    pub async fn open(url: &str, name: &str) -> Result<Self, Error> {
        let hosts = each_in_turn(url, CONNECT_TIMEOUT);
        let is_alone = hosts.len() == 1;
        let mut failed = Vec::new();
        for (host, share) in hosts {
            match Self::open_one(&host, name, share).await {
                Ok(connection) => return Ok(connection),
                Err(error) if is_alone => return Err(error),
                Err(error) => failed.push(error.to_string()),
            }
        }
        Err(Error::Outage(failed.join("; ")))
    }

    async fn open_one(url: &str, name: &str, timeout: Duration) -> Result<Self, Error> {
        let mut uri: AMQPUri = url.parse().map_err(|why| {
            Error::Refused(format!(
                "amqp_url can't be read ({why}): write amqp://user:password@host:5672/vhost"
            ))
        })?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT_S);
        let what = format!("connecting to {}:{}", uri.authority.host, uri.authority.port);
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let connecting = greeting::connect(uri, properties);
        let (inner, server) = tokio::time::timeout(timeout, connecting)
            .await
            .map_err(|_elapsed| Error::timeout(&what, timeout))?
            .map_err(|error| Error::of(&what, &error))?;
        let lost = Loss::default();
        let watch = watch(inner.events_listener(), inner.status().clone(), lost.clone());
        let watch = AbortOnDropHandle::new(tokio::spawn(watch));
        let inner = Arc::new(inner);
        let consumers = Consumers { connection: Arc::clone(&inner), held: Mutex::default() };
        Ok(Self { inner, consumers, lost, server, _watch: watch })
    }

    /// Waits until the connection is lost, or a subscription of it, and says which.
    pub async fn closed(&self) -> Error {
        self.lost.token.cancelled().await;
        let why = self.lost.why.get().map_or("the connection was lost", String::as_str);
        Error::Outage(why.to_owned())
    }

    /// Which server it goes to.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The largest frame that both sides agreed upon, in bytes.
    #[must_use]
    pub fn frame_max(&self) -> usize {
        usize::try_from(self.inner.configuration().frame_max()).unwrap_or(usize::MAX)
    }

    /// What ends the connection's use early.
    pub(super) fn loss(&self) -> Loss {
        self.lost.clone()
    }

    /// Whether the broker has stopped taking writes (memory or disk alarm).
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.inner.status().blocked()
    }

    /// Closes the connection, within a bound; one that is lost already counts as closed.
    pub async fn close(&self) {
        say_goodbye(self.inner.close(REPLY_SUCCESS, "done".into())).await;
    }

    /// Keeps the consumer from being cancelled when its handle is dropped.
    pub(super) fn hold(&self, consumer: lapin::Consumer) {
        self.consumers.held.lock().unwrap_or_else(PoisonError::into_inner).push(consumer);
    }

    pub(super) fn status(&self) -> ConnectionStatus {
        self.inner.status().clone()
    }

    pub(super) async fn channel(&self) -> Result<Channel, Error> {
        request("opening a channel", self.inner.create_channel()).await
    }
}

/// Tells the tasks that wait for it that a connection is lost, and why.
#[derive(Clone, Default)]
pub(super) struct Loss {
    token: CancellationToken,
    why: Arc<OnceLock<String>>,
}

impl Loss {
    /// A subscription that ends takes its connection with it: what was delivered before may
    /// be another worker's already.
    pub(super) fn tell(&self, why: &str) {
        self.why.get_or_init(|| why.to_owned());
        self.token.cancel();
    }
}

/// The consumers of a connection, kept until it has closed.
///
/// lapin cancels an active consumer that is dropped, and a cancel hands the queue over while
/// messages are still unacked here: the next consumer would overtake them. A panic, an abort, an
/// exit at once drop what they find, so none of that may be the last of a consumer.
struct Consumers {
    connection: Arc<lapin::Connection>,
    held: Mutex<Vec<lapin::Consumer>>,
}

impl Drop for Consumers {
    fn drop(&mut self) {
        let held = self.held.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Rather leaked than dropped, should the runtime end before the connection does.
        let held = ManuallyDrop::new(std::mem::take(held));
        let connection = Arc::clone(&self.connection);
        if let Ok(runtime) = Handle::try_current()
            && !held.is_empty()
        {
            runtime.spawn(async move {
                say_goodbye(connection.close(REPLY_SUCCESS, "done".into())).await;
                drop(ManuallyDrop::into_inner(held));
            });
        }
    }
}

/// Waits for an answer of the broker, within a bound.
pub(super) async fn request<T>(
    what: &str,
    answer: impl Future<Output = lapin::Result<T>>,
) -> Result<T, Error> {
    match tokio::time::timeout(REQUEST_TIMEOUT, answer).await {
        Ok(answer) => answer.map_err(|error| Error::of(what, &error)),
        Err(_elapsed) => Err(Error::timeout(what, REQUEST_TIMEOUT)),
    }
}

/// Closes a channel politely, within a bound.
pub(super) async fn close_channel(channel: &Channel) {
    say_goodbye(channel.close(REPLY_SUCCESS, "done".into())).await;
}

async fn say_goodbye(goodbye: impl Future<Output = lapin::Result<()>>) {
    if !matches!(tokio::time::timeout(GOODBYE_TIMEOUT, goodbye).await, Ok(Ok(()))) {
        tracing::debug!("the connection ended before it was closed");
    }
}

async fn watch(
    events: impl futures_util::Stream<Item = Event>,
    status: ConnectionStatus,
    lost: Loss,
) {
    let mut events = pin!(events);
    while let Some(event) = events.next().await {
        match event {
            // Errors of single channels are told here as well; their users see them.
            Event::Error(error) if !status.connected() => {
                tracing::debug!("the connection failed: {error}");
                break;
            }
            Event::ConnectionBlocked(reason) => {
                tracing::warn!("the broker blocks publishing: {reason}");
            }
            Event::ConnectionUnblocked => tracing::info!("the broker accepts publishing again"),
            _ => {}
        }
    }
    lost.token.cancel();
}
