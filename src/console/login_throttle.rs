//! How often an address may fail to log in.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Wrong tokens that an address may try within a [`WINDOW`].
const FAILURES_MAX: u32 = 10;
/// How long failures count.
const WINDOW: Duration = Duration::from_mins(1);
/// Addresses that are remembered; beyond it all are treated as one.
const ADDRESSES_MAX: usize = 10_000;

/// Failed attempts by address.
#[derive(Default)]
pub(super) struct Attempts(Mutex<HashMap<Option<IpAddr>, Failures>>);

#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    since: Instant,
}

impl Attempts {
    /// Whether the address has to wait, and for how long.
    pub(super) fn wait(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |key| failures.get(&key).filter(|failures| failures.count >= FAILURES_MAX);
        let failures = of(Some(address)).or_else(|| of(None))?;
        WINDOW.checked_sub(now.duration_since(failures.since)).filter(|left| !left.is_zero())
    }

    /// Notes a wrong token.
    pub(super) fn failed(&self, address: IpAddr, now: Instant) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, failures| now.duration_since(failures.since) < WINDOW);
        let is_known = all.contains_key(&Some(address));
        let key = (is_known || all.len() < ADDRESSES_MAX).then_some(address);
        all.entry(key).or_insert(Failures { count: 0, since: now }).count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_fails_too_often_waits_and_others_do_not() {
        let attempts = Attempts::default();
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let now = Instant::now();
        for _ in 0..FAILURES_MAX {
            assert_eq!(attempts.wait(one, now), None);
            attempts.failed(one, now);
        }
        assert_eq!(attempts.wait(one, now), Some(WINDOW));
        assert_eq!(attempts.wait(other, now), None);
        assert_eq!(attempts.wait(one, now + WINDOW), None);
    }
}
