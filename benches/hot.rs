//! What a command costs without a server: read, decided, written. `cargo bench --bench hot` times
//! it; `scripts/instructions.sh` counts the instructions, which no other load disturbs.

use std::collections::HashMap;
use std::hint::black_box;

use chrono::{DateTime, TimeDelta, Utc};
use criterion::{BatchSize, Criterion};
use partner_program_worker::domain::command::{Command, Operation};
use partner_program_worker::domain::evaluate::{Outcome, evaluate};
use partner_program_worker::domain::identity::{Customer, CustomerId, CustomerState};
use partner_program_worker::domain::program::{Org, OrgId, Program, ProgramId, ProgramKind};
use partner_program_worker::domain::snapshot::Snapshot;
use partner_program_worker::wire::decode::{body_hash, decode};
use partner_program_worker::wire::result;

/// `STEP:TIMES` does the step so often, and nothing else.
const COUNTED_VARIABLE: &str = "PARTNER_PROGRAM_HOT_COUNTED";
const CUSTOMERS: i64 = 512;
const BODY: &str = r#"{"linkCustomers":[{"customer":{"mobile":"9000000007","email":"seven@example.com","externalId":"x-7"},
    "linkToPartnerPrograms":[{"partnerProgramName":"Plain","customerPartnerReference":{"partnerMembershipId":"m-7"}}]}]}"#;

fn main() {
    let env = TestEnv::new();
    if let Ok(counted) = std::env::var(COUNTED_VARIABLE) {
        let (step, times) = counted.split_once(':').unwrap_or((&counted, "1"));
        for _ in 0..times.parse().unwrap_or(1) {
            env.step(step, &mut env.snapshot.clone());
        }
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    for step in ["decode", "evaluate", "encode"] {
        criterion.bench_function(step, |bencher| {
            let snapshot = || env.snapshot.clone();
            bencher.iter_batched_ref(
                snapshot,
                |snapshot| env.step(step, snapshot),
                BatchSize::LargeInput,
            );
        });
    }
    criterion.final_summary();
}

struct TestEnv {
    org: Org,
    snapshot: Snapshot,
    command: Command,
    outcome: Outcome,
    now: DateTime<Utc>,
}

impl TestEnv {
    fn new() -> Self {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
        let program = Program {
            id: ProgramId(1),
            name: "Plain".to_owned(),
            kind: ProgramKind::External,
            active: true,
            ends_at: None,
            tiers: Vec::new(),
        };
        let org = Org {
            id: OrgId(1),
            code: "acme".to_owned(),
            country_code: "91".to_owned(),
            programs: HashMap::from([("plain".to_owned(), program)]),
        };
        let mut snapshot = Snapshot::default();
        let seven = Customer {
            id: CustomerId(7),
            mobile: Some("919000000007".to_owned()),
            email: Some("seven@example.com".to_owned()),
            external_id: Some("x-7".to_owned()),
            state: CustomerState::Active,
        };
        for id in 0..CUSTOMERS {
            let other = Customer {
                id: CustomerId(1000 + id),
                mobile: Some(id.to_string()),
                ..seven.clone()
            };
            snapshot.add_customer(org.id, Customer { email: None, external_id: None, ..other });
        }
        snapshot.add_customer(org.id, seven);
        let command = read();
        let outcome = evaluate(&org, &mut snapshot.clone(), &command, now);
        assert_eq!(outcome.counts().succeeded, 1, "the bench measures the way of a success");
        Self { org, snapshot, command, outcome, now }
    }

    fn step(&self, step: &str, snapshot: &mut Snapshot) {
        match step {
            "decode" => {
                black_box((read(), body_hash(BODY.as_bytes())));
            }
            "evaluate" => {
                black_box(evaluate(&self.org, snapshot, &self.command, self.now));
            }
            "encode" => {
                black_box(result::encode(&self.command, &self.outcome));
            }
            // The clone of the facts that each step begins with.
            _ => {
                black_box(snapshot);
            }
        }
    }
}

#[expect(clippy::expect_used, reason = "it is a constant")]
fn read() -> Command {
    decode(black_box(BODY.as_bytes()), Operation::Link).expect("it is well-formed")
}
