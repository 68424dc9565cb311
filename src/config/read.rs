//! Reading the settings: a pure function of the file's text and the environment.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use url::Url;

use crate::config::console::{self, Console};
use crate::config::error::Error;
use crate::config::hosts::{each_host, lacks_a_host};
use crate::config::lanes;
use crate::config::memory;
use crate::config::values::{self, Given, Problem, integer, nearest, problem, string};
use crate::config::{Config, Lane, LogFormat, MAIN_LANE, SecretUrl};

const PREFIX: &str = "PARTNER_PROGRAM_";
const ENVIRONMENT: &str = "environment";
/// Where batch and prefetch end: RabbitMQ's quorum queues slow down from 2,000 on.
const PREFETCH_MAX: u16 = 1_999;
/// The default of `memory_budget_bytes`.
const MEMORY_BUDGET_BYTES: usize = 2 << 30;

/// A setting's names.
struct Key {
    /// In the file.
    name: &'static str,
    /// In the environment, behind [`PREFIX`].
    variable: &'static str,
    /// What others call it in the environment, too; the prefixed one wins.
    customary: Option<&'static str>,
    /// Whether it may be given as a file that holds the value (`…_FILE`).
    secret: bool,
}

const fn key(name: &'static str, variable: &'static str) -> Key {
    Key { name, variable, customary: None, secret: false }
}

const KEYS: [Key; 26] = [
    Key { customary: Some("DATABASE_URL"), secret: true, ..key("database_url", "DATABASE_URL") },
    Key { customary: Some("AMQP_URL"), secret: true, ..key("amqp_url", "AMQP_URL") },
    Key { secret: true, ..key("management_url", "MANAGEMENT_URL") },
    key("worker_id", "WORKER_ID"),
    key("batch_size", "BATCH_SIZE"),
    key("batch_items", "BATCH_ITEMS"),
    key("linger_ms", "LINGER_MS"),
    key("memory_budget_bytes", "MEMORY_BUDGET_BYTES"),
    key("prefetch", "PREFETCH"),
    key("connections_per_lane", "CONNECTIONS_PER_LANE"),
    key("shutdown_deadline_ms", "SHUTDOWN_DEADLINE_MS"),
    key("database_timeout_ms", "DATABASE_TIMEOUT_MS"),
    key("confirm_timeout_ms", "CONFIRM_TIMEOUT_MS"),
    key("attempts_limit", "ATTEMPTS_LIMIT"),
    key("outage_grace_ms", "OUTAGE_GRACE_MS"),
    key("retention_days", "RETENTION_DAYS"),
    key("archive_dead_letters", "ARCHIVE_DEAD_LETTERS"),
    key("stranger_letters_max_bytes", "STRANGER_LETTERS_MAX_BYTES"),
    key("dead_letters_max_bytes", "DEAD_LETTERS_MAX_BYTES"),
    key("dead_letter_retention_days", "DEAD_LETTER_RETENTION_DAYS"),
    Key { customary: Some("RUST_LOG"), ..key("log", "LOG") },
    key("log_format", "LOG_FORMAT"),
    key("lane", "LANES"),
    key("publishers", "PUBLISHERS"),
    key("ops_listen", "OPS_LISTEN"),
    key("console", "CONSOLE"),
];

impl Config {
    /// Reads a file, given by name and text, and the environment. `read_secret` reads the files
    /// that `…_FILE` variables name. `worker_id` stays empty where it is not set.
    pub(super) fn read(
        file: Option<(&str, &str)>,
        env: &BTreeMap<String, String>,
        read_secret: &dyn Fn(&Path) -> io::Result<String>,
    ) -> Result<Self, Error> {
        let mut config = Self::unset();
        if let Some((origin, text)) = file {
            for (name, value) in table(origin, text)? {
                let Some(key) = KEYS.iter().find(|key| key.name == name) else {
                    let nearest = nearest(&name, KEYS.iter().map(|key| key.name.to_owned()));
                    return Err(Error::UnknownKey { key: name, origin: origin.into(), nearest });
                };
                set(&mut config, key, Given::Toml(value)).map_err(|p| p.at(&name, origin))?;
            }
        }
        refuse_unknown_variables(env)?;
        for key in &KEYS {
            let own = format!("{PREFIX}{}", key.variable);
            for variable in key.customary.into_iter().chain([own.as_str()]) {
                let given = variable_text(env, variable, key.secret, read_secret);
                if let Some(text) = given.map_err(|p| p.at(variable, ENVIRONMENT))? {
                    set(&mut config, key, Given::Text(text))
                        .map_err(|p| p.at(variable, ENVIRONMENT))?;
                }
            }
        }
        config.finish()
    }

