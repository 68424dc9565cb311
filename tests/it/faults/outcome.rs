//! What came of a trial.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::checker::{Check, Violation};

/// See the module.
pub(crate) struct Outcome {
    pub(crate) commands: usize,
    pub(crate) redeliveries: u64,
    /// Results that were published again: each a command that came again and had no second effect.
    pub(crate) suppressed: usize,
    pub(crate) longest_stall: Duration,
    pub(crate) violations: Vec<Violation>,
}

impl Outcome {
    /// The checks that caught something.
    pub(crate) fn broken(&self) -> BTreeSet<Check> {
        self.violations.iter().map(|violation| violation.check).collect()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.violations.iter().try_for_each(|violation| writeln!(f, "    {violation}"))
    }
}
