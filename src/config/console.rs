//! Who may use the web console, and from where.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use toml::{Table, Value};
use url::Url;

use crate::config::values::{Given, Problem, nearest, problem, string, structured};

/// Where the console listens unless set otherwise: for this machine alone.
pub(super) const LISTEN: SocketAddr =
    SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

/// The settings below `[console]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Console {
    /// The address that browsers use if a proxy is in front of the console. With it cookies
    /// are sent over TLS only, if it begins with `https`.
    pub public_url: Option<Url>,
    /// Who may log in.
    pub tokens: Vec<Token>,
    /// A proxy that authenticates users.
    pub proxy: Option<Proxy>,
}

/// What a user may do. Each role may also do what the one before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look, without personal data.
    Viewer,
    /// Replay, discard, restore, cancel.
    Operator,
    /// See personal data: unmask, edit, export; pause lanes.
    Admin,
}

/// A secret that a user logs in with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Who; the audit names them.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// SHA-256 of the token. A token is random (`partner-program console token`), so a slow hash
    /// would add nothing.
    pub sha256: [u8; 32],
}

/// A proxy that authenticates people and names them in a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// In lower case.
    pub header: String,
    /// Its addresses; from others the header means nothing.
    pub from: BTreeSet<IpAddr>,
    /// Of those who are not in `roles`; `None`: they are not let in.
    pub role: Option<Role>,
    /// By name.
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
pub(super) fn listen(given: Given) -> Result<Option<SocketAddr>, Problem> {
    let text = string(given)?;
    match text.trim() {
        "" | "off" => Ok(None),
        address => match address.parse() {
            Ok(address) => Ok(Some(address)),
            Err(_) => problem(
                format!("`{address}` is no address with a port"),
                "write 127.0.0.1:8080, or \"off\"",
            ),
        },
    }
}

pub(super) fn console(given: Given) -> Result<Console, Problem> {
    let Given::Toml(value) = structured(given)? else {
        return problem("is not JSON", "write {\"token\": [{\"name\": …}]}");
    };
    let mut table = table(value, "[console]")?;
    let public_url = table.remove("public_url").map(public_url).transpose()?;
    let tokens = match table.remove("token") {
        None => Vec::new(),
        Some(Value::Array(tokens)) => {
            tokens.into_iter().map(token).collect::<Result<Vec<_>, _>>()?
        }
        Some(_) => return problem("`token` is not a list", "write [[console.token]]"),
    };
    let mut hashes = BTreeSet::new();
    if let Some(token) = tokens.iter().find(|token| !hashes.insert(token.sha256)) {
        let remedy = "make each their own: partner-program console token";
        return problem(format!("`{}` has the token of another name", token.name), remedy);
    }
    let proxy = table.remove("proxy").map(proxy).transpose()?;
    nothing_left(&table, "[console]", &["public_url", "token", "proxy"])?;
    Ok(Console { public_url, tokens, proxy })
}

fn public_url(value: Value) -> Result<Url, Problem> {
    let remedy = "write the scheme and the host alone: https://ops.example.com";
    match Url::parse(&string(Given::Toml(value))?) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.path() == "/" => Ok(url),
        _ => problem("`public_url` is no address of a site", remedy),
    }
}

fn token(value: Value) -> Result<Token, Problem> {
    let mut table = table(value, "[[console.token]]")?;
    let name = name(&mut table)?;
    let role = role(required(&mut table, "role", "role = \"operator\"")?)?;
    let hash = required(&mut table, "sha256", "sha256 = \"…\" (partner-program console token)")?;
    nothing_left(&table, "[[console.token]]", &["name", "role", "sha256"])?;
    let Some(sha256) = digest(&string(Given::Toml(hash))?) else {
        let remedy = "write 64 hexadecimal digits, as partner-program console token prints them";
        return problem(format!("`sha256` of `{name}` is no SHA-256"), remedy);
    };
    Ok(Token { name, role, sha256 })
}

fn name(table: &mut Table) -> Result<String, Problem> {
    let name = string(Given::Toml(required(table, "name", "name = \"ana\"")?))?;
    if name.is_empty() || name.len() > 100 || name.chars().any(char::is_control) {
        return problem("`name` is empty, too long or not printable", "write 1 to 100 bytes");
    }
    Ok(name)
}

fn proxy(value: Value) -> Result<Proxy, Problem> {
    let mut given = table(value, "[console.proxy]")?;
    let header = required(&mut given, "header", "header = \"x-forwarded-user\"")?;
    let header = string(Given::Toml(header))?.to_ascii_lowercase();
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if header.is_empty() || !header.chars().all(allowed) {
        return problem(format!("`{header}` is no header's name"), "write x-forwarded-user");
    }
    let remedy = "write the proxy's addresses: from = [\"10.0.0.5\"]";
    let Value::Array(addresses) = required(&mut given, "from", "from = [\"10.0.0.5\"]")? else {
        return problem("`from` is not a list", remedy);
    };
    let mut from = BTreeSet::new();
    for address in addresses {
        let text = string(Given::Toml(address))?;
        match text.parse() {
            Ok(address) => from.insert(address),
            Err(_) => return problem(format!("`{text}` is no address"), remedy),
        };
    }
    if from.is_empty() {
        return problem("`from` is empty", remedy);
    }
    let default = given.remove("role").map(role).transpose()?;
    let roles = match given.remove("roles") {
        None => BTreeMap::new(),
        Some(value) => table(value, "[console.proxy.roles]")?
            .into_iter()
            .map(|(name, value)| Ok((name, role(value)?)))
            .collect::<Result<_, _>>()?,
    };
    nothing_left(&given, "[console.proxy]", &["header", "from", "role", "roles"])?;
    Ok(Proxy { header, from, role: default, roles })
}

fn role(value: Value) -> Result<Role, Problem> {
    let word = string(Given::Toml(value))?;
    Role::parse(&word).map_or_else(
        || problem(format!("`{word}` is no role"), "write viewer, operator or admin"),
        Ok,
    )
}

fn table(value: Value, what: &str) -> Result<Table, Problem> {
    match value {
        Value::Table(table) => Ok(table),
        other => problem(format!("{what} is of type {}", other.type_str()), "write a table"),
    }
}

fn required(table: &mut Table, key: &str, example: &str) -> Result<Value, Problem> {
    table
        .remove(key)
        .map_or_else(|| problem(format!("`{key}` is missing"), format!("add {example}")), Ok)
}

fn nothing_left(table: &Table, what: &str, known: &[&str]) -> Result<(), Problem> {
    let Some(other) = table.keys().next() else { return Ok(()) };
    let nearest = nearest(other, known.iter().map(|&key| key.to_owned()));
    problem(format!("{what} has no key `{other}`"), format!("write `{nearest}`"))
}

fn digest(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest).ok()?;
    Some(digest)
}
