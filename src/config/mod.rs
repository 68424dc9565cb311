//! The settings: one TOML file, every key also by environment, read once at the start.
//!
//! The environment wins over the file, the file over the defaults. A key that is not known is an
//! error, because a misspelt setting that is silently ignored shows itself only under load.
//! Deliberately absent: reloading, and any use of a setting. Lanes are plain data here; whether
//! their patterns overlap is for `broker::topology` to say.

pub mod console;
pub mod error;
pub mod hosts;
pub mod lane;
pub mod memory;
mod read;
pub mod secret_url;
#[cfg(test)]
mod tests;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::config::console::Console;
use crate::config::error::Error;
use crate::config::lane::Lane;
use crate::config::secret_url::SecretUrl;
use crate::config::values::whole;

/// Where batch and prefetch end: RabbitMQ's quorum queues slow down from 2,000 on.
const PREFETCH_MAX: u16 = 1_999;

/// The least time that a broker from 4.3 on leaves deliveries unacked.
const UNACKED_MIN: Duration = Duration::from_hours(2);

/// Everything that can be set. The fields are called like their keys.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where Postgres is; `None` until a command needs it, see [`Config::database_url`].
    #[serde(deserialize_with = "secret_url::database")]
    pub database_url: Option<SecretUrl>,
    /// Where RabbitMQ is; `None` until a command needs it, see [`Config::amqp_url`].
    #[serde(deserialize_with = "secret_url::amqp")]
    pub amqp_url: Option<SecretUrl>,
    /// RabbitMQ's management API, which alone tells of bindings that are not the worker's own. Optional.
    #[serde(deserialize_with = "secret_url::management")]
    pub management_url: Option<SecretUrl>,
    /// Who holds a lane, as the fence and the logs name it. Default: host name and process id.
    #[serde(deserialize_with = "values::name")]
    pub worker_id: String,
    /// Most commands in one transaction; a quarter of the prefetch that `memory_budget_bytes` allows for,
    /// at most.
    #[serde(deserialize_with = "whole::<1, 1_999, _, _>")]
    pub batch_size: usize,
    /// Most program items in one transaction; a command may hold 2,500.
    #[serde(deserialize_with = "whole::<1, 100_000, _, _>")]
    pub batch_items: usize,
    /// How long a batch that is not full waits for more, in milliseconds, even if it could be settled
    /// at once.
    #[serde(deserialize_with = "whole::<0, 1_000, _, _>")]
    pub linger_ms: u64,
    /// How much memory the worker may take, in bytes, if every command is as large as the contract
    /// allows; the prefetch follows from it.
    #[serde(deserialize_with = "whole::<134_217_728, 1_099_511_627_776, _, _>")]
    pub memory_budget_bytes: usize,
    /// Most unacknowledged deliveries of a lane; 0 until it is known. Default: what `memory_budget_bytes` allows for, at
    /// most four batches and 1,999.
    #[serde(deserialize_with = "whole::<1, 1_999, _, _>")]
    pub prefetch: u16,
    /// Connections to the database that store a lane's batches, each a part of them; from two on
    /// one more looks ahead.
    #[serde(deserialize_with = "whole::<1, 16, _, _>")]
    pub connections_per_lane: usize,
    /// How long a drain may take after the first signal, in milliseconds.
    #[serde(deserialize_with = "whole::<0, 600_000, _, _>")]
    pub shutdown_deadline_ms: u64,
    /// How long a batch's work may take in the database before the connection is given up, in
    /// milliseconds; statements are bounded by it on the server, too.
    #[serde(deserialize_with = "whole::<500, 600_000, _, _>")]
    pub database_timeout_ms: u64,
    /// How long the broker may take to confirm a batch's results before the connection is given
    /// up, in milliseconds; a broker that says that it takes no writes is given more.
    #[serde(deserialize_with = "whole::<500, 600_000, _, _>")]
    pub confirm_timeout_ms: u64,
    /// How often a command that fails alone is tried before it is a dead letter.
    #[serde(deserialize_with = "whole::<1, 50, _, _>")]
    pub attempts_limit: i32,
    /// How long a lane holds deliveries through an outage before it closes its channel, in
    /// milliseconds; below the broker's acknowledgement timeout of 30 minutes.
    #[serde(deserialize_with = "whole::<1_000, 1_500_000, _, _>")]
    pub outage_grace_ms: u64,
    /// How long command ids and their results are kept, in days.
    #[serde(deserialize_with = "whole::<1, 3_650, _, _>")]
    pub retention_days: i32,
    /// Whether workers move the dead letters from their queue into the database, where they can be
    /// found, replayed and discarded.
    #[serde(deserialize_with = "values::flag")]
    pub archive_dead_letters: bool,
    /// How many bytes the archived letters of a user that may not publish here, and of a reason, take
    /// before further ones are kept in part.
    #[serde(deserialize_with = "whole::<0, 1_099_511_627_776, _, _>")]
    pub stranger_letters_max_bytes: i64,
    /// How many bytes all archived dead letters take before further ones stay in their queue.
    #[serde(deserialize_with = "whole::<1_000_000, 1_099_511_627_776, _, _>")]
    pub dead_letters_max_bytes: i64,
    /// How long dead letters are kept once they are settled, in days.
    #[serde(deserialize_with = "whole::<1, 3_650, _, _>")]
    pub dead_letter_retention_days: i32,
    /// What is logged, in the syntax of `RUST_LOG`.
    pub log: String,
    /// How log lines look.
    pub log_format: LogFormat,
    /// The lanes, each one ordered log; `main` is always among them.
    #[serde(rename = "lane")]
    pub lanes: Vec<Lane>,
    /// Which authenticated user may publish for which orgs. Empty: every user for every org.
    pub publishers: Publishers,
    /// Where the console, the health checks and the metrics are; `None`: nowhere.
    #[serde(deserialize_with = "console::listen")]
    pub ops_listen: Option<SocketAddr>,
    /// Who may use the console.
    pub console: Console,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Config {
    /// What is not set; `prefetch` follows from other keys.
    fn default() -> Self {
        Self {
            database_url: None,
            amqp_url: None,
            management_url: None,
            worker_id: String::new(),
            batch_size: 512,
            batch_items: 4_096,
            linger_ms: 0,
            memory_budget_bytes: 2 << 30,
            prefetch: 0,
            connections_per_lane: 2,
            shutdown_deadline_ms: 25_000,
            database_timeout_ms: 30_000,
            confirm_timeout_ms: 30_000,
            attempts_limit: 5,
            outage_grace_ms: 600_000,
            retention_days: 30,
            archive_dead_letters: true,
            stranger_letters_max_bytes: 16_777_216,
            dead_letters_max_bytes: 10_737_418_240,
            dead_letter_retention_days: 90,
            log: "info".to_owned(),
            log_format: LogFormat::Text,
            lanes: Vec::new(),
            publishers: Publishers::new(),
            ops_listen: Some(console::LISTEN),
            console: Console::default(),
        }
    }
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
    lane::check_pattern(pattern).map_err(|problem| Error::Value {
        name: name.to_owned(),
        origin: "the command line".to_owned(),
        problem,
    })
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
