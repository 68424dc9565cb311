//! What only RabbitMQ's management API tells: which bindings there are.
//!
//! Optional, and never on the way of a command. Each request is bounded in time and in size.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, Utc};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Deserialize;
use url::Url;

use crate::broker::error::Error;
use crate::broker::topology::{COMMANDS, COMMANDS_UNBOUND, DEAD_LETTERS, ROUTING, Topology};
use crate::config::hosts::each_host;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Some ten thousand bindings.
const RESPONSE_BYTES_MAX: u64 = 4 << 20;

/// The management API of one broker, for one virtual host.
#[derive(Clone)]
pub struct Management {
    base: String,
    authorization: String,
    vhost: String,
}

/// A binding as the broker lists it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct ListedBinding {
    source: String,
    destination: String,
    routing_key: String,
}

/// How the bindings that route commands differ from those of the routing map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindingDifferences {
    /// Of the map, and not there.
    pub missing: Vec<String>,
    /// There, and not of the map: they may take commands from the lane `main`, or copy them.
    pub foreign: Vec<String>,
}

impl Management {
    /// The API at `management_url`, with its user or else that of `amqp_url`, whose virtual host is meant.
    pub fn new(management_url: &str, amqp_url: &str) -> Result<Self, Error> {
        let unreadable = |what: &str| Error::Refused(format!("{what} can't be read as an address"));
        let url = Url::parse(management_url).map_err(|_| unreadable("management_url"))?;
        let first = each_host(amqp_url).into_iter().next().unwrap_or_default();
        let amqp = Url::parse(&first).map_err(|_| unreadable("amqp_url"))?;
        let from = if url.username().is_empty() { &amqp } else { &url };
        let (user, password) = match (from.username(), from.password()) {
            ("", _) => ("guest".to_owned(), "guest".to_owned()),
            (user, password) => (decoded(user), decoded(password.unwrap_or_default())),
        };
        let vhost = match amqp.path().trim_start_matches('/') {
            "" => "%2F".to_owned(),
            vhost => encoded(&decoded(vhost)),
        };
        let host = url.host_str().ok_or_else(|| unreadable("management_url"))?;
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let path = url.path().trim_end_matches('/');
        Ok(Self {
            base: format!("{}://{host}{port}{path}/api", url.scheme()),
            authorization: format!("Basic {}", BASE64.encode(format!("{user}:{password}"))),
            vhost,
        })
    }

    /// Compares the bindings of the exchanges that route commands and dead letters with the topology.
    pub async fn compare_bindings(&self, topology: &Topology) -> Result<BindingDifferences, Error> {
        let expected: Vec<ListedBinding> = topology
            .binding_names()
            .map(|[source, destination, routing_key]| ListedBinding {
                source,
                destination,
                routing_key,
            })
            .collect();
        let mut listed = Vec::new();
        for exchange in [COMMANDS, ROUTING, COMMANDS_UNBOUND, DEAD_LETTERS] {
            listed.extend(self.bindings(exchange).await?);
        }
        let text = |binding: &&ListedBinding| {
            let ListedBinding { source, destination, routing_key } = binding;
            format!("`{routing_key}` from exchange `{source}` to `{destination}`")
        };
        let is_public =
            |binding: &&ListedBinding| [COMMANDS, DEAD_LETTERS].contains(&&*binding.source);
        let missing = expected.iter().filter(|binding| !listed.contains(binding));
        let foreign =
            listed.iter().filter(|binding| !is_public(binding) && !expected.contains(binding));
        Ok(BindingDifferences {
            missing: missing.map(|binding| text(&binding)).collect(),
            foreign: foreign.map(|binding| text(&binding)).collect(),
        })
    }

    async fn bindings(&self, exchange: &str) -> Result<Vec<ListedBinding>, Error> {
        let path = format!("exchanges/{}/{}/bindings/source", self.vhost, encoded(exchange));
        let (body, _date) = self.get(path).await?;
        serde_json::from_slice(&body).map_err(|error| {
            Error::Outage(format!("the management API answers otherwise: {error}"))
        })
    }

    /// The broker's clock, to the second.
    pub async fn date(&self) -> Result<DateTime<Utc>, Error> {
        let (_body, date) = self.get("whoami".to_owned()).await?;
        date.ok_or_else(|| Error::Outage("the management API tells no date".into()))
    }

    async fn get(&self, path: String) -> Result<(Vec<u8>, Option<DateTime<Utc>>), Error> {
        let (url, authorization) = (format!("{}/{path}", self.base), self.authorization.clone());
        let getting = tokio::task::spawn_blocking(move || {
            let agent = ureq::Agent::new_with_config(
                ureq::Agent::config_builder()
                    .timeout_global(Some(REQUEST_TIMEOUT))
                    .proxy(None)
                    .build(),
            );
            let mut answer = agent.get(&url).header("authorization", authorization).call()?;
            let date = answer.headers().get("date").and_then(|date| date.to_str().ok());
            let date = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok());
            let body = answer.body_mut().with_config().limit(RESPONSE_BYTES_MAX).read_to_vec()?;
            Ok((body, date.map(|date| date.to_utc())))
        });
        match getting.await {
            Ok(Ok(got)) => Ok(got),
            Ok(Err(ureq::Error::StatusCode(status @ (401 | 403)))) => Err(Error::Refused(format!(
                "the management API refuses the user with status {status} (it needs the tag `monitoring` \
                 or `management`)"
            ))),
            Ok(Err(error)) => Err(Error::Outage(format!("the management API: {error}"))),
            Err(panic) => Err(Error::Outage(format!("the management API: {panic}"))),
        }
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// As one segment of a path.
fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_virtual_host_are_those_of_the_addresses() {
        for (management, amqp, base, vhost, user) in [
            ("http://b:15672", "amqp://u:p%40@b/a%2Fb", "http://b:15672/api", "a%2Fb", "u:p@"),
            ("https://m:s@b/rabbit/", "amqp://u:p@b", "https://b/rabbit/api", "%2F", "m:s"),
            (
                "http://[::1]:15672",
                "amqp://b/x%20y",
                "http://[::1]:15672/api",
                "x%20y",
                "guest:guest",
            ),
        ] {
            let made = Management::new(management, amqp).unwrap();
            let authorization = format!("Basic {}", BASE64.encode(user));
            assert_eq!((made.base.as_str(), made.vhost.as_str()), (base, vhost));
            assert_eq!(made.authorization, authorization);
        }
    }
}
