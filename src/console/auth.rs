//! Who asks, and what they may do.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use axum::extract::{ConnectInfo, FromRef, FromRequestParts};
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, COOKIE};
use axum::http::request::Parts;

use crate::config::console::{Console, Role};
use crate::console::app::{App, Held};
use crate::console::error::Failure;
use crate::console::token;
use crate::domain::actor::Actor;

/// The session's cookie.
pub(super) const SESSION_COOKIE: &str = "partner_program_session";
/// The name of a user who did not have to log in.
const NOBODY_ASKED: &str = "local";

/// Somebody who may look, at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) address: IpAddr,
    /// Whether a log-out would change anything.
    pub(super) has_session: bool,
}

impl Identity {
    /// Whether the role suffices.
    pub(super) fn may(&self, role: Role) -> bool {
        self.role >= role
    }

    /// Refuses those whose role does not suffice, and says what it takes.
    pub(super) fn must_be(&self, role: Role) -> Result<(), Failure> {
        if self.may(role) {
            return Ok(());
        }
        Err(Failure::Forbidden(format!(
            "This takes the role {}; {} is {}.",
            role.as_str(),
            self.name,
            self.role.as_str()
        )))
    }

    /// For the audit.
    pub(super) fn actor(&self, reason: &str) -> Actor {
        Actor {
            name: self.name.clone(),
            reason: reason.trim().to_owned(),
            source: format!("console {}", self.address),
        }
    }
}

impl<S> FromRequestParts<S> for Identity
where
    Held: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Held(app) = Held::from_ref(state);
        let Some(ConnectInfo(peer)) = parts.extensions.get::<ConnectInfo<SocketAddr>>() else {
            return Err(Failure::Broken("a request without an address".into()));
        };
        let address = peer.ip().to_canonical();
        identify(&app, &parts.headers, address)?
            .ok_or_else(|| Failure::Unknown { back: path_and_query(parts) })
    }
}

/// Where to go on after the log-in; only what was read can be read again.
fn path_and_query(parts: &Parts) -> String {
    let asked = parts.uri.path_and_query().map_or("/", |asked| asked.as_str());
    if parts.method.is_safe() { asked.to_owned() } else { "/".to_owned() }
}

fn identify(app: &App, headers: &HeaderMap, peer: IpAddr) -> Result<Option<Identity>, Failure> {
    let console = &app.config.console;
    let address = client(console, headers, peer);
    let identity = |name: String, role, has_session| Identity { name, role, address, has_session };
    if !console.asks_who() {
        return Ok(Some(identity(NOBODY_ASKED.to_owned(), Role::Operator, false)));
    }
    if let Some((name, role)) = of_proxy(console, headers, peer) {
        return Ok(Some(identity(name, role, false)));
    }
    if let Some(given) = bearer(headers) {
        if let Some(wait) = app.attempts.wait(peer, Instant::now()) {
            return Err(Failure::TooManyAttempts(wait));
        }
        let known = of_token(console, given);
        if known.is_none() {
            app.attempts.failed(peer, Instant::now());
        }
        return Ok(known.map(|(name, role)| identity(name, role, false)));
    }
    let session = session_secret(headers).and_then(|secret| app.sessions.find(secret));
    Ok(session.map(|(name, role)| identity(name, role, true)))
}

/// Hashes are compared, so the time that it takes says nothing about a token.
pub(super) fn of_token(console: &Console, given: &str) -> Option<(String, Role)> {
    let hash = token::hash(given);
    let known = console.tokens.iter().find(|known| known.sha256 == hash)?;
    Some((known.name.clone(), known.role))
}

fn of_proxy(console: &Console, headers: &HeaderMap, address: IpAddr) -> Option<(String, Role)> {
    let proxy = console.proxy.as_ref().filter(|proxy| proxy.from.contains(&address))?;
    let mut given = headers.get_all(&proxy.header).iter();
    let name = given.next()?.to_str().ok()?.trim();
    // Two of them: one may be the client's own.
    if given.next().is_some() || name.is_empty() || name.len() > 100 {
        return None;
    }
    let role = proxy.roles.get(name).copied().or(proxy.role)?;
    Some((name.to_owned(), role))
}

/// The address of a request: as the proxy says, if it is one that is believed. What a client may
/// have put there itself stands before what the proxy adds.
fn client(console: &Console, headers: &HeaderMap, peer: IpAddr) -> IpAddr {
    if !console.proxy.as_ref().is_some_and(|proxy| proxy.from.contains(&peer)) {
        return peer;
    }
    let last = headers.get_all("x-forwarded-for").iter().next_back();
    last.and_then(|addresses| addresses.to_str().ok()?.rsplit(',').next()?.trim().parse().ok())
        .unwrap_or(peer)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// The session's secret, as the cookie has it.
pub(super) fn session_secret(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|cookies| cookies.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find_map(|(name, value)| (name == SESSION_COOKIE).then_some(value))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::config::console::Proxy;

    #[test]
    fn only_a_proxy_says_from_where_somebody_asks() {
        let proxy = IpAddr::from([10, 0, 0, 5]);
        let console = Console {
            proxy: Some(Proxy {
                header: "x-user".to_owned(),
                from: BTreeSet::from([proxy]),
                role: None,
                roles: BTreeMap::new(),
            }),
            ..Console::default()
        };
        let mut headers = HeaderMap::new();
        assert_eq!(client(&console, &headers, proxy), proxy);
        headers.append("x-forwarded-for", "6.6.6.6".parse().unwrap());
        headers.append("x-forwarded-for", "6.6.6.6, 192.0.2.7".parse().unwrap());
        let client_of = |peer| client(&console, &headers, peer);
        assert_eq!(client_of(proxy), IpAddr::from([192, 0, 2, 7]));
        let stranger = IpAddr::from([10, 0, 0, 6]);
        assert_eq!(client_of(stranger), stranger);
    }
}
