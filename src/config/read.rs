//! Reading the settings: a pure function of the file's text and the environment.

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::path::Path;

use serde_aux::serde_introspection::serde_introspect;
use toml::{Table, Value};

use crate::config::error::Error;
use crate::config::lane::{self, Lane, MAIN_LANE};
use crate::config::memory;
use crate::config::values;
use crate::config::{Config, PREFETCH_MAX};

const ENVIRONMENT: &str = "environment";
const PREFIX: &str = "PARTNER_PROGRAM_";
/// What others call a key in the environment; the prefixed variable wins.
const CUSTOMARY: [(&str, &str); 3] =
    [("database_url", "DATABASE_URL"), ("amqp_url", "AMQP_URL"), ("log", "RUST_LOG")];
/// The keys whose value may be in a file that a variable `…_FILE` names.
const SECRETS: [&str; 3] = ["database_url", "amqp_url", "management_url"];

/// What is set, by key.
#[derive(Default)]
struct Settings {
    values: Table,
    /// What each key is called where its value comes from, and where that is: for messages.
    sources: BTreeMap<String, (String, String)>,
}

impl Config {
    /// Reads a file, given by name and text, and the environment. `read_secret` reads the files
    /// that `…_FILE` variables name. `worker_id` stays empty where it is not set.
    pub(super) fn read(
        file: Option<(&str, &str)>,
        env: &BTreeMap<String, String>,
        read_secret: &dyn Fn(&Path) -> io::Result<String>,
    ) -> Result<Self, Error> {
        let mut settings = Settings::default();
        if let Some((origin, text)) = file {
            settings.add_file(origin, text)?;
        }
        settings.add_environment(env, read_secret)?;
        let values = Value::Table(mem::take(&mut settings.values));
        let config: Self = serde_path_to_error::deserialize(values).map_err(|error| {
            settings.error(&error.path().to_string(), problem(error.inner().message()))
        })?;
        config.complete().map_err(|(key, problem)| settings.error(key, problem))
    }

    /// Checks what depends on other keys, and fills it in; an error has its key.
    fn complete(mut self) -> Result<Self, (&'static str, String)> {
        lane::check(&self.lanes).map_err(|problem| ("lane", problem))?;
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
            let problem = format!(
                "{} is less than the batch of {batch} (batch_size); write {batch} to \
                 {PREFETCH_MAX}, or a smaller batch",
                self.prefetch
            );
            return Err(("prefetch", problem));
        }
        match self.ops_listen {
            Some(address) if !address.ip().is_loopback() && !self.console.asks_who() => {
                let problem = format!(
                    "{address} is reachable from other machines, and the console has no log-in; \
                     add a [[console.token]] (partner-program console token makes one) or a \
                     [console.proxy], or write 127.0.0.1:8080"
                );
                Err(("ops_listen", problem))
            }
            Some(_) | None => Ok(self),
        }
    }
}

impl Settings {
    fn add_file(&mut self, origin: &str, text: &str) -> Result<(), Error> {
        // The parser's own rendering quotes the line, which may hold a password.
        let table = text.parse::<Table>().map_err(|error| Error::Syntax {
            origin: origin.to_owned(),
            line: error.span().map_or(1, |span| {
                text.get(..span.start).map_or(1, |before| before.matches('\n').count() + 1)
            }),
            problem: error.message().to_owned(),
        })?;
        for (key, value) in table {
            self.set(&key, value, &key, origin);
        }
        Ok(())
    }

