//! The texts, and a world in which some of them are names.

use crate::harness::workload::ORG;
use crate::model::{Customer, Org, Program};

/// A program that is called so.
pub(super) const PROGRAM: &str = "'; drop table customer; --";
pub(super) const TIERED: &str = "Tiered";
const TIERS: &[&str] = &["Bronze", "Silver"];
/// More than there are commands in a test.
const CUSTOMERS: usize = 1_000;

/// A text, so many times over.
pub(super) struct Text(&'static str, usize);

impl Text {
    pub(super) fn full(&self) -> String {
        self.0.repeat(self.1)
    }
}

const fn once(text: &'static str) -> Text {
    Text(text, 1)
}

pub(super) const TEXTS: [Text; 37] = [
    once(PROGRAM),
    once("\\'; delete from enrolment; --"),
    once("' or '1'='1"),
    once("\\'"),
    once("\\"),
    once("\""),
    once("`"),
    once("$1"),
    once("$$; select pg_terminate_backend(pid) from pg_stat_activity; $$"),
    once("E'\\x27'"),
    once("/* */"),
    once("%s%n%"),
    once("{}"),
    once("{0:?}"),
    once("${jndi:ldap://127.0.0.1/a}"),
    once("{{7*7}}"),
    once("<script>alert(1)</script>"),
    once("../../etc/passwd"),
    once("null"),
    once("*"),
    once("#"),
    once("acme.#"),
    once("amq.topic"),
    once("\u{2018}\u{2019}\u{201c}\u{201d}\u{ff07}"),
    once("\u{202e}\u{2066}txet\u{2069}\u{200f}"),
    once("\u{feff}\u{200b}"),
    once("e\u{301}\u{1f4a9}\u{10ffff}"),
    once("two\nlines"),
    once("\r\n.\r\n"),
    once("a\tb\u{1b}[31m\u{7f}"),
    once("\u{85}\u{9f}"),
    once("a\0b"),
    Text("x", 255),
    Text("x", 256),
    Text("\u{e9}", 255),
    Text("'", 256),
    Text("x", 70_000),
];

pub(super) fn world() -> Vec<Org> {
    let program =
        |name, tiers| Program { name, external: true, active: true, ends_at: None, tiers };
    let customer = |n: usize| Customer {
        id: i64::try_from(n).expect("few"),
        mobile: None,
        email: None,
        // The last ones are called like the texts, so that some are found.
        external_id: (CUSTOMERS - n < 9).then(|| TEXTS[CUSTOMERS - n].full()),
        state: "active",
    };
    vec![Org {
        code: ORG,
        country_code: "91",
        programs: vec![program(TIERED, TIERS), program(PROGRAM, TIERS)],
        customers: (1..=CUSTOMERS).map(customer).collect(),
    }]
}
