//! Moves the dead letters from their queue into the database, where operators work with them.
//!
//! The ack comes after the commit, and the same dead letter has always the same id: so it is archived
//! once, whatever dies in between. Every worker does this beside its lanes. Deliberately absent: any
//! check of a letter. Everything in the queue is kept.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::broker::connection::Connection;
use crate::broker::consumer::{Acknowledger, Consumer, Delivery};
use crate::broker::topology;
use crate::clock::Clock;
use crate::config::Config;
use crate::config::memory::{ARCHIVE_BATCH_BYTES_MAX, ARCHIVE_PREFETCH};
use crate::domain::dead_letter::DeadLetter;
use crate::message::Message;
use crate::retry::Backoff;
use crate::store::dead_letters::archive::{self, Extent};
use crate::store::error::Error as StoreError;
use crate::store::session::{self, Session};
use crate::wire::dead_letter;
use crate::wire::dead_letter::Reading;
use crate::worker::context::ServerUrls;
use crate::worker::context::TaskContext;
use crate::worker::error::Error;
use crate::worker::installation;
use crate::worker::lane::error::GenerationError;
use crate::worker::tasks::archive_limits;

/// How long a batch waits for more.
const LINGER: Duration = Duration::from_millis(20);
/// The first and the longest pause before the archive reconnects.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Archives until `shutdown`. Faults are waited out: everything that was not acked is delivered again.
pub(crate) async fn run(context: TaskContext) -> Result<(), Error> {
    let TaskContext { config, urls, clock, shutdown, .. } = context;
    let mut pause = Backoff::new(PAUSE.0, PAUSE.1);
    while !shutdown.is_cancelled() {
        let mut archived = 0;
        let Err(fault) = generation(&config, &urls, &clock, &shutdown, &mut archived).await else {
            continue;
        };
        if archived > 0 {
            pause.reset();
        }
        tracing::warn!(archived, "the archive of dead letters reconnects: {fault}");
        tokio::select! {
            () = pause.wait() => {}
            () = shutdown.cancelled() => {}
        }
    }
    Ok(())
}

/// One connection to each server, until the first fault, or until the archive is full.
async fn generation(
    config: &Config,
    urls: &ServerUrls,
    clock: &Clock,
    shutdown: &CancellationToken,
    archived: &mut usize,
) -> Result<(), GenerationError> {
    let name = format!("partner-program archive {}", config.worker_id);
    let mut session =
        Session::new(urls.database_url.clone(), name.clone(), config.database_timeout());
    // First: each closed channel counts a delivery for all that it held.
    session::bounded(session.timeout(), async { session.connection().await.map(drop) }).await?;
    archive_limits::wait_for_room(&mut session, config, shutdown).await?;
    let connection = tokio::select! {
        opened = Connection::open(&urls.amqp_url, &name) => opened?,
        () = shutdown.cancelled() => return Ok(()),
    };
    installation::check(&mut session, &connection).await?;
    let queue = topology::DEAD_LETTERS;
    let mut consumer = Consumer::subscribe(
        &connection,
        queue,
        ARCHIVE_PREFETCH,
        &config.worker_id,
        config.unacked_max(),
    )
    .await?;
    let acknowledger = consumer.acknowledger();
    let archiving = Archiving { config, clock, worker_user: config.letter_user() };
    let ended = tokio::select! {
        ended = archiving.batches(&mut consumer, &acknowledger, &mut session, shutdown, archived) => ended,
        lost = connection.closed() => Err(lost.into()),
    };
    consumer.close().await;
    connection.close().await;
    ended
}

/// How dead letters are read and bounded.
struct Archiving<'a> {
    config: &'a Config,
    clock: &'a Clock,
    /// The user that workers publish dead letters as.
    worker_user: Option<String>,
}

