//! Addresses with several hosts, the way libpq writes them: `postgres://user@one:5432,two/name`.

/// The addresses, each of one host, that an address stands for; they are tried in this order.
/// Each has the scheme, the user, the path and the query of the whole.
#[must_use]
pub fn each_host(url: &str) -> Vec<String> {
    let Some((scheme, rest)) = url.split_once("://") else { return vec![url.to_owned()] };
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (user, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (format!("{user}@"), hosts),
        None => (String::new(), authority),
    };
    hosts.split(',').map(|host| format!("{scheme}://{user}{host}{tail}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::each_host;

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

    proptest! {
        #[test]
        fn an_address_of_one_host_stands_for_itself(url in "[^,]*") {
            prop_assert_eq!(each_host(&url), [url]);
        }
    }
}
