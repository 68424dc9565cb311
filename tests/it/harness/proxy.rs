//! The network between a worker and a server, to be spoilt: a TCP proxy on a port of its own.
//!
//! A spoilt line keeps what it was given and passes it on when it is open again, as TCP does
//! after lost packets; only a cut loses it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

const CHUNK_BYTES: usize = 16 * 1024;
/// What a slow line passes on at a time, and the pause in between.
const DRIP: (usize, Duration) = (256, Duration::from_millis(2));

/// What a line does with the bytes of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Open,
    /// Passes everything on that much later.
    Delayed(Duration),
    /// Passes it on by drops.
    Dripping,
    /// Passes nothing on: a black hole.
    Dead,
}

/// See the module. Its connections end with it.
pub(crate) struct Proxy {
    url: String,
    shared: Arc<Shared>,
    _accepting: AbortOnDropHandle<()>,
}

struct Shared {
    server: SocketAddr,
    to_server: watch::Sender<Line>,
    to_client: watch::Sender<Line>,
    /// Cancelled to end the connections of now; new ones get the next token.
    cut: watch::Sender<CancellationToken>,
    /// Likewise, but only towards the server: the client is not told.
    half_cut: watch::Sender<CancellationToken>,
    refuses: AtomicBool,
    /// Set: the next COMMIT reaches the server, and its answer is lost with the connection.
    loses_a_commits_reply: AtomicBool,
}

impl Proxy {
    /// Listens on a free port, for connections to the server of `url`.
    pub(crate) async fn before(url: &str) -> Self {
        let mut parsed = Url::parse(url).expect("a URL");
        let server = parsed.socket_addrs(|| None).expect("a host and a port")[0];
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        parsed.set_port(Some(port)).expect("a URL with a port");
        let shared = Arc::new(Shared {
            server,
            to_server: watch::Sender::new(Line::Open),
            to_client: watch::Sender::new(Line::Open),
            cut: watch::Sender::new(CancellationToken::new()),
            half_cut: watch::Sender::new(CancellationToken::new()),
            refuses: AtomicBool::new(false),
            loses_a_commits_reply: AtomicBool::new(false),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { url: parsed.into(), shared, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// Where clients find the server behind it.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// From now on, for open connections and new ones.
    pub(crate) fn set(&self, to_server: Line, to_client: Line) {
        self.shared.to_server.send_replace(to_server);
        self.shared.to_client.send_replace(to_client);
    }

    pub(crate) fn heal(&self) {
        self.refuse(false);
        self.set(Line::Open, Line::Open);
    }

    /// Ends the open connections.
    pub(crate) fn cut(&self) {
        self.shared.cut.send_replace(CancellationToken::new()).cancel();
    }

    /// Ends the open connections towards the server only: the client's stay open and silent.
    pub(crate) fn half_cut(&self) {
        self.shared.half_cut.send_replace(CancellationToken::new()).cancel();
    }

    /// Whether new connections are closed at once.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.shared.refuses.store(refuses, Ordering::Relaxed);
    }

    /// Lets the server do the next COMMIT, and the client never know.
    pub(crate) fn lose_a_commits_reply(&self) {
        self.shared.loses_a_commits_reply.store(true, Ordering::Relaxed);
    }

    /// Whether the last one asked for was lost.
    pub(crate) fn has_lost_it(&self) -> bool {
        !self.shared.loses_a_commits_reply.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        if !shared.refuses.load(Ordering::Relaxed) {
            tokio::spawn(connect(client, Arc::clone(&shared)));
        }
    }
}

async fn connect(client: TcpStream, shared: Arc<Shared>) {
    // An ended pair of pumps ends the connection on both sides; there is nobody to tell.
    let Ok(server) = TcpStream::connect(shared.server).await else { return };
    for stream in [&client, &server] {
        drop(stream.set_nodelay(true));
    }
    let cut = shared.cut.borrow().clone();
    let half_cut = shared.half_cut.borrow().clone();
    let reply_lost = AtomicBool::new(false);
    let (from_client, mut to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    let look_up = |bytes: &[u8]| {
        // Postgres' simple query, as sqlx commits.
        if bytes.windows(7).any(|some| some == b"COMMIT\0")
            && shared.loses_a_commits_reply.swap(false, Ordering::Relaxed)
        {
            reply_lost.store(true, Ordering::Relaxed);
        }
        true
    };
    let look_down = |_: &[u8]| !reply_lost.load(Ordering::Relaxed);
    let up = pump(from_client, &mut to_server, shared.to_server.subscribe(), look_up);
    let down = pump(from_server, &mut to_client, shared.to_client.subscribe(), look_down);
    tokio::select! {
        _ended = up => return,
        _ended = down => return,
        () = cut.cancelled() => return,
        () = half_cut.cancelled() => {}
    }
    drop(to_server);
    cut.cancelled().await;
    drop(to_client);
}

/// Passes on what comes, as the line allows, until `goes_on` says that the connection ends.
async fn pump(
    mut from: OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    mut line: watch::Receiver<Line>,
    goes_on: impl Fn(&[u8]) -> bool,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = from.read(&mut chunk).await?;
        let bytes = &chunk[..count];
        if count == 0 || !goes_on(bytes) {
            return Ok(());
        }
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        let now = *line.wait_for(|line| *line != Line::Dead).await.map_err(gone)?;
        match now {
            Line::Open | Line::Dead => to.write_all(bytes).await?,
            Line::Delayed(delay) => {
                tokio::time::sleep(delay).await;
                to.write_all(bytes).await?;
            }
            Line::Dripping => {
                for drop in bytes.chunks(DRIP.0) {
                    tokio::time::sleep(DRIP.1).await;
                    to.write_all(drop).await?;
                }
            }
        }
    }
}
