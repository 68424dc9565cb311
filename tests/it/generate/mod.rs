//! Random streams of commands over a small, crowded world, so that conflicts are common.
//!
//! A stream is made from a seed and nothing else: the same seed gives the same stream. Two
//! shards never share a customer or a membership id, so that the lanes' streams do not touch
//! and one sequential model can judge them all. Deliberately absent: any judgement, but for the
//! reason why a body that is spoiled on purpose has to be rejected.

pub(crate) mod spoiled;
pub(crate) mod world;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::generate::world::{Shard, shards};
use crate::harness::random::Random;
use crate::model::{Customer, Org};

/// A message to publish.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// The lane it must travel through.
    pub(crate) lane: &'static str,
    pub(crate) org: &'static str,
    pub(crate) operation: &'static str,
    pub(crate) routing_key: String,
    pub(crate) message_id: Option<String>,
    pub(crate) correlation_id: Option<String>,
    pub(crate) content_type: Option<&'static str>,
    pub(crate) body: Vec<u8>,
    /// Why it has to be rejected whatever the state of the world.
    pub(crate) spoiled: Option<&'static str>,
}

/// A stream of `count` messages over all shards, interleaved.
pub(crate) fn stream(
    random: &mut Random,
    orgs: &[Org],
    now: DateTime<Utc>,
    count: usize,
) -> Vec<Sent> {
    let shards = shards();
    let mut sent: Vec<Sent> = Vec::with_capacity(count);
    let mut last_of_shard: Vec<Vec<usize>> = vec![Vec::new(); shards.len()];
    for n in 0..count {
        let number = random.below(shards.len());
        let shard = &shards[number];
        let earlier = &last_of_shard[number];
        let message = if !earlier.is_empty() && random.chance(6) {
            let mut again = sent[random.pick(earlier)].clone();
            if random.chance(25) && again.spoiled.is_none() {
                again.body.push(b' ');
            }
            again
        } else {
            Maker { random: &mut *random, orgs, shard, now }.message(n)
        };
        last_of_shard[number].push(n);
        sent.push(message);
    }
    sent
}

struct Maker<'a> {
    random: &'a mut Random,
    orgs: &'a [Org],
    shard: &'a Shard,
    now: DateTime<Utc>,
}

impl<'a> Maker<'a> {
    fn message(&mut self, n: usize) -> Sent {
        let operation = self.random.pick(&["link", "link", "link", "update", "update", "delink"]);
        let id = format!("{}-{n}", self.shard.name);
        let without_id = self.random.chance(3);
        let routing_key = match self.shard.bucket {
            Some(bucket) => format!("{}.{operation}.{bucket}", self.shard.org),
            None => format!("{}.{operation}", self.shard.org),
        };
        let mut sent = Sent {
            lane: self.shard.lane,
            org: self.shard.org,
            operation,
            routing_key,
            correlation_id: (without_id || self.random.chance(50)).then(|| format!("c-{id}")),
            message_id: (!without_id).then_some(id),
            content_type: self.random.pick(&[None, Some("application/json")]),
            body: Vec::new(),
            spoiled: None,
        };
        if self.random.chance(4) {
            spoiled::spoil(self.random, &mut sent);
        } else {
            sent.body = self.body(operation).to_string().into_bytes();
        }
        sent
    }

    fn body(&mut self, operation: &str) -> Value {
        let customers = match self.random.below(100) {
            0 => 51,
            1 => 0,
            2 => 50,
            3..70 => 1,
            _ => 2 + self.random.below(4),
        };
        let (root, list) = match operation {
            "link" => ("linkCustomers", "linkToPartnerPrograms"),
            "update" => ("customersPartnerUpdates", "partnerProgramUpdates"),
            _ => ("deLinkCustomers", "deLinkFromPartnerPrograms"),
        };
        let entries: Vec<Value> = (0..customers)
            .map(|_| {
                let programs = match self.random.below(200) {
                    0 => 51,
                    1 => 0,
                    2..120 => 1,
                    _ => 2 + self.random.below(3),
                };
                let items: Vec<Value> = (0..programs).map(|_| self.item(operation)).collect();
                json!({ "customer": self.customer(), list: items, "comment": [null] })
            })
            .collect();
        json!({ root: entries })
    }

    fn item(&mut self, operation: &str) -> Value {
        let name = self.program_name();
        match operation {
            "link" => {
                let mut item = json!({ "partnerProgramName": name });
                if !self.random.chance(2) {
                    item["customerPartnerReference"] = json!({
                        "partnerMembershipId": self.membership_id(),
                        "partnerTierName": self.tier_name(),
                        "partnerTierExpiryDate": self.date(),
                    });
                }
                item
            }
            "update" => {
                let kinds = [json!("UPGRADE"), json!("RENEW"), json!("DOWNGRADE")];
                let odd = [
                    json!("upgrade"),
                    json!(" UPGRADE "),
                    json!(""),
                    json!(null),
                    json!("SIDEWAYS"),
                ];
                let kind = if self.random.chance(95) {
                    self.random.pick(&kinds)
                } else {
                    self.random.pick(&odd)
                };
                let mut item = json!({ "partnerProgramName": name, "updateType": kind });
                if !self.random.chance(2) {
                    item["updateDetails"] = json!({
                        "updatedTierName": self.tier_name(),
                        "updatedTierExpiryDate": self.date(),
                    });
                }
                item
            }
            _ => {
                let reasons =
                    [json!(null), json!("moved away"), json!(""), longest("gone"), too_long()];
                let reason = self.random.pick(&reasons);
                json!({
                    "partnerProgramName": name,
                    "reason": reason,
                    "customerPartnerReference": { "partnerMembershipId": "ignored" },
                })
            }
        }
    }

