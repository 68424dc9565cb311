//! Topic patterns: whether two of them can match the same routing key.

use std::collections::BTreeSet;

/// Whether a routing key matches a topic pattern.
pub(crate) fn matches(pattern: &str, routing_key: &str) -> bool {
    overlap(pattern, routing_key)
}

/// Whether some routing key matches both topic patterns.
pub(super) fn overlap(a: &str, b: &str) -> bool {
    let a: Vec<&str> = a.split('.').collect();
    let b: Vec<&str> = b.split('.').collect();
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

    fn matches(pattern: &[&str], key: &[&str]) -> bool {
        match (pattern.split_first(), key.split_first()) {
            (None, None) => true,
            (Some((&"#", rest)), _) => {
                matches(rest, key) || (!key.is_empty() && matches(pattern, &key[1..]))
            }
            (Some((word, rest)), Some((head, tail))) => {
                (*word == "*" || word == head) && matches(rest, tail)
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
            let expected = keys().iter().any(|key| matches(&a, key) && matches(&b, key));
            prop_assert_eq!(overlap(&a.join("."), &b.join(".")), expected);
        }
    }
}
