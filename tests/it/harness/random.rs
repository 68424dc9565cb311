//! Random choices that a seed repeats.

use chrono::Utc;

/// Sets the seed, to see a failed run again.
const SEED_VARIABLE: &str = "PARTNER_PROGRAM_TEST_SEED";

/// Splitmix64: small, and good enough to choose test cases.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    /// True in `percent` of a hundred cases.
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }
}

/// The seed given by the environment, or a new one; either way it is shown if the test fails.
pub(crate) fn seed() -> u64 {
    let seed = match std::env::var(SEED_VARIABLE) {
        Ok(given) => given.parse().expect("the seed is a whole number"),
        Err(_) => Utc::now().timestamp_micros().unsigned_abs(),
    };
    eprintln!("to see this run again: {SEED_VARIABLE}={seed}");
    seed
}
