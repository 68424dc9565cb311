//! Any bytes through reading, deciding and writing: what no message may ever do.
//!
//! The corpus is replayed first, then random bytes come, then the corpus with random changes.
//! Coverage-guided runs of the same target start from the corpus, too; see `tests/README.md`.

mod corpus;
mod judge;

use crate::fuzz::corpus::Corpus;
use crate::fuzz::judge::Judge;
use crate::harness::random::{Random, seed};

/// Random inputs without the corpus: most end at their first byte.
const RANDOM_INPUTS: usize = 500;
const CHANGED_INPUTS: usize = 30_000;
/// Sets how often the corpus is changed.
const INPUTS_VARIABLE: &str = "PARTNER_PROGRAM_FUZZ_INPUTS";

#[test]
fn no_bytes_break_the_way_from_message_to_result() {
    let judge = Judge::new();
    bolero::check!()
        .with_iterations(RANDOM_INPUTS)
        .with_max_len(4096)
        .for_each(|input: &[u8]| judge.look_at(input));
}

#[test]
fn no_change_of_the_corpus_breaks_the_way_from_message_to_result() {
    let judge = Judge::new();
    let corpus = Corpus::read();
    let mut random = Random::new(seed());
    let inputs = std::env::var(INPUTS_VARIABLE).ok();
    let inputs = inputs.map_or(CHANGED_INPUTS, |given| given.parse().expect("a number of inputs"));
    for _ in 0..inputs {
        let input = corpus.changed(&mut random);
        let looked = std::panic::catch_unwind(|| judge.look_at(&input));
        assert!(looked.is_ok(), "input: {}", input.escape_ascii());
    }
}

#[test]
fn the_corpus_meets_every_reason_and_most_answers() {
    let judge = Judge::new();
    let mut met = std::collections::BTreeSet::new();
    for input in Corpus::read().inputs() {
        met.extend(judge.outcome(input));
    }
    for reason in [
        "not-utf8",
        "not-json",
        "trailing-data",
        "duplicate-key",
        "root-keys",
        "not-an-array",
        "wrong-type",
        "invalid-text",
        "too-large",
        "routing-key",
        "operation-mismatch",
        "unsupported-content",
        "succeeded",
        "partial",
        "failed",
    ] {
        assert!(met.contains(reason), "{reason} is not in {met:?}");
    }
}
