//! The same streams without servers: reading, deciding and writing alone, so that many more
//! commands are judged in the same time.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, SubsecRound, Utc};
use partner_program_worker::domain::command::Operation;
use partner_program_worker::domain::enrolment::{Effect, Enrolment, EnrolmentKey};
use partner_program_worker::domain::evaluate::{Warning, evaluate};
use partner_program_worker::domain::identity::{Customer, CustomerId, CustomerState};
use partner_program_worker::domain::program::{self, Org, OrgId, Program, ProgramId, ProgramKind};
use partner_program_worker::domain::snapshot::Snapshot;
use partner_program_worker::domain::status::Status;
use partner_program_worker::wire::decode::decode;
use partner_program_worker::wire::result::encode;

use crate::generate::{Sent, stream, world};
use crate::harness::history::{HistoryRow, Values};
use crate::harness::random::{Random, seed};
use crate::model::{self, Answer, Model};

const COMMANDS: usize = 20_000;

/// The product's parts, fed from the model's world.
pub(crate) struct Product {
    pub(crate) orgs: HashMap<&'static str, Org>,
    pub(crate) snapshot: Snapshot,
    /// As the worker's inbox has it; only first deliveries come here.
    effects: Vec<(Option<String>, Effect)>,
    pub(crate) now: DateTime<Utc>,
}

impl Product {
    pub(crate) fn new(model: &Model) -> Self {
        let mut snapshot = Snapshot::default();
        let mut orgs = HashMap::new();
        for (id, org) in (1..).zip(&model.orgs) {
            for customer in &org.customers {
                snapshot.add_customer(OrgId(id), own_customer(customer));
            }
            orgs.insert(org.code, own_org(OrgId(id), org));
        }
        for ((code, customer_id, name), row) in &model.enrolments {
            let org = &orgs[code.as_str()];
            let program = org.program(name).expect("a known program");
            let key = EnrolmentKey {
                org_id: org.id,
                customer_id: CustomerId(*customer_id),
                program_id: program.id,
            };
            let tier = row.tier.as_ref().and_then(|tier| program.tier(tier));
            snapshot.add_enrolment(
                key,
                Enrolment {
                    linked: row.linked,
                    membership_id: row.membership_id.clone(),
                    tier: tier.map(|tier| tier.id),
                    tier_expires_at: row.tier_expires_at,
                    linked_since: row.linked_since,
                    version: row.version,
                },
            );
        }
        Self { orgs, snapshot, effects: Vec::new(), now: model.now }
    }

    /// The answer to a first delivery.
    fn answer(&mut self, sent: &Sent) -> Answer {
        let operation = Operation::parse(sent.operation).expect("an operation");
        let command = match decode(&sent.body, operation) {
            Ok(command) => command,
            Err(rejection) => return Answer::Rejected(rejection.reason.as_str()),
        };
        let org = &self.orgs[sent.org];
        let mut outcome = evaluate(org, &mut self.snapshot, &command, self.now);
        if sent.message_id.is_none() {
            let warning = Warning { status: Status::NoMessageId, path: String::new() };
            outcome.warnings.insert(0, warning);
        }
        let body = String::from_utf8(encode(&command, &outcome)).expect("text");
        let id = &sent.message_id;
        self.effects.extend(outcome.effects.iter().map(|effect| (id.clone(), effect.clone())));
        let counts = outcome.counts();
        Answer::Result {
            verdict: outcome.verdict().as_str(),
            total: counts.total as usize,
            succeeded: counts.succeeded as usize,
            body,
        }
    }

    fn written(&self) -> Vec<HistoryRow> {
        let of = |(id, effect): &(Option<String>, Effect)| {
            let orgs = self.orgs.values();
            let org = orgs.into_iter().find(|org| org.id == effect.key.org_id).expect("an org");
            let mut programs = org.programs.values();
            let program = programs.find(|p| p.id == effect.key.program_id).expect("a program");
            let values = |row: &Enrolment| Values {
                linked: row.linked,
                membership_id: row.membership_id.clone(),
                tier: row.tier.map(|id| {
                    let tier = program.tiers.iter().find(|tier| tier.id == id);
                    tier.expect("a tier").name.clone()
                }),
                tier_expires_at: row.tier_expires_at,
            };
            HistoryRow {
                key: (org.code.clone(), effect.key.customer_id.0, program.name.clone()),
                kind: effect.kind.as_str().to_owned(),
                command_id: id.clone(),
                version: effect.after.version,
                old: effect.before.as_ref().map(values),
                new: values(&effect.after),
                reason: effect.reason.clone(),
                occurred_at: self.now,
            }
        };
        self.effects.iter().map(of).collect()
    }
}