impl Archiving<'_> {
    /// Archives until `shutdown`, or until the archive is full.
    async fn batches(
        &self,
        consumer: &mut Consumer,
        acknowledger: &Acknowledger,
        session: &mut Session,
        shutdown: &CancellationToken,
        archived: &mut usize,
    ) -> Result<(), GenerationError> {
        while !archive_limits::is_full(session, self.config).await? {
            let first = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                first = consumer.next() => first?,
            };
            let worker_user = self.worker_user.as_deref();
            let mut batch = gather(consumer, first, self.clock.now(), worker_user).await?;
            let count = batch.letters.len();
            let quota = self.config.stranger_letters_max_bytes;
            archive_limits::apply_quota(session, &mut batch.letters, quota).await?;
            for letters in rounds(batch.letters) {
                keep(session, &letters).await?;
            }
            acknowledger.ack_through(batch.ack_through).await?;
            *archived += count;
        }
        Ok(())
    }
}

/// Dead letters that are kept by one transaction.
struct Batch {
    letters: Vec<DeadLetter>,
    ack_through: u64,
}

/// What has come already, or comes within moments. Each is read at once, which cuts what is too
/// large: what the broker gave up by itself may have any size.
async fn gather(
    consumer: &mut Consumer,
    first: Delivery,
    now: chrono::DateTime<chrono::Utc>,
    worker_user: Option<&str>,
) -> Result<Batch, crate::broker::error::Error> {
    let end = Instant::now() + LINGER;
    let mut ack_through = first.tag;
    let first = read(first.message, now, worker_user);
    let mut bytes = first.message.body.len();
    let mut letters = vec![first];
    while letters.len() < usize::from(ARCHIVE_PREFETCH) && bytes < ARCHIVE_BATCH_BYTES_MAX {
        let Ok(next) = timeout_at(end, consumer.next()).await else { break };
        let next = next?;
        let letter = read(next.message, now, worker_user);
        ack_through = next.tag;
        bytes += letter.message.body.len();
        letters.push(letter);
    }
    Ok(Batch { letters, ack_through })
}

/// The dead letters in their order, cut such that none comes twice in a round: a letter that died twice has the
/// place of its first death.
fn rounds(letters: Vec<DeadLetter>) -> Vec<Vec<DeadLetter>> {
    let mut rounds: Vec<Vec<DeadLetter>> = Vec::new();
    let mut came: HashMap<Uuid, usize> = HashMap::new();
    for letter in letters {
        let round = came.entry(letter.id).and_modify(|round| *round += 1).or_default();
        match rounds.get_mut(*round) {
            Some(round) => round.push(letter),
            None => rounds.push(vec![letter]),
        }
    }
    rounds
}

/// Commits the dead letters. One that the database refuses does not stop the others: as much of it is kept as
/// the database accepts. If the database refuses a row without any content of the letter, the fault is the
/// database's.
async fn keep(session: &mut Session, letters: &[DeadLetter]) -> Result<(), GenerationError> {
    match add(session, letters).await {
        Err(StoreError::Refused(_)) => {}
        other => return Ok(other?),
    }
    for letter in letters {
        keep_what_is_taken(session, letter).await?;
    }
    Ok(())
}

async fn keep_what_is_taken(session: &mut Session, letter: &DeadLetter) -> Result<(), StoreError> {
    let id = letter.id;
    let mut stored = letter.clone();
    for (extent, kept) in [
        (Extent::Stripped, "without its headers"),
        (Extent::BodyAlone, "as a body alone"),
        (Extent::HashAlone, "without its body"),
    ] {
        match add(session, std::slice::from_ref(&stored)).await {
            Err(StoreError::Refused(why)) => {
                tracing::warn!(dead_letter.id = %id, "the database refuses a dead letter; it is stored {kept}: {why}");
            }
            other => return other,
        }
        stored = archive::reduce(letter, extent);
    }
    tracing::error!(dead_letter.id = %id, "the body of a dead letter is lost: the database refuses it");
    add(session, &[stored]).await
}

async fn add(session: &mut Session, letters: &[DeadLetter]) -> Result<(), StoreError> {
    session::bounded(session.timeout(), async {
        archive::add(session.connection().await?, letters).await
    })
    .await
}

fn read(
    message: Message,
    now: chrono::DateTime<chrono::Utc>,
    worker_user: Option<&str>,
) -> DeadLetter {
    let lane_prefix = &topology::lane_queue("");
    let delivery = Uuid::now_v7();
    dead_letter::read(message, Reading { lane_prefix, now, delivery, worker_user })
}