    /// The defaults; 0 in `prefetch` stands for "not set" until [`finish`](Self::finish).
    fn unset() -> Self {
        Self {
            database_url: None,
            amqp_url: None,
            management_url: None,
            worker_id: String::new(),
            batch_size: 512,
            batch_items: 4_096,
            linger_ms: 0,
            memory_budget_bytes: MEMORY_BUDGET_BYTES,
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
            publishers: BTreeMap::new(),
            ops_listen: Some(console::LISTEN),
            console: Console::default(),
        }
    }

    /// Fills in what depends on other keys.
    fn finish(mut self) -> Result<Self, Error> {
        let batch = u16::try_from(self.batch_size).unwrap_or(PREFETCH_MAX);
        if !self.lanes.iter().any(|lane| lane.name == MAIN_LANE) {
            self.lanes.insert(0, Lane::new(MAIN_LANE.to_owned(), Vec::new()));
        }
        if self.prefetch == 0 {
            let within_budget = memory::deliveries(self.memory_budget_bytes, self.lanes.len());
            // A batch that can't fill is not looked at ahead: those behind it have to be there, too.
            self.batch_size = self.batch_size.min(within_budget.div_ceil(4));
            let within_budget = u16::try_from(within_budget).unwrap_or(PREFETCH_MAX);
            self.prefetch = batch.saturating_mul(4).min(PREFETCH_MAX).min(within_budget);
        } else if self.prefetch < batch {
            return Err(Error::Value {
                name: "prefetch".to_owned(),
                origin: "with `batch_size`".to_owned(),
                problem: format!("{} is less than the batch of {batch}", self.prefetch),
                remedy: format!("write {batch} to {PREFETCH_MAX}, or a smaller batch"),
            });
        }
        if let Some(address) = self.ops_listen
            && !address.ip().is_loopback()
            && !self.console.asks_who()
        {
            return Err(Error::Value {
                name: "ops_listen".to_owned(),
                origin: "without `console`".to_owned(),
                problem: format!(
                    "{address} is reachable from other machines, and the console has no log-in"
                ),
                remedy: "add a [[console.token]] (partner-program console token makes one) or a \
                         [console.proxy], or write 127.0.0.1:8080"
                    .to_owned(),
            });
        }
        Ok(self)
    }
}

/// Refuses what no lane may be bound by; `name` is how it was given on the command line.
pub(super) fn check_pattern(pattern: &str, name: &str) -> Result<(), Error> {
    lanes::check_pattern(pattern).map_err(|problem| problem.at(name, "the command line"))
}

impl Problem {
    fn at(self, name: &str, origin: &str) -> Error {
        let Self { problem, remedy } = self;
        Error::Value { name: name.to_owned(), origin: origin.to_owned(), problem, remedy }
    }
}

fn table(origin: &str, text: &str) -> Result<toml::Table, Error> {
    // The parser's own rendering quotes the line, which may hold a password.
    text.parse::<toml::Table>().map_err(|error| Error::Syntax {
        origin: origin.to_owned(),
        line: error.span().map_or(1, |span| {
            text.get(..span.start).map_or(1, |before| before.matches('\n').count() + 1)
        }),
        problem: error.message().to_owned(),
    })
}

fn refuse_unknown_variables(env: &BTreeMap<String, String>) -> Result<(), Error> {
    let known = || {
        KEYS.iter().flat_map(|key| {
            let file = key.secret.then(|| format!("{PREFIX}{}_FILE", key.variable));
            [format!("{PREFIX}{}", key.variable)].into_iter().chain(file)
        })
    };
    for variable in env.keys() {
        let Some(rest) = variable.strip_prefix(PREFIX) else {
            continue;
        };
        if rest == "CONFIG" || rest.starts_with("TEST_") || known().any(|name| name == *variable) {
            continue;
        }
        return Err(Error::UnknownKey {
            key: variable.clone(),
            origin: "the environment".to_owned(),
            nearest: nearest(variable, known()),
        });
    }
    Ok(())
}

