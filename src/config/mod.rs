//! The settings: one TOML file, every key also by environment, read once at the start.
//!
//! The environment wins over the file, the file over the defaults. A key that is not known is an
//! error, because a misspelt setting that is silently ignored shows itself only under load.
//! Deliberately absent: reloading, and any use of a setting. Lanes are plain data here; whether
//! their patterns overlap is for `broker::topology` to say.

pub mod console;
pub mod error;
pub mod hosts;
mod lanes;
pub mod memory;
mod read;
#[cfg(test)]
mod tests;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

use crate::config::console::Console;
use crate::config::error::Error;
use crate::config::hosts::each_host;

/// The lane that takes whatever no other lane is bound to; it always exists.
pub const MAIN_LANE: &str = "main";

/// The least time that a broker from 4.3 on leaves deliveries unacked.
const UNACKED_MIN: Duration = Duration::from_hours(2);

/// Everything that can be set. The fields are called like their keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where Postgres is; `None` until a command needs it, see [`Config::database_url`].
    pub database_url: Option<SecretUrl>,
    /// Where RabbitMQ is; `None` until a command needs it, see [`Config::amqp_url`].
    pub amqp_url: Option<SecretUrl>,
    /// RabbitMQ's management API, which alone tells of bindings that are not the worker's own. Optional.
    pub management_url: Option<SecretUrl>,
    /// Who holds a lane, as the fence and the logs name it. Default: host name and process id.
    pub worker_id: String,
    /// Most commands in one transaction; a quarter of the prefetch that `memory_budget_bytes` allows for,
    /// at most.
    pub batch_size: usize,
    /// Most program items in one transaction; a command may hold 2,500.
    pub batch_items: usize,
    /// How long a batch that is not full waits for more, in milliseconds, even if it could be settled
    /// at once.
    pub linger_ms: u64,
    /// How much memory the worker may take, in bytes, if every command is as large as the contract
    /// allows; the prefetch follows from it.
    pub memory_budget_bytes: usize,
    /// Most unacknowledged deliveries of a lane. Default: what `memory_budget_bytes` allows for, at
    /// most four batches and 1,999.
    pub prefetch: u16,
    /// Connections to the database that store a lane's batches, each a part of them; from two on
    /// one more looks ahead.
    pub connections_per_lane: usize,
    /// How long a drain may take after the first signal, in milliseconds.
    pub shutdown_deadline_ms: u64,
    /// How long a batch's work may take in the database before the connection is given up, in
    /// milliseconds; statements are bounded by it on the server, too.
    pub database_timeout_ms: u64,
    /// How long the broker may take to confirm a batch's results before the connection is given
    /// up, in milliseconds; a broker that says that it takes no writes is given more.
    pub confirm_timeout_ms: u64,
    /// How often a command that fails alone is tried before it is a dead letter.
    pub attempts_limit: i32,
    /// How long a lane holds deliveries through an outage before it closes its channel, in
    /// milliseconds; below the broker's acknowledgement timeout of 30 minutes.
    pub outage_grace_ms: u64,
    /// How long command ids and their results are kept, in days.
    pub retention_days: i32,
    /// Whether workers move the dead letters from their queue into the database, where they can be
    /// found, replayed and discarded.
    pub archive_dead_letters: bool,
    /// How many bytes the archived letters of a user that may not publish here, and of a reason, take
    /// before further ones are kept in part.
    pub stranger_letters_max_bytes: i64,
    /// How many bytes all archived dead letters take before further ones stay in their queue.
    pub dead_letters_max_bytes: i64,
    /// How long dead letters are kept once they are settled, in days.
    pub dead_letter_retention_days: i32,
    /// What is logged, in the syntax of `RUST_LOG`.
    pub log: String,
    /// How log lines look.
    pub log_format: LogFormat,
    /// The lanes, each one ordered log; `main` is always among them.
    pub lanes: Vec<Lane>,
    /// Which authenticated user may publish for which orgs. Empty: every user for every org.
    pub publishers: Publishers,
    /// Where the console, the health checks and the metrics are; `None`: nowhere.
    pub ops_listen: Option<SocketAddr>,
    /// Who may use the console.
    pub console: Console,
}

/// A lane and the routing keys that it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Lower-case letters, digits and hyphens, at most 40.
    pub name: String,
    /// Topic patterns such as `acme.*` or `acme.*.7`.
    pub bindings: Vec<String>,
    /// What becomes of a customer's later commands once one is dead-lettered. Default: `skip`.
    pub after_dead_letter: AfterDeadLetter,
    /// Most commands that are parked behind dead letters; those beyond it are dead-lettered
    /// themselves, each at its place. Default: 10,000.
    pub parked_max: usize,
    /// The message priority of the lane's commands; those without any count as 4. Default: 4.
    pub priority: u8,
    /// What becomes of a command with another priority, if the broker reorders by it. Default: `refuse`.
    pub other_priority: OtherPriority,
}

/// What becomes of a command whose priority moves it in its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherPriority {
    /// It becomes a dead letter, which a replay puts in its place.
    Refuse,
    /// It takes effect where the broker delivers it, and a log line and a metric say so.
    Warn,
}

/// What becomes of a customer's later commands once one of them is a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterDeadLetter {
    /// They are applied.
    Skip,
    /// They are parked until the letter is replayed or discarded.
    HoldCustomer,
}