    fn add_environment(
        &mut self,
        env: &BTreeMap<String, String>,
        read_secret: &dyn Fn(&Path) -> io::Result<String>,
    ) -> Result<(), Error> {
        refuse_unknown_variables(env)?;
        for key in keys() {
            let customary = CUSTOMARY.iter().filter(|(of, _)| of == key);
            let customary = customary.map(|(_, variable)| (*variable).to_owned());
            for variable in customary.chain([own_variable(key)]) {
                let error = |problem| Error::Value {
                    name: variable.clone(),
                    origin: ENVIRONMENT.to_owned(),
                    problem,
                };
                let text = variable_text(env, &variable, SECRETS.contains(key), read_secret);
                if let Some(text) = text.map_err(error)? {
                    let value = values::of_variable(key, text).map_err(error)?;
                    self.set(key, value, &variable, ENVIRONMENT);
                }
            }
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: Value, name: &str, origin: &str) {
        self.values.insert(key.to_owned(), value);
        self.sources.insert(key.to_owned(), (name.to_owned(), origin.to_owned()));
    }

    /// The path begins with a key.
    fn error(&self, path: &str, problem: String) -> Error {
        let key = path.split(['.', '[']).next().unwrap_or(path);
        let unset = (key.to_owned(), "not set".to_owned());
        let (name, origin) = self.sources.get(key).cloned().unwrap_or(unset);
        Error::Value { name: path.replacen(key, &name, 1), origin, problem }
    }
}

/// All keys at the top of the file.
fn keys() -> &'static [&'static str] {
    serde_introspect::<Config>()
}

fn own_variable(key: &str) -> String {
    let name = if key == "lane" { "LANES".to_owned() } else { key.to_ascii_uppercase() };
    format!("{PREFIX}{name}")
}

fn refuse_unknown_variables(env: &BTreeMap<String, String>) -> Result<(), Error> {
    let files = SECRETS.iter().map(|key| format!("{}_FILE", own_variable(key)));
    let known: Vec<String> = keys().iter().map(|key| own_variable(key)).chain(files).collect();
    let is_unknown = |variable: &&String| {
        variable.strip_prefix(PREFIX).is_some_and(|rest| {
            rest != "CONFIG" && !rest.starts_with("TEST_") && !known.contains(variable)
        })
    };
    match env.keys().find(is_unknown) {
        None => Ok(()),
        Some(variable) => Err(Error::Value {
            name: variable.clone(),
            origin: ENVIRONMENT.to_owned(),
            problem: unknown("variable", variable, known.iter().map(String::as_str)),
        }),
    }
}

fn unknown<'a>(what: &str, given: &str, known: impl Iterator<Item = &'a str>) -> String {
    let nearest = known.min_by_key(|candidate| strsim::levenshtein(given, candidate));
    format!("unknown {what}; did you mean `{}`?", nearest.unwrap_or_default())
}

/// The variable's value, or the content of the file that `…_FILE` names; an empty one counts as
/// not set.
fn variable_text(
    env: &BTreeMap<String, String>,
    variable: &str,
    is_secret: bool,
    read_secret: &dyn Fn(&Path) -> io::Result<String>,
) -> Result<Option<String>, String> {
    let set = |name: &str| env.get(name).filter(|text| !text.is_empty()).cloned();
    let file = format!("{variable}_FILE");
    match (set(variable), set(&file).filter(|_| is_secret)) {
        (Some(_), Some(_)) => Err(format!("{file} is set as well; unset one of the two")),
        (text, None) => Ok(text),
        (None, Some(path)) => match read_secret(Path::new(&path)) {
            Ok(text) => Ok(Some(text.trim_end().to_owned())),
            Err(error) => Err(format!(
                "{file} names {path}, which can't be read: {error}; name a file that this user may \
                 read"
            )),
        },
    }
}

/// What serde says, as problem and remedy. A value of another type is not quoted: it may be a secret in
/// the wrong place.
fn problem(message: &str) -> String {
    if let Some(field) = message.strip_prefix("missing field ") {
        return format!("lacks {field}; add it");
    }
    let Some((given, expected)) = message.rsplit_once(", expected ") else {
        return message.to_owned();
    };
    if let Some(given) = given.strip_prefix("invalid type: ") {
        let given = given.split(['`', '"']).next().unwrap_or_default().trim_end();
        let words = format!("is of type {given}; write {expected}");
        words.replace("sequence", "list").replace("map", "table")
    } else if let Some(key) = given.strip_prefix("unknown field ") {
        unknown("key", key, expected.split('`').skip(1).step_by(2))
    } else if let Some(given) = given.strip_prefix("unknown variant ") {
        format!("{given} can't be taken; write {expected}")
    } else {
        message.to_owned()
    }
}