/// The variable's value, or the content of the file that `…_FILE` names; an empty one counts as
/// not set.
fn variable_text(
    env: &BTreeMap<String, String>,
    variable: &str,
    secret: bool,
    read_secret: &dyn Fn(&Path) -> io::Result<String>,
) -> Result<Option<String>, Problem> {
    let set = |name: &str| env.get(name).filter(|text| !text.is_empty()).cloned();
    let file = format!("{variable}_FILE");
    match (set(variable), secret.then(|| set(&file)).flatten()) {
        (Some(_), Some(_)) => problem(format!("{file} is set as well"), "unset one of the two"),
        (Some(text), None) => Ok(Some(text)),
        (None, Some(path)) => match read_secret(Path::new(&path)) {
            Ok(text) => Ok(Some(text.trim_end().to_owned())),
            Err(error) => problem(
                format!("{file} names {path}, which can't be read: {error}"),
                "name a file that this user may read",
            ),
        },
        (None, None) => Ok(None),
    }
}

fn set(config: &mut Config, key: &Key, given: Given) -> Result<(), Problem> {
    match key.name {
        "database_url" => {
            let example = "write postgres://user:password@host:5432/database, \
                           or several hosts as in @one:5432,two:5432/";
            config.database_url = Some(url(given, &["postgres", "postgresql"], example)?);
        }
        "amqp_url" => {
            let example = "write amqp://user:password@host:5672/%2f, \
                           or several hosts as in @one:5672,two:5672/";
            config.amqp_url = Some(url(given, &["amqp", "amqps"], example)?);
        }
        "management_url" => {
            let example = "write http://host:15672, with user:password@ if not those of amqp_url";
            config.management_url = Some(url(given, &["http", "https"], example)?);
        }
        "worker_id" => config.worker_id = values::worker_id(given)?,
        "batch_size" => config.batch_size = integer(given, 1..=i64::from(PREFETCH_MAX))?,
        "batch_items" => config.batch_items = integer(given, 1..=100_000)?,
        "linger_ms" => config.linger_ms = integer(given, 0..=1_000)?,
        "memory_budget_bytes" => {
            config.memory_budget_bytes = integer(given, 134_217_728..=1_099_511_627_776)?;
        }
        "prefetch" => config.prefetch = integer(given, 1..=i64::from(PREFETCH_MAX))?,
        "connections_per_lane" => config.connections_per_lane = integer(given, 1..=16)?,
        "shutdown_deadline_ms" => config.shutdown_deadline_ms = integer(given, 0..=600_000)?,
        "database_timeout_ms" => config.database_timeout_ms = integer(given, 500..=600_000)?,
        "confirm_timeout_ms" => config.confirm_timeout_ms = integer(given, 500..=600_000)?,
        "attempts_limit" => config.attempts_limit = integer(given, 1..=50)?,
        "outage_grace_ms" => config.outage_grace_ms = integer(given, 1_000..=1_500_000)?,
        "retention_days" => config.retention_days = integer(given, 1..=3_650)?,
        "archive_dead_letters" => config.archive_dead_letters = values::boolean(given)?,
        "stranger_letters_max_bytes" => {
            config.stranger_letters_max_bytes = integer(given, 0..=1_099_511_627_776)?;
        }
        "dead_letters_max_bytes" => {
            config.dead_letters_max_bytes = integer(given, 1_000_000..=1_099_511_627_776)?;
        }
        "dead_letter_retention_days" => {
            config.dead_letter_retention_days = integer(given, 1..=3_650)?;
        }
        "log" => config.log = string(given)?,
        "log_format" => config.log_format = log_format(given)?,
        "lane" => config.lanes = lanes::lanes(given)?,
        "publishers" => config.publishers = lanes::publishers(given)?,
        "ops_listen" => config.ops_listen = console::listen(given)?,
        "console" => config.console = console::console(given)?,
        other => return problem(format!("nothing reads `{other}`"), "leave it out"),
    }
    Ok(())
}

fn url(given: Given, schemes: &[&str], example: &str) -> Result<SecretUrl, Problem> {
    let text = string(given)?.trim().to_owned();
    if lacks_a_host(&text) {
        return problem("lacks a host before or behind a comma", example);
    }
    for host in each_host(&text) {
        match Url::parse(&host) {
            Ok(url) if schemes.contains(&url.scheme()) => {}
            Ok(url) => {
                return problem(format!("is an address of scheme `{}`", url.scheme()), example);
            }
            Err(error) => return problem(format!("is not an address: {error}"), example),
        }
    }
    Ok(SecretUrl(text))
}

fn log_format(given: Given) -> Result<LogFormat, Problem> {
    match string(given)?.as_str() {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        other => problem(format!("`{other}` is no log format"), "write \"text\" or \"json\""),
    }
}
