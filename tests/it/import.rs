//! Importing a catalogue and customers, as an operator does it.

use std::path::PathBuf;
use std::process::{Command, Output};

use crate::harness::database::TestDatabase;
use crate::harness::servers::Place;

const CATALOGUE: &str = r#"
[[org]]
code = "acme"
name = "Acme"
country_code = "91"
[[org.program]]
name = "Gold Club"
kind = "EXTERNAL"
tiers = ["Bronze", "Silver"]
"#;

struct Desk {
    place: Place,
    folder: tempfile::TempDir,
}

impl Desk {
    async fn new(name: &str) -> Self {
        Self { place: Place::new(name).await, folder: tempfile::tempdir().expect("a folder") }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }

    fn import(&self, kind: &str, text: &str, more: &[&str]) -> Output {
        let path = self.file(kind, text);
        Command::new(env!("CARGO_BIN_EXE_partner-program"))
            .args(["import", kind])
            .arg(path)
            .args(["-o", "ndjson"])
            .args(more)
            .env("DATABASE_URL", &self.place.database_url)
            .output()
            .expect("the program runs")
    }
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn counts(output: &Output) -> String {
    assert_eq!(code(output), Some(0), "{}", told(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn a_catalogue_is_imported_once_and_changed_where_it_differs() {
    let desk = Desk::new("import catalogue").await;
    let first = counts(&desk.import("catalogue", CATALOGUE, &[]));
    assert!(first.contains(r#"{"kind":"tiers","added":2,"changed":0,"unchanged":0}"#), "{first}");
    let again = counts(&desk.import("catalogue", CATALOGUE, &[]));
    assert!(again.contains(r#"{"kind":"orgs","added":0,"changed":0,"unchanged":1}"#), "{again}");
    assert!(again.contains(r#"{"kind":"tiers","added":0,"changed":0,"unchanged":2}"#), "{again}");
    // Two names change places, and a third tier comes.
    let swapped =
        CATALOGUE.replace(r#"["Bronze", "Silver"]"#, r#"["Silver", "Bronze", "Platinum"]"#);
    let changed = counts(&desk.import("catalogue", &swapped, &[]));
    assert!(
        changed.contains(r#"{"kind":"tiers","added":1,"changed":2,"unchanged":0}"#),
        "{changed}"
    );
}

#[tokio::test]
async fn a_tier_with_enrolments_is_not_taken_away() {
    let desk = Desk::new("import tiers").await;
    counts(&desk.import("catalogue", CATALOGUE, &[]));
    let mut rows = TestDatabase::of(&desk.place).await;
    rows.execute(
        "insert into customer (org_id, id, state) select id, 1, 'active' from org where id > 0",
    )
    .await;
    rows.execute(
        "insert into enrolment (org_id, customer_id, program_id, linked, tier_number, linked_since, version)
         select org_id, 1, id, true, 2, now(), 1 from program where id > 0",
    )
    .await;
    let shorter = CATALOGUE.replace(r#", "Silver""#, "");
    let refused = desk.import("catalogue", &shorter, &[]);
    assert_eq!(code(&refused), Some(5));
    assert!(told(&refused).contains("`Silver`"), "{}", told(&refused));
}

#[tokio::test]
async fn customers_are_imported_once_and_bad_rows_named_by_line() {
    let desk = Desk::new("import customers").await;
    counts(&desk.import("catalogue", CATALOGUE, &[]));
    let good = "id,org,state,mobile,email,external_id\n\
                7,acme,active,+91 62150-00000,a@example.com,X1\n\
                ,acme,,919800000000,,\n";
    assert!(counts(&desk.import("customers", good, &["--dry-run"])).contains(r#""added":2"#));
    assert!(counts(&desk.import("customers", good, &[])).contains(r#""added":2"#));
    assert!(counts(&desk.import("customers", good, &[])).contains(r#""unchanged":2"#));

    let bad = "org,id,mobile,email,external_id,state\n\
               nowhere,,,,secret-1,\n\
               acme,,12,,,\n\
               acme,8,916215000000,,,\n\
               acme,9,,secret@example.com,,\n\
               acme,10,,SECRET@example.com,,\n\
               acme,,,,,unheard\n\
               acme,7,,new@example.com,X1,fraud\n";
    let partly = desk.import("customers", bad, &[]);
    assert_eq!(code(&partly), Some(6));
    let told = told(&partly);
    for expected in [
        ":2: org: unknown",
        ":3: mobile: not 7 to 15 digits",
        ":4: mobile: ",
        ":6: email: the same as in line 5",
        ":7: state: none of",
        "5 row(s) were not taken",
    ] {
        assert!(told.contains(expected), "{expected} in {told}");
    }
    assert!(!told.to_lowercase().contains("secret"), "values stay out of the report: {told}");
    let out = String::from_utf8_lossy(&partly.stdout).into_owned();
    assert!(out.contains(r#"{"kind":"customers","added":1,"changed":1,"unchanged":0}"#), "{out}");
}

#[tokio::test]
async fn a_wrong_header_and_an_unknown_key_say_what_to_write() {
    let desk = Desk::new("import errors").await;
    let header = desk.import("customers", "org,phone\n", &[]);
    assert_eq!(code(&header), Some(2));
    assert!(told(&header).contains("unknown column `phone`"), "{}", told(&header));
    let key = desk.import("catalogue", &format!("{CATALOGUE}colour = 1\n"), &[]);
    assert_eq!(code(&key), Some(2));
    assert!(told(&key).contains("colour"), "{}", told(&key));
}
