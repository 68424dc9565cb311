//! What the suite found, as rows of a table that `make faults` puts together.

use std::fs::OpenOptions;
use std::io::Write;

use crate::faults::outcome::Outcome;

/// Names a file that rows are appended to.
const TABLE_VARIABLE: &str = "PARTNER_PROGRAM_TEST_TABLE";

/// A fault and what came of it.
pub(crate) fn note_fault(fault: &str, outcome: &Outcome) {
    let verdict = if outcome.violations.is_empty() { "kept" } else { "BROKEN" };
    note(&format!(
        "fault | {fault} | {} | {} | {} | {:.1} s | {verdict} |",
        outcome.commands,
        outcome.redeliveries,
        outcome.suppressed,
        outcome.longest_stall.as_secs_f64(),
    ));
}

/// A protection that was taken out, and the checks that caught it.
pub(crate) fn note_mutant(protection: &str, fault: &str, outcome: &Outcome) {
    let broken: Vec<String> = outcome.broken().iter().map(|check| format!("{check:?}")).collect();
    note(&format!("mutant | {protection} | {fault} | {} |", broken.join(", ")));
}

fn note(row: &str) {
    eprintln!("{row}");
    if let Ok(path) = std::env::var(TABLE_VARIABLE) {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let mut file = file.expect("the table's file can be written");
        // One write, so that tests at the same time don't mix their rows.
        file.write_all(format!("{row}\n").as_bytes()).expect("the row is written");
    }
}
