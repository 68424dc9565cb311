//! The lanes that a trial's load goes through, and which commands go through each.

use partner_program_worker::message::Message;
use serde_json::{Value, json};

use crate::faults::trial::LANE;
use crate::harness::publisher::command;
use crate::harness::workload::{self, CUSTOMERS, ORG, OTHER_PROGRAM, PROGRAM};
use crate::model::{Model, Org};

const SECOND: &str = "second";
const THIRD: &str = "third";
/// The org of each lane, where lanes are apart.
const ORGS: [&str; 3] = [ORG, "globex", "initech"];
/// What every membership id of a [`poison`] begins with.
pub(crate) const POISON: &str = "poison-";

/// The lanes of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lanes {
    /// `main` alone.
    Main,
    /// A second one, whose commands mean the same customers.
    Sharing,
    /// Three, each with an org of its own. The third holds the customers of its dead letters.
    Apart,
    /// `main` alone in the beginning; the commands move to others.
    Moving,
}

/// The lanes that commands move to.
pub(crate) const VIP: &str = "vip";
pub(crate) const OTHER: &str = "other";

impl Lanes {
    pub(crate) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Main | Self::Moving => &[LANE],
            Self::Sharing => &[LANE, SECOND],
            Self::Apart => &[LANE, SECOND, THIRD],
        }
    }

    /// Every lane that commands may be in.
    pub(crate) fn all(self) -> &'static [&'static str] {
        match self {
            Self::Main | Self::Sharing | Self::Apart => self.names(),
            Self::Moving => &[LANE, VIP, OTHER],
        }
    }

    /// The setting `lanes`.
    pub(crate) fn setting(self) -> Value {
        match self {
            Self::Main | Self::Moving => json!([{ "name": LANE }]),
            Self::Sharing => {
                json!([{ "name": LANE }, { "name": SECOND, "bindings": [format!("{ORG}.*.2")] }])
            }
            Self::Apart => json!([
                { "name": LANE },
                { "name": SECOND, "bindings": [format!("{}.*", ORGS[1])] },
                {
                    "name": THIRD,
                    "bindings": [format!("{}.*", ORGS[2])],
                    "after_dead_letter": "hold-customer",
                },
            ]),
        }
    }

    pub(crate) fn world(self) -> Vec<Org> {
        match self {
            Self::Main | Self::Sharing | Self::Moving => workload::world(),
            Self::Apart => workload::world_of(&ORGS, &[PROGRAM, OTHER_PROGRAM]),
        }
    }

    /// What judges the answers; nothing where lanes meddle with each other's customers.
    pub(crate) fn law(self) -> Option<Model> {
        let model = Model::new(chrono::DateTime::UNIX_EPOCH, self.world());
        (self != Self::Sharing).then_some(model)
    }

    /// The command of that number, through a lane other than `main`.
    pub(crate) fn step(self, lane: usize, number: usize) -> Message {
        let mut message = workload::step(number);
        if lane == 0 {
            return message;
        }
        match self {
            Self::Main | Self::Sharing | Self::Moving => message.routing_key.push_str(".2"),
            Self::Apart => message.routing_key = message.routing_key.replacen(ORG, ORGS[lane], 1),
        }
        let name = self.names()[lane];
        let id = message.properties.message_id;
        message.properties.message_id = id.map(|id| format!("{name}-{id}"));
        message
    }
}

/// A command for lanes that are apart: about a customer of the load, in a program that no step is
/// about. Alone it would succeed.
pub(crate) fn poison(lane: usize, number: usize) -> Message {
    let name = format!("{POISON}{}-{number}", Lanes::Apart.names()[lane]);
    let item = json!({
        "partnerProgramName": OTHER_PROGRAM,
        "customerPartnerReference": { "partnerMembershipId": name },
    });
    let customer = json!({ "id": number % CUSTOMERS + 1 });
    let entry = json!({ "customer": customer, "linkToPartnerPrograms": [item] });
    let body = json!({ "linkCustomers": [entry] }).to_string();
    command(&format!("{}.link", ORGS[lane]), Some(&name), body)
}

/// A command that means every customer of its lane.
pub(crate) fn poison_for_all(lane: usize) -> Message {
    let name = format!("{POISON}{}-all", Lanes::Apart.names()[lane]);
    let entry = |customer: usize| {
        let item = json!({
            "partnerProgramName": OTHER_PROGRAM,
            "customerPartnerReference": { "partnerMembershipId": format!("all-{customer}") },
        });
        json!({ "customer": { "id": customer }, "linkToPartnerPrograms": [item] })
    };
    let entries: Vec<Value> = (1..=CUSTOMERS).map(entry).collect();
    let body = json!({ "linkCustomers": entries }).to_string();
    command(&format!("{}.link", ORGS[lane]), Some(&name), body)
}
