//! The world that random streams are about: three orgs whose customers carry the same numbers,
//! so that a leak between tenants shows.

use std::collections::BTreeMap;
use std::ops::Range;

use chrono::{DateTime, TimeDelta, Utc};

use crate::model::{Customer, Enrolment, Key, Org, Program};

/// Customers and membership ids that only one lane's stream touches.
#[derive(Clone, Debug)]
pub(crate) struct Shard {
    pub(crate) name: &'static str,
    pub(crate) org: &'static str,
    /// Third word of its routing keys.
    pub(crate) bucket: Option<&'static str>,
    pub(crate) lane: &'static str,
    /// Places in the org's list of customers.
    pub(crate) customers: Range<usize>,
}

/// The lane besides `main`, and what is bound to it.
pub(crate) const SECOND_LANE: &str = "second";
pub(crate) const SECOND_LANE_BINDINGS: [&str; 2] = ["globex.*", "acme.*.7"];

const ORGS: [(&str, &str); 3] = [("acme", "91"), ("globex", "1"), ("initech", "44")];
const SHARD_CUSTOMERS: usize = 10;

pub(crate) fn shards() -> Vec<Shard> {
    let first = 0..SHARD_CUSTOMERS;
    let second = SHARD_CUSTOMERS..2 * SHARD_CUSTOMERS;
    let shard = |name, org, bucket, lane, customers: &Range<usize>| Shard {
        name,
        org,
        bucket,
        lane,
        customers: customers.clone(),
    };
    vec![
        shard("a", "acme", None, "main", &first),
        shard("a7", "acme", Some("7"), SECOND_LANE, &second),
        shard("g", "globex", None, SECOND_LANE, &first),
        // Three words do not match `globex.*`, so the alternate exchange takes it.
        shard("g3", "globex", Some("3"), "main", &second),
        shard("i", "initech", None, "main", &first),
    ]
}

pub(crate) fn orgs(now: DateTime<Utc>) -> Vec<Org> {
    ORGS.iter()
        .map(|(code, country_code)| Org {
            code,
            country_code,
            programs: programs(now),
            customers: (0..2 * SHARD_CUSTOMERS).map(|n| customer(n, country_code)).collect(),
        })
        .collect()
}

fn programs(now: DateTime<Utc>) -> Vec<Program> {
    const TIERS: &[&str] = &["Bronze", "Silver", "Émeraude"];
    let program =
        |name, external, tiers| Program { name, external, active: true, ends_at: None, tiers };
    vec![
        program("Tiered", true, TIERS),
        Program {
            ends_at: Some(now + TimeDelta::seconds(1)),
            ..program("Éclat Club", true, &["Silver", "Émeraude"])
        },
        program("Plain", true, &[]),
        program("Extra", false, TIERS),
        program("Extra Plain", false, &[]),
        Program { active: false, ..program("Closed", true, TIERS) },
        Program { ends_at: Some(now), ..program("Ended", true, TIERS) },
    ]
}

/// Every sort of customer: each state, each identifier missing somewhere, and pairs of whom one
/// has with the country code what the other has without it.
fn customer(n: usize, country_code: &str) -> Customer {
    let subscriber = 6_215_000_000 + n / 2;
    let mobile = if n.is_multiple_of(2) {
        format!("{country_code}{subscriber}")
    } else {
        format!("{subscriber}")
    };
    let in_shard = n % SHARD_CUSTOMERS;
    Customer {
        id: i64::try_from(n).expect("few") + 1,
        mobile: (in_shard != 5).then_some(mobile),
        email: (!n.is_multiple_of(3)).then(|| format!("Ann{n}@Example.com")),
        external_id: (!n.is_multiple_of(4))
            .then(|| if n.is_multiple_of(2) { format!("{}", 7000 + n) } else { format!("X{n}") }),
        state: match in_shard {
            6 => "not_enrolled",
            7 => "merged",
            8 => "fraud",
            _ => "active",
        },
    }
}

/// What stands in the database before: enrolments that no command could make now.
pub(crate) fn enrolments(orgs: &[Org], now: DateTime<Utc>) -> BTreeMap<Key, Enrolment> {
    let mut enrolments = BTreeMap::new();
    let year = TimeDelta::days(365);
    for org in orgs {
        for customer in &org.customers {
            let mut put = |program: &str, tier: Option<&str>, tier_expires_at| {
                let row = Enrolment {
                    linked: true,
                    membership_id: Some(format!("before-{program}-{}", customer.id)),
                    tier: tier.map(ToOwned::to_owned),
                    tier_expires_at,
                    linked_since: now - year,
                    version: 1,
                };
                let key = (org.code.to_owned(), customer.id, program.to_owned());
                enrolments.insert(key, row);
            };
            match customer.id % 4 {
                0 => {
                    put("Closed", Some("Silver"), None);
                    put("Ended", Some("Bronze"), Some(now + year));
                }
                1 => put("Tiered", Some("Silver"), Some(now - TimeDelta::days(1))),
                2 => put("Extra", None, None),
                _ => {}
            }
        }
    }
    enrolments
}
