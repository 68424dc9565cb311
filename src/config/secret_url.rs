//! Addresses of servers, which may hold passwords.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error};
use url::Url;

use crate::config::hosts::{each_host, lacks_a_host};

/// An address that may hold a password; shown without it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

pub(super) fn database<'de, D: Deserializer<'de>>(given: D) -> Result<Option<SecretUrl>, D::Error> {
    let remedy = "write postgres://user:password@host:5432/database, or several hosts as in \
                  @one:5432,two:5432/";
    SecretUrl::deserialize(given, &["postgres", "postgresql"], remedy)
}

pub(super) fn amqp<'de, D: Deserializer<'de>>(given: D) -> Result<Option<SecretUrl>, D::Error> {
    let remedy = "write amqp://user:password@host:5672/%2f, or several hosts as in \
                  @one:5672,two:5672/";
    SecretUrl::deserialize(given, &["amqp", "amqps"], remedy)
}

pub(super) fn management<'de, D: Deserializer<'de>>(
    given: D,
) -> Result<Option<SecretUrl>, D::Error> {
    let remedy = "write http://host:15672, with user:password@ if not those of amqp_url";
    SecretUrl::deserialize(given, &["http", "https"], remedy)
}

impl SecretUrl {
    fn deserialize<'de, D: Deserializer<'de>>(
        given: D,
        schemes: &[&str],
        remedy: &str,
    ) -> Result<Option<Self>, D::Error> {
        let text = String::deserialize(given)?.trim().to_owned();
        let problem = if lacks_a_host(&text) {
            Some("lacks a host before or behind a comma".to_owned())
        } else {
            each_host(&text).iter().find_map(|host| match Url::parse(host) {
                Ok(url) if schemes.contains(&url.scheme()) => None,
                Ok(url) => Some(format!("is an address of scheme `{}`", url.scheme())),
                Err(error) => Some(format!("is not an address: {error}")),
            })
        };
        match problem {
            None => Ok(Some(Self(text))),
            Some(problem) => Err(D::Error::custom(format!("{problem}; {remedy}"))),
        }
    }

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
