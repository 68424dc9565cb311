//! Waiting between tries: exponential, with jitter, for as long as it takes.
//!
//! This is the only user of the crate `backoff`, so that it can be exchanged in one place.
//! Deliberately absent: giving up. An outage ends when an operator ends it, and each caller also
//! watches for the shutdown.

use std::time::Duration;

use backoff::backoff::Backoff as _;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};

/// The share of a delay by which jitter lengthens or shortens it.
const JITTER: f64 = 0.5;

/// Delays that double, with jitter, up to a bound.
#[derive(Debug)]
pub struct Backoff {
    delays: ExponentialBackoff,
    max: Duration,
}

impl Backoff {
    /// The first delay is about `initial`; none is longer than `max`.
    #[must_use]
    pub fn new(initial: Duration, max: Duration) -> Self {
        // The bound holds after the jitter; capping there instead would let every worker that
        // waits at the bound come back at the same moment.
        let bound = max.div_f64(1.0 + JITTER);
        let delays = ExponentialBackoffBuilder::new()
            .with_initial_interval(initial.min(bound))
            .with_max_interval(bound)
            .with_randomization_factor(JITTER)
            .with_multiplier(2.0)
            .with_max_elapsed_time(None)
            .build();
        Self { delays, max }
    }

    /// How long to wait before the next try.
    pub fn next_delay(&mut self) -> Duration {
        self.delays.next_backoff().unwrap_or(self.max).min(self.max)
    }

    /// Begins anew, after a try that went well.
    pub fn reset(&mut self) {
        self.delays.reset();
    }

    /// Waits for the next delay. Cancel-safe.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.next_delay()).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::{prop_assert, proptest};

    use super::Backoff;

    proptest! {
        #[test]
        fn delays_grow_with_jitter_within_the_bound_and_never_end(
            initial_ms in 1_u64..1_000, max_ms in 1_u64..60_000, tries in 1_usize..200,
        ) {
            let max = Duration::from_millis(max_ms);
            let initial = Duration::from_millis(initial_ms);
            let mut backoff = Backoff::new(initial, max);
            let first = backoff.next_delay();
            prop_assert!(first <= initial.mul_f64(1.5) + Duration::from_millis(1));
            for _ in 0..tries {
                prop_assert!(backoff.next_delay() <= max);
            }
            backoff.reset();
            prop_assert!(backoff.next_delay() <= initial.mul_f64(1.5) + Duration::from_millis(1));
        }
    }

    #[test]
    fn the_bound_is_approached() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(3));
        let last = (0..30).map(|_| backoff.next_delay()).last().unwrap();
        assert!(last >= Duration::from_millis(900), "{last:?}");
    }
}
