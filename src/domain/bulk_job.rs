//! A bulk job: one action on all dead letters that a filter selects.

/// What a bulk job does with each dead letter.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr, strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum BulkJobKind {
    /// Publishes its command again.
    Replay,
    /// Marks it as not to be replayed.
    Discard,
    /// Opens it again.
    Restore,
    /// Writes it out whole.
    Export,
}

impl BulkJobKind {
    /// The word in tables and output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Whether a bulk job runs, and how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum BulkJobState {
    /// It runs, or waits for a runner.
    Running,
    /// It has processed all dead letters.
    Done,
    /// An operator cancelled it.
    Cancelled,
    /// It can't continue.
    Failed,
}

impl BulkJobState {
    /// The word in tables and output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}
