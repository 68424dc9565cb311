//! A lane works generation after generation, until the worker stops.
//!
//! A generation is one set of connections and channels. Any fault ends it whole; the next one
//! waits for the database first, because each closed channel counts against the broker's
//! delivery limit for everything it held.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::retry::Backoff;
use crate::worker::counters::Counters;
use crate::worker::drain;
use crate::worker::error::Error;
use crate::worker::health::State;
use crate::worker::lane::context::Lane;
use crate::worker::lane::error::GenerationError;

/// The first and the longest pause between generations.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// The pauses after generations that subscribed and made no progress. They grow long, because
/// each closed channel counts against the broker's delivery limit for everything it held.
const PAUSE_WITHOUT_PROGRESS: (Duration, Duration) =
    (Duration::from_secs(1), Duration::from_mins(5));
/// A generation that lived this long ended by something new: an idle one makes no progress.
const LONG_LIVED: Duration = Duration::from_mins(10);
impl Lane {
    /// Works until `shutdown`, then drains. It ends earlier only if the database may lose what it has
    /// committed, or if its schema needs a newer program.
    pub(crate) async fn run(&self, shutdown: CancellationToken) -> Result<(), Error> {
        let mut pause = Backoff::new(PAUSE.0, PAUSE.1);
        let mut longer_pause = Backoff::new(PAUSE_WITHOUT_PROGRESS.0, PAUSE_WITHOUT_PROGRESS.1);
        while !shutdown.is_cancelled() {
            let subscribed = Counters::get(&self.counters.subscribed);
            let acked_batches = Counters::get(&self.counters.acked_batches);
            let began = Instant::now();
            let ended = tokio::select! {
                ended = self.generation(&shutdown) => ended,
                () = drain::stalled(&shutdown, &self.counters) => {
                    self.counters.in_flight.clear();
                    tracing::warn!(
                        lane = self.name,
                        "lane {} makes no progress while it stops; it is aborted, and its unacked commands are redelivered",
                        self.name
                    );
                    break;
                }
            };
            let Err(fault) = ended else { break };
            self.unpublished.keep(&fault);
            if matches!(fault, GenerationError::NotDurable) {
                return Err(Error::NotDurable(fault.to_string()));
            }
            if matches!(fault, GenerationError::ProgramTooOld(_)) {
                return Err(Error::ProgramTooOld(fault.to_string()));
            }
            let has_subscribed = Counters::get(&self.counters.subscribed) > subscribed;
            let made_progress = Counters::get(&self.counters.acked_batches) > acked_batches;
            if made_progress || began.elapsed() > LONG_LIVED {
                pause.reset();
                longer_pause.reset();
            }
            let pause =
                if has_subscribed && !made_progress { &mut longer_pause } else { &mut pause };
            let delay = pause.next_delay();
            self.note(&fault, delay);
            tokio::select! {
                () = self.counters.health.turn_during(tokio::time::sleep(delay)) => {}
                () = shutdown.cancelled() => {}
            }
        }
        self.report("lane stopped");
        Ok(())
    }

    /// Logs why a generation ended and when the next one begins.
    fn note(&self, fault: &GenerationError, delay: Duration) {
        let (lane, delay) = (&self.name, delay.as_secs_f64());
        self.counters.health.enter(State::Connecting);
        self.counters.health.fail(fault);
        if matches!(fault, GenerationError::TaskStopped { .. }) {
            Counters::add(&self.counters.task_restarts, 1);
            tracing::error!(lane, "lane `{lane}` reconnects in {delay:.1} s: {fault}");
        } else {
            tracing::warn!(lane, "lane `{lane}` reconnects in {delay:.1} s: {fault}");
        }
    }

    /// Logs the counts of the lane since the worker's start.
    pub(crate) fn report(&self, what: &str) {
        let Counters {
            applied,
            duplicates,
            rejected,
            parked,
            repeated_batches,
            unroutable_results,
            ..
        } = &*self.counters;
        tracing::info!(
            lane = self.name,
            applied = Counters::get(applied),
            duplicates = Counters::get(duplicates),
            rejected = Counters::get(rejected),
            parked = Counters::get(parked),
            repeated_batches = Counters::get(repeated_batches),
            unroutable_results = Counters::get(unroutable_results),
            "{what}: {}",
            self.name
        );
    }
}