fn own_org(id: OrgId, org: &model::Org) -> Org {
    let own_program = |(number, program): (i32, &model::Program)| Program {
        id: ProgramId(id.0 * 100 + number),
        name: program.name.to_owned(),
        kind: if program.external { ProgramKind::External } else { ProgramKind::Supplementary },
        active: program.active,
        ends_at: program.ends_at,
        tiers: (1..)
            .zip(program.tiers)
            .map(|(rank, name)| program::Tier {
                id: program::TierId(20 - rank),
                rank,
                name: (*name).to_owned(),
                normalised_name: program::normalised(name),
            })
            .collect(),
    };
    let programs = (1..).zip(&org.programs).map(own_program);
    Org {
        id,
        code: org.code.to_owned(),
        country_code: org.country_code.to_owned(),
        programs: programs.map(|own| (program::normalised(&own.name), own)).collect(),
    }
}

fn own_customer(customer: &model::Customer) -> Customer {
    Customer {
        id: CustomerId(customer.id),
        mobile: customer.mobile.clone(),
        email: customer.email.clone(),
        external_id: customer.external_id.clone(),
        state: CustomerState::parse(customer.state).unwrap(),
    }
}

#[test]
fn deciding_alone_agrees_with_the_model() {
    let mut random = Random::new(seed());
    let now = Utc::now().trunc_subsecs(0);
    let mut model = Model::new(now, world::orgs(now));
    model.enrolments = world::enrolments(&model.orgs, now);
    let stream = stream(&mut random, &model.orgs, now, COMMANDS);
    let mut product = Product::new(&model);
    let mut seen = BTreeSet::new();
    for sent in &stream {
        // Properties are the envelope's, and duplicates the inbox's: neither is here.
        let again = sent.message_id.is_some() && !seen.insert((sent.org, sent.message_id.clone()));
        if again || sent.spoiled == Some("unsupported-content") {
            continue;
        }
        let law = match sent.spoiled {
            Some(reason) => Answer::Rejected(reason),
            None => model.apply(sent.org, sent.operation, sent.message_id.as_deref(), &sent.body),
        };
        let answer = product.answer(sent);
        assert_eq!(answer, law, "{} {}", sent.operation, String::from_utf8_lossy(&sent.body));
    }
    let law: Vec<HistoryRow> =
        model.history.iter().map(|event| HistoryRow::expected(event, now)).collect();
    let written = product.written();
    for (place, (law, written)) in law.iter().zip(&written).enumerate() {
        assert_eq!(written, law, "history row {place}");
    }
    assert_eq!(written.len(), law.len(), "history rows");
    assert_covered(&model, &stream);
}

/// The stream must have met every code and kind of effect, or it shows less than it seems to.
fn assert_covered(model: &Model, stream: &[Sent]) {
    let mut judge = Model::new(model.now, model.orgs.clone());
    judge.enrolments = world::enrolments(&model.orgs, model.now);
    let mut bodies = String::new();
    for sent in stream.iter().filter(|sent| sent.spoiled.is_none()) {
        let id = sent.message_id.as_deref();
        if let Answer::Result { body, .. } = judge.apply(sent.org, sent.operation, id, &sent.body) {
            bodies.push_str(&body);
        }
    }
    let missing: Vec<u16> = Status::ALL
        .iter()
        .map(|status| status.code())
        .filter(|code| !bodies.contains(&format!("\"code\":{code}")))
        .collect();
    assert!(missing.is_empty(), "codes that the stream never met: {missing:?}");
    for kind in ["ENROLMENT", "UPGRADE", "RENEW", "DOWNGRADE", "DELINK"] {
        assert!(model.history.iter().any(|event| event.kind == kind), "no {kind}");
    }
}
