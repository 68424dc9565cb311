//! Topic patterns, as RabbitMQ's topic exchanges read them: `*` is one word, `#` any number of words.

use std::collections::BTreeSet;

/// The words of a pattern or of a routing key. An empty one has none.
pub(super) fn words(text: &str) -> Vec<&str> {
    if text.is_empty() { Vec::new() } else { text.split('.').collect() }
}

/// Whether the words of a routing key match those of a pattern.
pub(super) fn matches(pattern: &[impl AsRef<str>], key: &[&str]) -> bool {
    // For each place in the pattern, whether the words so far lead to it.
    let mut reached = vec![false; pattern.len() + 1];
    reached[0] = true;
    skip_any_number(pattern, &mut reached);
    for word in key {
        let mut next = vec![false; pattern.len() + 1];
        for (at, expected) in pattern.iter().enumerate().filter(|(at, _)| reached[*at]) {
            match expected.as_ref() {
                "#" => next[at] = true,
                "*" => next[at + 1] = true,
                literal => next[at + 1] |= literal == *word,
            }
        }
        skip_any_number(pattern, &mut next);
        reached = next;
    }
    reached[pattern.len()]
}

/// A `#` may match no word at all.
fn skip_any_number(pattern: &[impl AsRef<str>], reached: &mut [bool]) {
    for (at, expected) in pattern.iter().enumerate() {
        if reached[at] && expected.as_ref() == "#" {
            reached[at + 1] = true;
        }
    }
}

/// Whether some routing key matches both topic patterns.
pub(super) fn overlap(a: &str, b: &str) -> bool {
    let (a, b) = (words(a), words(b));
    let mut seen = BTreeSet::new();
    let mut open = vec![(0, 0)];
    // Walks both patterns at once, a word of the key at a time; `#` may also end or stay.
    while let Some((i, j)) = open.pop() {
        if !seen.insert((i, j)) {
            continue;
        }
        let (x, y) = (a.get(i), b.get(j));
        match (x, y) {
            (None, None) => return true,
            (Some(&"#"), _) => {
                open.push((i + 1, j));
                if y.is_some() {
                    open.push((i, j + 1));
                }
            }
            (_, Some(&"#")) => {
                open.push((i, j + 1));
                if x.is_some() {
                    open.push((i + 1, j));
                }
            }
            (Some(x), Some(y)) if x == y || *x == "*" || *y == "*" => open.push((i + 1, j + 1)),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, word by word.
    fn is_match(pattern: &[&str], key: &[&str]) -> bool {
        match (pattern.split_first(), key.split_first()) {
            (None, None) => true,
            (Some((&"#", rest)), _) => {
                is_match(rest, key) || (!key.is_empty() && is_match(pattern, &key[1..]))
            }
            (Some((word, rest)), Some((head, tail))) => {
                (*word == "*" || word == head) && is_match(rest, tail)
            }
            _ => false,
        }
    }

    /// Every key of up to four words over a small alphabet.
    fn keys() -> Vec<Vec<&'static str>> {
        let mut keys: Vec<Vec<&str>> = vec![vec![]];
        let mut longest = keys.clone();
        for _ in 0..4 {
            longest = longest
                .iter()
                .flat_map(|key| ["a", "b", "c"].map(|word| [key.as_slice(), &[word]].concat()))
                .collect();
            keys.extend(longest.iter().cloned());
        }
        keys
    }

    proptest! {
        #[test]
        fn patterns_overlap_just_if_a_key_matches_both(
            a in prop::collection::vec(prop::sample::select(vec!["a", "b", "*", "#"]), 1..4),
            b in prop::collection::vec(prop::sample::select(vec!["a", "b", "*", "#"]), 1..4),
        ) {
            let expected = keys().iter().any(|key| is_match(&a, key) && is_match(&b, key));
            prop_assert_eq!(overlap(&a.join("."), &b.join(".")), expected);
        }

        #[test]
        fn a_key_matches_as_defined(
            pattern in prop::collection::vec(prop::sample::select(vec!["a", "b", "*", "#"]), 1..5),
            key in prop::collection::vec(prop::sample::select(vec!["a", "b", "", "*", "#"]), 0..5),
        ) {
            prop_assert_eq!(matches(&pattern, &key), is_match(&pattern, &key));
        }
    }
}
