//! AMQP by hand, for what no well-behaved client sends: short strings that are not UTF-8, field
//! tables without end.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::Url;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const FRAME_END: u8 = 0xce;
/// Below what a frame may hold.
const FRAME_BYTES: usize = 100_000;

/// The places of the basic properties in their flags.
pub(crate) const HEADERS: u8 = 13;
const DELIVERY_MODE: u8 = 12;
pub(crate) const PRIORITY: u8 = 11;
pub(crate) const CORRELATION_ID: u8 = 10;
pub(crate) const REPLY_TO: u8 = 9;
pub(crate) const MESSAGE_ID: u8 = 7;
pub(crate) const TIMESTAMP: u8 = 6;
pub(crate) const KIND: u8 = 5;
pub(crate) const USER_ID: u8 = 4;
pub(crate) const APP_ID: u8 = 3;

/// A command as bytes.
pub(crate) struct Sent {
    pub(crate) routing_key: Vec<u8>,
    /// Each by its place and in its encoding.
    pub(crate) properties: Vec<(u8, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

/// One connection and its one channel, which confirms.
pub(crate) struct RawPublisher(TcpStream);

impl RawPublisher {
    pub(crate) async fn open(amqp_url: &str) -> Self {
        let url = Url::parse(amqp_url).expect("a URL");
        let address = (url.host_str().expect("a host"), url.port().expect("a port"));
        let mut stream = TcpStream::connect(address).await.expect("the broker listens");
        stream.write_all(b"AMQP\0\0\x09\x01").await.expect("it is sent");
        let mut raw = Self(stream);
        raw.expect((10, 10)).await;
        let mut start = vec![0, 0, 0, 0];
        start.extend(short(b"PLAIN"));
        start.extend(long(b"\0guest\0guest"));
        start.extend(short(b"en_US"));
        raw.method(0, (10, 11), &start).await;
        let mut tune = raw.expect((10, 30)).await;
        // No heartbeats: it does not live long.
        tune.truncate(6);
        tune.extend([0, 0]);
        raw.method(0, (10, 31), &tune).await;
        let mut open = short(url.path().trim_start_matches('/').as_bytes());
        open.extend([0, 0]);
        raw.method(0, (10, 40), &open).await;
        raw.expect((10, 41)).await;
        raw.method(1, (20, 10), &[0]).await;
        raw.expect((20, 11)).await;
        raw.method(1, (85, 10), &[0]).await;
        raw.expect((85, 11)).await;
        raw
    }

    /// Publishes a persistent command and waits for its confirm.
    pub(crate) async fn publish(&mut self, sent: &Sent) {
        self.publish_to("partner-program.commands", sent).await;
    }

    /// Likewise, to any exchange.
    pub(crate) async fn publish_to(&mut self, exchange: &str, sent: &Sent) {
        let Sent { routing_key, properties, body } = sent;
        let mut publish = vec![0, 0];
        publish.extend(short(exchange.as_bytes()));
        publish.extend(short(routing_key));
        publish.push(0);
        self.method(1, (60, 40), &publish).await;
        let mut properties = properties.clone();
        properties.push((DELIVERY_MODE, vec![2]));
        properties.sort_by_key(|(place, _)| std::cmp::Reverse(*place));
        let flags = properties.iter().fold(0_u16, |flags, (place, _)| flags | 1 << place);
        let mut header = vec![0, 60, 0, 0];
        header.extend(u64::try_from(body.len()).expect("short").to_be_bytes());
        header.extend(flags.to_be_bytes());
        header.extend(properties.into_iter().flat_map(|(_, encoded)| encoded));
        self.frame(HEADER, 1, &header).await;
        for part in body.chunks(FRAME_BYTES) {
            self.frame(BODY, 1, part).await;
        }
        self.expect((60, 80)).await;
    }

    async fn method(&mut self, channel: u16, (class, method): (u16, u16), arguments: &[u8]) {
        let mut payload = [class.to_be_bytes(), method.to_be_bytes()].concat();
        payload.extend(arguments);
        self.frame(METHOD, channel, &payload).await;
    }

    async fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        let mut frame = vec![kind];
        frame.extend(channel.to_be_bytes());
        frame.extend(length(payload));
        frame.extend(payload);
        frame.push(FRAME_END);
        self.0.write_all(&frame).await.expect("it is sent");
    }

    /// The arguments of the next method, which must be this one.
    async fn expect(&mut self, (class, method): (u16, u16)) -> Vec<u8> {
        let mut head = [0; 7];
        self.0.read_exact(&mut head).await.expect("the broker answers");
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
        let mut payload = vec![0; usize::try_from(size).expect("small") + 1];
        self.0.read_exact(&mut payload).await.expect("the broker answers");
        let answered = [payload[0], payload[1], payload[2], payload[3]];
        let expected = [class.to_be_bytes(), method.to_be_bytes()].concat();
        assert_eq!(answered[..], expected, "{}", String::from_utf8_lossy(&payload));
        payload.pop();
        payload.split_off(4)
    }
}

/// A short string, of any bytes.
pub(crate) fn short(text: &[u8]) -> Vec<u8> {
    let mut encoded = vec![u8::try_from(text.len()).expect("a short one")];
    encoded.extend(text);
    encoded
}

/// A long string, a field table or a field array, as its content says.
pub(crate) fn long(content: &[u8]) -> Vec<u8> {
    let mut encoded = length(content).to_vec();
    encoded.extend(content);
    encoded
}

fn length(content: &[u8]) -> [u8; 4] {
    u32::try_from(content.len()).expect("short").to_be_bytes()
}
