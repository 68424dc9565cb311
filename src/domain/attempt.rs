//! How a failed try at commands counts: whether a command is blamed for it, and when a lane waits
//! for its servers instead (`src/ARCHITECTURE.md#attempts`).
//!
//! A command becomes a dead letter only for failures that are its own. A failure is a command's own
//! if the command ran alone in the process and the canary, which runs the same statements for an org
//! that no publisher can address, passed right after it. Deliberately absent: IO and clocks.

/// How a try ended, other than by taking effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The database refused the data: SQLSTATE class 21, 22, 23, 54 or P0.
    DataRefused,
    /// The processing panicked, or took longer than its bound.
    Panicked,
    /// The database refused the statement: SQLSTATE class 42. A missing table or right, mostly, but
    /// also what a trigger or a function raises for some rows. Or a row that was loaded holds a word that
    /// this program does not know.
    StatementRefused,
    /// Everything that a server does by itself: SQLSTATE class 08, 25, 40, 53, 55, 57 or 58, a
    /// time-out, a lost connection, a newer owner of the lane, a shutdown.
    Unavailable,
    /// The process died during the try. Its next owner learns of it from what the try recorded
    /// before it began.
    ProcessDied,
}

/// How many commands took part in the try, and what else ran in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    /// One command, while no executor of any lane ran another.
    Alone,
    /// Several commands, or one beside those of other executors.
    Shared,
}

/// How the canary went right after the try. It is asked for only where it decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// The same statements work for another org.
    Passed,
    /// They do not: the fault is the database's.
    Failed,
}

/// What follows from a failed try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consequence {
    /// An attempt of the command counts.
    Count,
    /// No attempt counts; the commands are tried in smaller parts, in the end each one alone.
    Split,
    /// No attempt counts; the lane waits and tries again.
    Wait,
}

impl FailureKind {
    /// Whether the canary decides about the failure. Where it does not, it is not run.
    #[must_use]
    pub const fn wants_canary(self, company: Company) -> bool {
        match (self, company) {
            (Self::DataRefused | Self::Panicked, Company::Alone) | (Self::StatementRefused, _) => {
                true
            }
            (Self::DataRefused | Self::Panicked, Company::Shared)
            | (Self::Unavailable | Self::ProcessDied, _) => false,
        }
    }

    /// What follows from the failure. `persists`: the canary has passed right after each try for
    /// longer than `outage_grace_ms`, so that a refused statement is the command's own fault.
    #[must_use]
    pub const fn consequence(
        self,
        company: Company,
        canary: Canary,
        persists: bool,
    ) -> Consequence {
        match (self, company, canary) {
            (Self::DataRefused | Self::Panicked, Company::Alone, Canary::Passed)
            | (Self::ProcessDied, Company::Alone, _) => Consequence::Count,
            (Self::StatementRefused, Company::Alone, Canary::Passed) if persists => {
                Consequence::Count
            }
            (Self::DataRefused | Self::Panicked | Self::ProcessDied, Company::Shared, _)
            | (Self::StatementRefused, Company::Shared, Canary::Passed) => Consequence::Split,
            (Self::DataRefused | Self::Panicked, Company::Alone, Canary::Failed)
            | (Self::StatementRefused | Self::Unavailable, _, _) => Consequence::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Canary::{Failed, Passed};
    use super::Company::{Alone, Shared};
    use super::Consequence::{Count, Split, Wait};
    use super::FailureKind::{DataRefused, Panicked, ProcessDied, StatementRefused, Unavailable};

    /// Cell by cell the table in `src/ARCHITECTURE.md#attempts`.
    #[test]
    fn an_attempt_counts_as_the_table_says() {
        for (failure, company, canary, persists, expected) in [
            (DataRefused, Alone, Passed, false, Count),
            (DataRefused, Alone, Failed, false, Wait),
            (DataRefused, Shared, Passed, false, Split),
            (DataRefused, Shared, Failed, false, Split),
            (DataRefused, Alone, Failed, true, Wait),
            (Panicked, Alone, Passed, false, Count),
            (Panicked, Alone, Failed, false, Wait),
            (Panicked, Alone, Failed, true, Wait),
            (Panicked, Shared, Passed, false, Split),
            (Panicked, Shared, Failed, false, Split),
            (StatementRefused, Alone, Passed, false, Wait),
            (StatementRefused, Alone, Passed, true, Count),
            (StatementRefused, Alone, Failed, false, Wait),
            (StatementRefused, Alone, Failed, true, Wait),
            (StatementRefused, Shared, Passed, false, Split),
            (StatementRefused, Shared, Passed, true, Split),
            (StatementRefused, Shared, Failed, false, Wait),
            (StatementRefused, Shared, Failed, true, Wait),
            (Unavailable, Alone, Passed, false, Wait),
            (Unavailable, Alone, Passed, true, Wait),
            (Unavailable, Alone, Failed, true, Wait),
            (Unavailable, Shared, Passed, true, Wait),
            (Unavailable, Shared, Failed, false, Wait),
            (ProcessDied, Alone, Passed, false, Count),
            (ProcessDied, Alone, Failed, false, Count),
            (ProcessDied, Shared, Passed, false, Split),
            (ProcessDied, Shared, Failed, true, Split),
        ] {
            let consequence = failure.consequence(company, canary, persists);
            assert_eq!(consequence, expected, "{failure:?} {company:?} {canary:?} {persists}");
        }
    }

    /// A canary that is not run must not matter.
    #[test]
    fn the_canary_is_asked_for_wherever_it_decides() {
        for failure in [DataRefused, Panicked, StatementRefused, Unavailable, ProcessDied] {
            for company in [Alone, Shared] {
                let decides = [false, true].iter().any(|persists| {
                    failure.consequence(company, Passed, *persists)
                        != failure.consequence(company, Failed, *persists)
                });
                assert_eq!(failure.wants_canary(company), decides, "{failure:?} {company:?}");
            }
        }
    }
}
