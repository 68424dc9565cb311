//! The inputs: a message's outside as lines `name: value`, an empty line, its body. What does not
//! begin so is a body alone.

use std::fs;
use std::path::Path;

use partner_program_worker::message::{Message, Properties};

use crate::harness::random::Random;

/// Where the target keeps its corpus; its name is the test's.
const FOLDER: &str = concat!(
    "tests/it/fuzz/__fuzz__/",
    "fuzz__no_bytes_break_the_way_from_message_to_result/corpus"
);

/// Puts into a body what readers trip over.
const WORDS: [&[u8]; 24] = [
    b"null",
    b"true",
    b"-1",
    b"1e999",
    b"9223372036854775808",
    b"0.5",
    b"\"\"",
    b"[]",
    b"{}",
    b"[",
    b"{",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"\\udc00",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\"customer\":",
    b"\"id\":1,",
    b"\"partnerProgramName\":\"Plain\",",
    b"\0",
    b"//",
    b"\n\n",
];

pub(super) struct Corpus(Vec<Vec<u8>>);

impl Corpus {
    pub(super) fn read() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER);
        let mut paths: Vec<_> = fs::read_dir(folder)
            .expect("the corpus is there")
            .map(|entry| entry.expect("it can be listed").path())
            .collect();
        // So that a seed gives the same changes everywhere.
        paths.sort();
        assert!(paths.len() > 20, "a corpus of {} inputs", paths.len());
        Self(paths.iter().map(|path| fs::read(path).expect("it can be read")).collect())
    }

    pub(super) fn inputs(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }

    /// One of the inputs, changed in a few places.
    pub(super) fn changed(&self, random: &mut Random) -> Vec<u8> {
        let mut input = random.pick(&self.0);
        for _ in 0..=random.below(6) {
            let at = random.below(input.len() + 1);
            let end = (at + random.below(24)).min(input.len());
            match random.below(7) {
                0 => drop(input.drain(at..end)),
                1 => {
                    let again = input[at..end].to_vec();
                    drop(input.splice(at..at, again));
                }
                2 => drop(input.splice(at..at, random.pick(&WORDS).to_vec())),
                3 => drop(input.splice(at..end, random.pick(&WORDS).to_vec())),
                4 => input.truncate(at),
                5 => {
                    let other = random.pick(&self.0);
                    let from = random.below(other.len() + 1);
                    let to = (from + random.below(64)).min(other.len());
                    drop(input.splice(at..end, other[from..to].to_vec()));
                }
                _ => {
                    if let Some(byte) = input.get_mut(at) {
                        *byte = u8::try_from(random.below(256)).expect("a byte");
                    }
                }
            }
        }
        input
    }
}

/// The message that an input stands for.
pub(super) fn message(input: &[u8]) -> Message {
    let mut properties = Properties::default();
    let mut routing_key = String::new();
    let mut rest = input;
    if input.starts_with(b"key: ") {
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&rest[..end]);
            rest = &rest[end + 1..];
            let Some((name, value)) = line.split_once(": ") else { break };
            // No longer than AMQP lets them be.
            let short = |text: &str| text[..text.floor_char_boundary(255)].to_owned();
            let value = short(value);
            match name {
                "key" => routing_key = value,
                "id" => properties.message_id = Some(value),
                "correlation" => properties.correlation_id = Some(value),
                "reply" => properties.reply_to = Some(value),
                "app" => properties.app_id = Some(value),
                "user" => properties.user_id = Some(value),
                "type" => properties.content_type = Some(value),
                "encoding" => properties.content_encoding = Some(value),
                name => drop(properties.headers.insert(short(name), value.into())),
            }
        }
    } else {
        let says = |word: &str| input.windows(word.len()).any(|part| part == word.as_bytes());
        let operation = if says("customersPartnerUpdates") {
            "update"
        } else if says("deLinkCustomers") {
            "delink"
        } else {
            "link"
        };
        routing_key = format!("acme.{operation}");
    }
    Message { exchange: "commands".to_owned(), routing_key, properties, body: rest.to_vec() }
}
