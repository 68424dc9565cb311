//! What can go wrong with the database, by what the caller does about it.

use std::time::Duration;

/// A fault of the database. Texts hold SQLSTATEs and names of constraints, never values.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is away, failing over, read-only or out of resources: drop the connection, try later.
    #[error("{0}")]
    Outage(String),
    /// Somebody else changed what this was based on: load and evaluate again.
    #[error("{0}")]
    Conflict(String),
    /// The database will not take this, now or later.
    #[error("{0}")]
    Refused(String),
    /// Another worker has taken the lane.
    #[error("another worker has taken the lane `{lane}` since epoch {epoch}")]
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
    pub(super) fn timeout(what: &str, after: Duration) -> Self {
        Self::Outage(format!("{what}: no answer within {after:?}"))
    }

    pub(super) fn version_conflict() -> Self {
        Self::Conflict("an enrolment has changed since it was loaded".into())
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let sqlx::Error::Database(database) = &error else {
            return match error {
                sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::Decode(_)
                | sqlx::Error::Encode(_)
                | sqlx::Error::RowNotFound
                | sqlx::Error::TypeNotFound { .. } => Self::Refused(error.to_string()),
                _ => Self::Outage(error.to_string()),
            };
        };
        let code = database.code().unwrap_or_default().into_owned();
        let table = database.table().unwrap_or_default();
        let constraint = database.constraint().unwrap_or_default();
        let text = format!("SQLSTATE {code}, table `{table}`, constraint `{constraint}`");
        match code.as_str() {
            // serialization_failure, deadlock_detected
            "40001" | "40P01" => Self::Conflict(text),
            // unique_violation: of partitions the table is named with its bounds behind it
            "23505" if CONTENDED_CONSTRAINTS.iter().any(|name| table.starts_with(name)) => {
                Self::Conflict(text)
            }
            // lock_not_available, query_canceled, read_only_sql_transaction, idle timeouts,
            // crash and admin shutdown, connection trouble, insufficient resources, IO errors
            "55P03" | "57014" | "25006" | "25P03" | "25P04" => Self::Outage(text),
            code if ["08", "53", "57", "58", "XX"].iter().any(|class| code.starts_with(class)) => {
                Self::Outage(text)
            }
            // invalid_password and invalid_authorization: a human mends it, and may do so any time
            code if code.starts_with("28") || code.starts_with("3D") => Self::Outage(text),
            _ => Self::Refused(text),
        }
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
}
