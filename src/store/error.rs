//! What can go wrong with the database, by what the caller does about it.

use std::time::Duration;

/// A fault of the database. Texts hold SQLSTATEs, names of constraints and words of closed lists, never values
/// of people.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is unavailable, failing over, read-only or out of resources: drop the connection, try later.
    #[error("{0}")]
    Outage(String),
    /// A table, a column, a function or a right is missing (SQLSTATE class 42), for all statements
    /// of the kind or for some rows, or a row of theirs has a word that this program does not know: a human
    /// mends it, and the canary tells which.
    #[error("{0}")]
    Statement(String),
    /// Another transaction has changed what this was based on: load and evaluate again.
    #[error("{0}")]
    Conflict(String),
    /// The database will not take this, now or later.
    #[error("{0}")]
    Refused(String),
    /// Another worker has acquired the lane, or a change of the routing map holds it.
    #[error(
        "another worker has acquired lane `{lane}` since epoch {epoch}, or a change of the routing map holds it"
    )]
    Fenced {
        /// The lane.
        lane: String,
        /// The epoch that is over.
        epoch: i64,
    },
}

/// Constraints that two workers can run into although each alone is right.
const CONTENDED_CONSTRAINTS: [&str; 2] = ["command_log", "enrolment"];

impl Error {
    /// No answer came within a bound.
    pub(crate) fn timeout(what: &str, after: Duration) -> Self {
        Self::Outage(format!("{what}: no answer within {after:?}"))
    }

    pub(super) fn version_conflict() -> Self {
        Self::Conflict("an enrolment has changed since it was loaded".into())
    }
}

/// Says that a column holds a word that this program does not know, and what to do.
pub(super) fn unknown_word(column: &str, word: &str) -> String {
    format!(
        "{column} holds `{word}`, which this program does not know: run the release that wrote it, or correct the row"
    )
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let sqlx::Error::Database(database) = &error else {
            // The texts of some may quote a value.
            return match &error {
                // The only one that what is to be stored brings about.
                sqlx::Error::Encode(_) => Self::Refused("a parameter can't be converted".into()),
                sqlx::Error::RowNotFound => {
                    Self::Outage("a row is missing that is always there".into())
                }
                sqlx::Error::ColumnDecode { index, .. } => {
                    Self::Outage(format!("column {index} can't be read"))
                }
                sqlx::Error::Decode(_) => Self::Outage("a value can't be read".into()),
                _ => Self::Outage(error.to_string()),
            };
        };
        let code = database.code().unwrap_or_default().into_owned();
        let table = database.table().unwrap_or_default();
        classify(&code, table, database.constraint())
    }
}

/// By SQLSTATE, into what `domain::attempt` decides on.
fn classify(code: &str, table: &str, constraint: Option<&str>) -> Error {
    let name = constraint.unwrap_or_default();
    let text = format!("SQLSTATE {code}, table `{table}`, constraint `{name}`");
    match code {
        // serialization_failure, deadlock_detected
        "40001" | "40P01" => Error::Conflict(text),
        // unique_violation: of partitions the table is named with its bounds behind it
        "23505" if CONTENDED_CONSTRAINTS.iter().any(|name| table.starts_with(name)) => {
            Error::Conflict(text)
        }
        // A check that has no name is the routing of a row that no partition takes.
        "23514" if constraint.is_none() => Error::Outage(format!(
            "{text}: no partition for today, which `partner-program run` makes when it starts"
        )),
        // cardinality, data exceptions, integrity, program limits, `raise`
        code if ["21", "22", "23", "54", "P0"].iter().any(|class| code.starts_with(class)) => {
            Error::Refused(text)
        }
        code if code.starts_with("42") => Error::Statement(text),
        _ => Error::Outage(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_connection_is_an_outage() {
        let lost = sqlx::Error::Io(std::io::ErrorKind::BrokenPipe.into());
        assert!(matches!(Error::from(lost), Error::Outage(_)));
    }

    #[test]
    fn what_the_worker_reads_for_itself_is_no_fault_of_a_command() {
        let index = "ends_at".to_owned();
        for (error, is_outage) in [
            (sqlx::Error::RowNotFound, true),
            (sqlx::Error::ColumnDecode { index, source: "a secret".into() }, true),
            (sqlx::Error::Decode("a secret".into()), true),
            (sqlx::Error::TypeNotFound { type_name: "t".into() }, true),
            (sqlx::Error::ColumnNotFound("c".into()), true),
            (sqlx::Error::Encode("a secret".into()), false),
        ] {
            let read = Error::from(error);
            assert_eq!(matches!(read, Error::Outage(_)), is_outage, "{read:?}");
            assert!(!read.to_string().contains("secret"), "{read}");
        }
    }

    #[test]
    fn each_class_of_sqlstate_has_its_kind() {
        for (code, table, constraint, expected) in [
            ("40001", "", None, "conflict"),
            ("40P01", "", None, "conflict"),
            ("23505", "command_log_20261122", Some("command_log_20261122_pkey"), "conflict"),
            ("23505", "enrolment", Some("enrolment_membership_key"), "conflict"),
            ("23505", "customer", Some("customer_mobile_key"), "refused"),
            ("23514", "enrolment", Some("enrolment_version_check"), "refused"),
            ("23514", "command_log", None, "outage"),
            ("22021", "", None, "refused"),
            ("22P05", "", None, "refused"),
            ("0A000", "", None, "outage"),
            ("25006", "", None, "outage"),
            ("26000", "", None, "outage"),
            ("42501", "", None, "statement"),
            ("42P01", "", None, "statement"),
            ("53300", "", None, "outage"),
            ("55P03", "", None, "outage"),
            ("57014", "", None, "outage"),
            ("57P01", "", None, "outage"),
        ] {
            let kind = match classify(code, table, constraint) {
                Error::Outage(_) => "outage",
                Error::Statement(_) => "statement",
                Error::Conflict(_) => "conflict",
                Error::Refused(_) => "refused",
                Error::Fenced { .. } => "fenced",
            };
            assert_eq!(kind, expected, "{code} {constraint:?}");
        }
    }
}
