//! Addresses with several hosts, the way libpq writes them: `postgres://user@one:5432,two/name`.

use std::time::{Duration, Instant};

/// The addresses, each of one host, that an address stands for; they are tried in this order.
/// Each has the scheme, the user, the path and the query of the whole.
#[must_use]
pub fn each_host(url: &str) -> Vec<String> {
    let Some(Parts { scheme, user, hosts, tail }) = Parts::of(url) else {
        return vec![url.to_owned()];
    };
    hosts.split(',').map(|host| format!("{scheme}://{user}{host}{tail}")).collect()
}

/// Likewise, each with its share of what is left of the time when its turn comes: one that swallows
/// what it is sent, as a machine without power does, leaves time for those behind it.
#[must_use]
pub fn each_in_turn(
    url: &str,
    within: Duration,
) -> impl ExactSizeIterator<Item = (String, Duration)> {
    let end = Instant::now() + within;
    let hosts = each_host(url);
    let behind = (0..u32::try_from(hosts.len()).unwrap_or(u32::MAX)).rev();
    hosts.into_iter().zip(behind).map(move |(host, behind)| {
        (host, end.saturating_duration_since(Instant::now()) / (behind + 1))
    })
}

/// Host and port as they are written: nothing of an address that is secret, for messages.
#[must_use]
pub fn host_of(url: &str) -> &str {
    Parts::of(url).map_or("(not shown)", |parts| parts.hosts)
}

/// Whether a host is missing among several: a comma too many. Clients would take one that is not
/// written for this machine.
pub(super) fn lacks_a_host(url: &str) -> bool {
    let hosts = Parts::of(url).map_or("", |parts| parts.hosts);
    hosts.contains(',') && hosts.split(',').any(|host| host.is_empty() || host.starts_with(':'))
}

/// An address as it is written, put together again by their order.
struct Parts<'a> {
    scheme: &'a str,
    /// With the `@` behind it, if there is one.
    user: &'a str,
    hosts: &'a str,
    /// Path and query.
    tail: &'a str,
}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (user, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
        Some(Self { scheme, user, hosts, tail })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::{each_host, host_of, lacks_a_host};

    #[test]
    fn each_host_has_what_all_have() {
        assert_eq!(
            each_host("amqp://user:p,w%2f@one:5672,[::1]:5673,three/%2f?heartbeat=5"),
            [
                "amqp://user:p,w%2f@one:5672/%2f?heartbeat=5",
                "amqp://user:p,w%2f@[::1]:5673/%2f?heartbeat=5",
                "amqp://user:p,w%2f@three/%2f?heartbeat=5",
            ]
        );
    }

    #[test]
    fn a_comma_too_many_is_noticed() {
        for (hosts, lacks) in [
            ("one,two", false),
            ("one,[::1]:5432", false),
            ("", false),
            ("one,", true),
            (",two", true),
            ("one,,two", true),
            ("one,:5432", true),
        ] {
            assert_eq!(lacks_a_host(&format!("postgres://a,b@{hosts}/c,,d")), lacks, "{hosts}");
        }
    }

    proptest! {
        #[test]
        fn an_address_of_one_host_stands_for_itself(url in "[^,]*") {
            prop_assert_eq!(each_host(&url), [url]);
        }

        #[test]
        fn what_is_no_host_is_left_as_it_is(
            user in "([a-z%,:]{1,9}@)?", host in r"[a-z]{1,5}(:[0-9]{1,4})?|\[::1\](:[0-9]{1,4})?",
            tail in "(/[a-z%,@:]{0,9})?([?][a-z=%,@:/]{0,9})?",
        ) {
            let url = format!("postgres://{user}{host}{tail}");
            prop_assert_eq!(each_host(&url), [url.clone()]);
            prop_assert_eq!(host_of(&url), host);
        }

        #[test]
        fn nothing_secret_is_told(secret in "[a-z,]{8}", host in "[0-9]{1,3}") {
            let url = format!("amqp://u:{secret}@{host},{host}/v?password={secret}");
            prop_assert!(each_host(&url).iter().all(|url| host_of(url) == host));
        }
    }
}