    fn program_name(&mut self) -> Value {
        if self.random.chance(4) {
            let odd = [json!(""), json!(null), json!("  "), json!("NoSuchProgram")];
            return self.random.pick(&odd);
        }
        let programs = &self.org().programs;
        let name = programs[self.random.below(programs.len())].name;
        self.spelling(name)
    }

    fn tier_name(&mut self) -> Value {
        if self.random.chance(12) {
            return self.random.pick(&[json!(""), json!(null), json!("Platinum")]);
        }
        let name = self.random.pick(&["Bronze", "Silver", "Émeraude"]);
        self.spelling(name)
    }

    /// The name in one of the ways that mean the same.
    fn spelling(&mut self, name: &str) -> Value {
        match self.random.below(10) {
            0 => json!(name.to_uppercase()),
            1 => json!(name.to_lowercase()),
            2 => json!(format!(" {name}\t")),
            _ => json!(name),
        }
    }

    fn membership_id(&mut self) -> Value {
        match self.random.below(30) {
            0 => json!(null),
            1 => json!(" "),
            2 => longest(self.shard.name),
            3 => too_long(),
            n => {
                let id = format!("{}-{}", self.shard.name, self.random.below(14));
                json!(if n == 4 { format!(" {id} ") } else { id })
            }
        }
    }

    fn date(&mut self) -> Value {
        let day = TimeDelta::days(1);
        let written = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        match self.random.below(40) {
            0 => json!("2031-01-01"),
            1 => json!("2031-01-01T00:00:00"),
            2 => json!("soon"),
            3 => json!(""),
            4 => json!(written(self.now)),
            5 => json!(written(self.now - day)),
            6 => json!(written(self.now + TimeDelta::microseconds(1))),
            7 => json!("2031-12-29T23:59:59 +05:30"),
            8 => json!("2031-12-29 23:59:59+0530"),
            9 => json!("2031-12-29T23:59:59.125-11:00"),
            10..22 => json!(null),
            n => json!(written(self.now + day * i32::try_from(n).expect("small"))),
        }
    }

    fn customer(&mut self) -> Value {
        let customer = self.some_customer();
        let mut given = json!({ "mobile": "", "email": null });
        match self.random.below(100) {
            0..75 => self.identify(&customer, &mut given),
            75..85 => {
                self.identify(&customer, &mut given);
                self.identify(&customer, &mut given);
            }
            85..90 => {
                let other = self.some_customer();
                self.identify(&customer, &mut given);
                self.identify(&other, &mut given);
            }
            90..94 => {
                self.identify(&customer, &mut given);
                given["externalId"] = json!("X-nobody");
            }
            94 => given["externalId"] = json!("X-nobody"),
            95 => {
                given["mobile"] = self.random.pick(&[json!("12345"), json!("call me"), json!(123)]);
            }
            96 => {
                given["email"] = self.random.pick(&[json!("a@b@c"), json!("@b"), json!("a b@c")]);
            }
            97 => given["externalId"] = self.random.pick(&[json!("a\tb"), json!("x".repeat(256))]),
            98 => given["id"] = json!(999_999),
            _ => {}
        }
        given
    }

    /// Adds one identifier of the customer's, in one of the ways it may be written.
    fn identify(&mut self, customer: &Customer, given: &mut Value) {
        let country_code = self.org().country_code;
        match self.random.below(4) {
            1 if customer.mobile.is_some() => {
                let mobile = customer.mobile.clone().expect("checked");
                let local = mobile.strip_prefix(country_code).unwrap_or(&mobile).to_owned();
                given["mobile"] = match self.random.below(6) {
                    0 => json!(mobile.parse::<u64>().expect("digits")),
                    1 => json!(format!("+{mobile}")),
                    2 => json!(format!("00 {mobile}")),
                    3 => json!(format!("({}) {}-{}", &local[..2], &local[2..4], &local[4..])),
                    4 => json!(local),
                    _ => json!(mobile),
                };
            }
            2 if customer.email.is_some() => {
                let email = customer.email.clone().expect("checked");
                given["email"] = match self.random.below(3) {
                    0 => json!(email.to_uppercase()),
                    1 => json!(format!(" {email} ")),
                    _ => json!(email),
                };
            }
            3 if customer.external_id.is_some() => {
                let id = customer.external_id.clone().expect("checked");
                given["externalId"] = match id.parse::<u64>() {
                    Ok(number) if self.random.chance(50) => json!(number),
                    _ => json!(id),
                };
            }
            _ => given["id"] = json!(customer.id),
        }
    }

    fn some_customer(&mut self) -> Customer {
        let customers = &self.org().customers[self.shard.customers.clone()];
        customers[self.random.below(customers.len())].clone()
    }

    fn org(&self) -> &'a Org {
        let orgs: &'a [Org] = self.orgs;
        orgs.iter().find(|org| org.code == self.shard.org).expect("the shard's org")
    }
}

/// A text that begins so and has the most characters that are stored, after trimming.
fn longest(start: &str) -> Value {
    json!(format!(" {start:é<255}\t"))
}

fn too_long() -> Value {
    json!("x".repeat(256))
}