impl Lane {
    /// The lane with every other setting at its default.
    #[must_use]
    pub fn new(name: String, bindings: Vec<String>) -> Self {
        Self {
            name,
            bindings,
            after_dead_letter: AfterDeadLetter::Skip,
            parked_max: 10_000,
            priority: 4,
            other_priority: OtherPriority::Refuse,
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// Reads the file at `path`, or the one that `PARTNER_PROGRAM_CONFIG` names, or none, and
    /// then the environment.
    pub fn load(
        path: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        let env: BTreeMap<String, String> = env.into_iter().collect();
        let named = env.get("PARTNER_PROGRAM_CONFIG").filter(|name| !name.is_empty());
        let path = path.map(Path::to_path_buf).or_else(|| named.map(PathBuf::from));
        let file = match path {
            None => None,
            Some(path) => {
                let text = std::fs::read_to_string(&path)
                    .map_err(|source| Error::File { path: path.clone(), source })?;
                Some((path.display().to_string(), text))
            }
        };
        let mut config = Self::read(
            file.as_ref().map(|(name, text)| (name.as_str(), text.as_str())),
            &env,
            &|path| std::fs::read_to_string(path),
        )?;
        if config.worker_id.is_empty() {
            config.worker_id = format!("{}-{}", host_name(&env), std::process::id());
        }
        Ok(config)
    }

    /// The database's address, or an error that says how to set it.
    pub fn database_url(&self) -> Result<&str, Error> {
        self.database_url.as_ref().map(SecretUrl::expose).ok_or(Error::Missing {
            key: "database_url",
            remedy: "set DATABASE_URL=postgres://user:password@host:5432/database",
        })
    }

    /// The broker's address, or an error that says how to set it.
    pub fn amqp_url(&self) -> Result<&str, Error> {
        self.amqp_url.as_ref().map(SecretUrl::expose).ok_or(Error::Missing {
            key: "amqp_url",
            remedy: "set AMQP_URL=amqp://user:password@host:5672/%2f",
        })
    }

    /// The setting `database_timeout_ms`.
    #[must_use]
    pub const fn database_timeout(&self) -> Duration {
        Duration::from_millis(self.database_timeout_ms)
    }

    /// How long a delivery may stay unacked before the broker takes it away: no lane holds one for as
    /// long. Those of a whole prefetch, which is four batches by default, may wait for each other, and
    /// each batch for `outage_grace_ms`.
    #[must_use]
    pub fn unacked_max(&self) -> Duration {
        UNACKED_MIN.max(12 * Duration::from_millis(self.outage_grace_ms))
    }

    /// The setting `confirm_timeout_ms`.
    #[must_use]
    pub const fn confirm_timeout(&self) -> Duration {
        Duration::from_millis(self.confirm_timeout_ms)
    }

    /// The user that the broker knows this program by: `guest` by default, and not known where a certificate
    /// names it.
    #[must_use]
    pub fn amqp_user(&self) -> Option<String> {
        let urls = hosts::each_host(self.amqp_url().ok()?);
        let url = url::Url::parse(urls.first()?).ok()?;
        if url.query_pairs().any(|(name, value)| name == "auth_mechanism" && value == "external") {
            return None;
        }
        let name = percent_encoding::percent_decode_str(url.username()).decode_utf8().ok()?;
        Some(if name.is_empty() { "guest".to_owned() } else { name.into_owned() })
    }

    /// The user that workers publish dead letters as, where it matters who publishes: letters of others do
    /// not say who published a command.
    #[must_use]
    pub fn letter_user(&self) -> Option<String> {
        self.amqp_user().filter(|_| !self.publishers.is_empty())
    }

    /// Whether the user, as the broker authenticated it, may publish for the org.
    #[must_use]
    pub fn may_publish(&self, user_id: Option<&str>, org_code: &str) -> bool {
        may_publish(&self.publishers, user_id, org_code)
    }
}

/// Which users may publish for which orgs; empty: each user for each org.
pub type Publishers = BTreeMap<String, BTreeSet<String>>;

/// Whether the user, as the broker authenticated it, may publish for the org.
#[must_use]
pub fn may_publish(publishers: &Publishers, user_id: Option<&str>, org_code: &str) -> bool {
    publishers.is_empty()
        || user_id.and_then(|user| publishers.get(user)).is_some_and(|orgs| orgs.contains(org_code))
}

/// Refuses a topic pattern that no lane may be bound by; `name` is how it was given on the command line.
pub fn check_pattern(pattern: &str, name: &str) -> Result<(), Error> {
    read::check_pattern(pattern, name)
}

fn host_name(env: &BTreeMap<String, String>) -> String {
    let from_kernel = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    env.get("HOSTNAME")
        .cloned()
        .or_else(from_kernel)
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "worker".to_owned())
}

/// An address that may hold a password; shown without it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// The address as it was given, for connecting only.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Result<Vec<Url>, _> = each_host(&self.0).iter().map(|url| url.parse()).collect();
        let Some((url, further)) = urls.as_deref().ok().and_then(<[Url]>::split_first) else {
            return f.write_str("(not shown)");
        };
        // The query may hold a password, too, so it is left out as a whole.
        write!(f, "{}://", url.scheme())?;
        if !url.username().is_empty() {
            write!(f, "{}@", url.username())?;
        }
        for (url, separator) in std::iter::once((url, "")).chain(further.iter().map(|u| (u, ","))) {
            write!(f, "{separator}{}", url.host_str().unwrap_or_default())?;
            if let Some(port) = url.port() {
                write!(f, ":{port}")?;
            }
        }
        f.write_str(url.path())
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretUrl({self})")
    }
}
