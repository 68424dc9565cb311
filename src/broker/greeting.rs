//! What a broker says of itself when a connection begins.
//!
//! The client library reads the server's properties and keeps none of them. So its stream is wrapped,
//! and what comes first is copied: the frame of `connection.start`, which both sides of every
//! connection begin with. Deliberately absent: a connection of its own for the question, which another
//! node of the cluster might answer.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_rs::traits::{Executor, Reactor, RuntimeKit};
use async_rs::util::Task;
use async_rs::{Runtime, Tokio};
use futures_util::Stream;
use futures_util::io::{AsyncRead, AsyncWrite};
use lapin::tcp::{AMQPUriTcpExt, TLSConfig};
use lapin::types::parsing::parse_field_table;
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;
use lapin::{AsyncTcpStream, ConnectionProperties};

use crate::broker::version::Server;

/// No broker says more in its first frame: RabbitMQ's has some 500 bytes.
const GREETING_BYTES_MAX: usize = 16_384;
/// Type, channel and size of a frame; class and method, and the protocol's version, in its payload.
const FRAME_HEAD: usize = 7;
const METHOD_HEAD: usize = 6;
/// Class and method of `connection.start`.
const START: [u8; 4] = [0, 10, 0, 10];

/// Connects, and tells which server has answered.
pub(super) async fn connect(
    uri: AMQPUri,
    properties: ConnectionProperties,
) -> lapin::Result<(lapin::Connection, Server)> {
    let greeting = Greeting::default();
    let runtime = Runtime::new(Kit { tokio: Tokio::current() });
    let heard = greeting.clone();
    let connecting = lapin::Connection::connector(
        uri,
        runtime,
        async move |uri: AMQPUri, _runtime| {
            let tokio = Runtime::new(Tokio::current());
            let stream = uri.connect_with_config_async(TLSConfig::default(), &tokio).await?;
            Ok(AsyncTcpStream::Plain(Overheard { stream, greeting: heard.clone(), heard: false }))
        },
        properties,
    );
    let connection = connecting.await?;
    Ok((connection, greeting.server()))
}

/// The first bytes that came, up to the end of the first frame.
#[derive(Clone, Default)]
struct Greeting(Arc<Mutex<Vec<u8>>>);

impl Greeting {
    /// Keeps more of the first frame, and says whether that was all of it.
    fn hear(&self, bytes: &[u8]) -> bool {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = GREETING_BYTES_MAX - kept.len();
        kept.extend(&bytes[..bytes.len().min(room)]);
        kept.len() >= GREETING_BYTES_MAX
            || kept.len() >= FRAME_HEAD && kept.len() - FRAME_HEAD >= payload_bytes(&kept)
    }

    fn server(&self) -> Server {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let properties = server_properties(&kept).unwrap_or_default();
        let text = |name: &str| match properties.inner().get(name) {
            Some(AMQPValue::LongString(text)) => {
                String::from_utf8_lossy(text.as_bytes()).into_owned()
            }
            _ => String::new(),
        };
        Server::of(&text("product"), &text("version"))
    }
}

fn payload_bytes(frame: &[u8]) -> usize {
    let size = frame.get(3..FRAME_HEAD).and_then(|size| size.try_into().ok());
    size.map_or(0, |size| usize::try_from(u32::from_be_bytes(size)).unwrap_or(usize::MAX))
}

fn server_properties(frame: &[u8]) -> Option<FieldTable> {
    let payload = frame.get(FRAME_HEAD..)?;
    if payload.get(..START.len())? != START {
        return None;
    }
    let (_, table) = parse_field_table(payload.get(METHOD_HEAD..)?).ok()?;
    Some(table)
}

/// A stream of which the first frame that comes is copied.
struct Overheard {
    stream: AsyncTcpStream<<Tokio as Reactor>::TcpStream>,
    greeting: Greeting,
    /// Whether the first frame has come.
    heard: bool,
}

impl AsyncRead for Overheard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Poll::Ready(Ok(bytes)) = &read
            && !self.heard
        {
            self.heard = self.greeting.hear(&buffer[..*bytes]);
        }
        read
    }
}

impl AsyncWrite for Overheard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(context)
    }
}

/// Tokio, with streams of this module.
#[derive(Clone, Debug)]
struct Kit {
    tokio: Tokio,
}

impl RuntimeKit for Kit {}

impl Executor for Kit {
    type Task<T: Send + 'static> = <Tokio as Executor>::Task<T>;

    fn block_on<T, F: Future<Output = T>>(&self, future: F) -> T {
        self.tokio.block_on(future)
    }

    fn spawn<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        future: F,
    ) -> Task<Self::Task<T>> {
        self.tokio.spawn(future)
    }

    fn spawn_blocking<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(
        &self,
        work: F,
    ) -> Task<Self::Task<T>> {
        self.tokio.spawn_blocking(work)
    }
}

impl Reactor for Kit {
    type TcpStream = Overheard;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.tokio.register(socket)
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.tokio.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.tokio.interval(duration)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let connecting = self.tokio.tcp_connect_addr(address);
        async move {
            let stream = AsyncTcpStream::Plain(connecting.await?);
            Ok(Overheard { stream, greeting: Greeting::default(), heard: true })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(properties: &[(&str, &str)]) -> Vec<u8> {
        let field = |(name, text): &(&str, &str)| {
            let name_bytes = u8::try_from(name.len()).unwrap();
            let text_bytes = u32::try_from(text.len()).unwrap().to_be_bytes();
            [&[name_bytes], name.as_bytes(), b"S", &text_bytes, text.as_bytes()].concat()
        };
        let table: Vec<u8> = properties.iter().flat_map(field).collect();
        let table_bytes = u32::try_from(table.len()).unwrap().to_be_bytes();
        let payload = [&START[..], &[0, 9], &table_bytes, &table, &[0; 8]].concat();
        let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[1, 0, 0], &size[..], &payload, &[0xce]].concat()
    }

    #[test]
    fn the_server_says_what_it_is_in_its_first_frame() {
        let frame = start(&[("product", "RabbitMQ"), ("version", "4.0.5")]);
        for portion in [1, 7, 40, frame.len()] {
            let greeting = Greeting::default();
            for bytes in frame.chunks(portion) {
                greeting.hear(bytes);
            }
            assert_eq!(greeting.server(), Server::of("RabbitMQ", "4.0.5"), "{portion}");
        }
    }

    #[test]
    fn anything_else_is_a_server_of_no_known_version() {
        let unknown = Server::of("", "");
        let endless = vec![1; 40_000];
        for bytes in [&b""[..], b"HTTP/1.1 400 Bad Request\r\n", &start(&[]), &endless] {
            let greeting = Greeting::default();
            greeting.hear(bytes);
            greeting.hear(bytes);
            assert_eq!(greeting.server(), unknown);
        }
    }
}
