//! Who may use the web console, and from where.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use hex::FromHex;
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use url::Url;

use crate::config::values;

/// Where the console listens unless set otherwise: for this machine alone.
pub(super) const LISTEN: SocketAddr =
    SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

/// The settings below `[console]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table, [console] or its JSON")]
pub struct Console {
    /// The address that browsers use if a proxy is in front of the console. With it cookies
    /// are sent over TLS only, if it begins with `https`.
    #[serde(deserialize_with = "public_url")]
    pub public_url: Option<Url>,
    /// Who may log in.
    #[serde(rename = "token", deserialize_with = "tokens")]
    pub tokens: Vec<Token>,
    /// A proxy that authenticates users.
    pub proxy: Option<Proxy>,
}

/// What a user may do. Each role may also do what the one before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look, without personal data.
    Viewer,
    /// Replay, discard, restore, cancel.
    Operator,
    /// See personal data: unmask, edit, export; pause lanes.
    Admin,
}

/// A secret that a user logs in with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table, [[console.token]]")]
pub struct Token {
    /// Who; the audit names them.
    #[serde(deserialize_with = "values::name")]
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// SHA-256 of the token. A token is random (`partner-program console token`), so a slow hash
    /// would add nothing.
    #[serde(deserialize_with = "sha256")]
    pub sha256: [u8; 32],
}

/// A proxy that authenticates people and names them in a header.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table, [console.proxy]")]
pub struct Proxy {
    /// In lower case.
    #[serde(deserialize_with = "header")]
    pub header: String,
    /// Its addresses; from others the header means nothing.
    #[serde(deserialize_with = "addresses")]
    pub from: BTreeSet<IpAddr>,
    /// Of those who are not in `roles`; `None`: they are not let in.
    pub role: Option<Role>,
    /// By name.
    #[serde(default)]
    pub roles: BTreeMap<String, Role>,
}

impl Console {
    /// Whether users have to log in.
    #[must_use]
    pub fn asks_who(&self) -> bool {
        !self.tokens.is_empty() || self.proxy.is_some()
    }
}

impl Role {
    /// The roles, from the one that may least.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// The word in settings and pages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The inverse of [`as_str`](Self::as_str).
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }
}

/// `None` switches the console off.
pub(super) fn listen<'de, D: Deserializer<'de>>(given: D) -> Result<Option<SocketAddr>, D::Error> {
    let problem = "is no address with a port; write 127.0.0.1:8080, or \"off\"";
    values::text(given, problem, |text| match text.trim() {
        "" | "off" => Some(None),
        address => address.parse().ok().map(Some),
    })
}

fn public_url<'de, D: Deserializer<'de>>(given: D) -> Result<Option<Url>, D::Error> {
    let problem = "is no address of a site; write the scheme and the host alone: \
                   https://ops.example.com";
    values::text(given, problem, |text| {
        let is_site = |url: &Url| matches!(url.scheme(), "http" | "https") && url.path() == "/";
        Url::parse(text).ok().filter(is_site).map(Some)
    })
}

fn tokens<'de, D: Deserializer<'de>>(given: D) -> Result<Vec<Token>, D::Error> {
    let tokens = Vec::<Token>::deserialize(given)?;
    let mut hashes = BTreeSet::new();
    match tokens.iter().find(|token| !hashes.insert(token.sha256)) {
        None => Ok(tokens),
        Some(Token { name, .. }) => Err(D::Error::custom(format!(
            "`{name}` has the token of another name; make each their own: partner-program console \
             token"
        ))),
    }
}

fn sha256<'de, D: Deserializer<'de>>(given: D) -> Result<[u8; 32], D::Error> {
    let problem = "is no SHA-256; write 64 hexadecimal digits, as partner-program console token \
                   prints them";
    values::text(given, problem, |text| <[u8; 32]>::from_hex(text).ok())
}

fn header<'de, D: Deserializer<'de>>(given: D) -> Result<String, D::Error> {
    values::text(given, "is no header's name; write x-forwarded-user", |header| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let is_name = !header.is_empty() && header.chars().all(allowed);
        is_name.then(|| header.to_ascii_lowercase())
    })
}

fn addresses<'de, D: Deserializer<'de>>(given: D) -> Result<BTreeSet<IpAddr>, D::Error> {
    let addresses = Vec::<String>::deserialize(given)?;
    let parsed =
        addresses.iter().map(|address| address.parse().ok()).collect::<Option<BTreeSet<_>>>();
    parsed.filter(|addresses| !addresses.is_empty()).ok_or_else(|| {
        D::Error::custom("is no list of addresses; write the proxy's: from = [\"10.0.0.5\"]")
    })
}
