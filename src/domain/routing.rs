//! The routing map: which lane each routing key leads to.
//!
//! A key that no pattern matches goes to the catch-all lane. Patterns of two lanes never match the
//! same key, so each key has one lane, and a change of the map is a list of patterns that get
//! another lane.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use crate::config::lane::{Lane, MAIN_LANE};
use crate::domain::patterns;

/// Patterns and their lanes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoutingMap {
    /// All lanes, those without a pattern included.
    pub lanes: BTreeSet<String>,
    /// The lane of each pattern.
    pub patterns: BTreeMap<String, String>,
}

/// Two patterns of different lanes that match the same routing key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// Lane and pattern.
    pub one: (String, String),
    /// The other lane and its pattern.
    pub other: (String, String),
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((lane, pattern), (other_lane, other)) = (&self.one, &self.other);
        write!(
            f,
            "`{pattern}` of lane `{lane}` and `{other}` of lane `{other_lane}` match the same routing key, \
             so its commands would be applied in both; narrow one of them"
        )
    }
}

impl RoutingMap {
    /// The map that a configuration describes.
    #[must_use]
    pub fn of(lanes: &[Lane]) -> Self {
        Self::new(lanes.iter().map(|lane| (lane.name.as_str(), lane.bindings.as_slice())))
    }

    /// A map of lanes and their patterns.
    #[must_use]
    pub fn new<'a>(lanes: impl IntoIterator<Item = (&'a str, &'a [String])>) -> Self {
        let mut map = Self::default();
        map.lanes.insert(MAIN_LANE.to_owned());
        for (lane, patterns) in lanes {
            map.lanes.insert(lane.to_owned());
            map.patterns.extend(patterns.iter().map(|pattern| (pattern.clone(), lane.to_owned())));
        }
        map
    }

    /// The map after this pattern has been given to the lane. A pattern of the catch-all lane is
    /// none at all.
    #[must_use]
    pub fn with(mut self, pattern: &str, lane: &str) -> Self {
        self.lanes.insert(lane.to_owned());
        if lane == MAIN_LANE {
            self.patterns.remove(pattern);
        } else {
            self.patterns.insert(pattern.to_owned(), lane.to_owned());
        }
        self
    }

    /// The lane of this very pattern; the catch-all lane if it is in no lane.
    #[must_use]
    pub fn lane_of_pattern(&self, pattern: &str) -> &str {
        self.patterns.get(pattern).map_or(MAIN_LANE, String::as_str)
    }

    /// Two patterns of different lanes that match the same routing key, if there are any.
    #[must_use]
    pub fn overlap(&self) -> Option<Overlap> {
        let mut before: Vec<(&String, &String)> = Vec::with_capacity(self.patterns.len());
        for (pattern, lane) in &self.patterns {
            let overlapping = before.iter().find(|(other, other_lane)| {
                *other_lane != lane && patterns::overlap(other, pattern)
            });
            if let Some((other, other_lane)) = overlapping {
                return Some(Overlap {
                    one: ((*other_lane).clone(), (*other).clone()),
                    other: (lane.clone(), pattern.clone()),
                });
            }
            before.push((pattern, lane));
        }
        None
    }

    /// What is different in `other`: nothing if both are the same map.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        let lanes = self.lanes.symmetric_difference(&other.lanes).map(|lane| Difference::Lane {
            lane: lane.clone(),
            is_in_first: self.lanes.contains(lane),
        });
        let all: BTreeSet<&String> = self.patterns.keys().chain(other.patterns.keys()).collect();
        let patterns = all.into_iter().filter_map(|pattern| {
            let (first, second) = (self.lane_of_pattern(pattern), other.lane_of_pattern(pattern));
            (first != second).then(|| Difference::Pattern {
                pattern: pattern.clone(),
                first: first.to_owned(),
                second: second.to_owned(),
            })
        });
        lanes.chain(patterns).collect()
    }

    /// The lanes that may lose routing keys on the way to `next`, and those that may get them. A key may
    /// belong to several patterns of one lane, so a lane may be named that loses none.
    #[must_use]
    pub fn affected(&self, next: &Self) -> Affected {
        let mut affected = Affected::default();
        for (pattern, lane) in
            self.patterns.iter().filter(|(p, l)| next.patterns.get(*p) != Some(l))
        {
            affected.losing.insert(lane.clone());
            affected.gaining.extend(next.lanes_that_match(pattern));
        }
        for (pattern, lane) in
            next.patterns.iter().filter(|(p, l)| self.patterns.get(*p) != Some(l))
        {
            affected.gaining.insert(lane.clone());
            affected.losing.extend(self.lanes_that_match(pattern));
        }
        affected
    }

    /// Each lane that some key leads to which the pattern matches, if the pattern is not itself of a lane.
    fn lanes_that_match(&self, pattern: &str) -> BTreeSet<String> {
        if let Some(lane) = self.patterns.get(pattern) {
            return BTreeSet::from([lane.clone()]);
        }
        let lanes = self.patterns.iter().filter(|(other, _)| patterns::overlap(other, pattern));
        let lanes = lanes.map(|(_, lane)| lane.clone());
        lanes.chain([MAIN_LANE.to_owned()]).collect()
    }
}

/// The lanes that a change of the map concerns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Affected {
    /// Commands of these may wait that belong to other lanes after the change.
    pub losing: BTreeSet<String>,
    /// These get commands that belonged to other lanes before.
    pub gaining: BTreeSet<String>,
}

impl Affected {
    /// All of them.
    #[must_use]
    pub fn lanes(&self) -> BTreeSet<String> {
        self.losing.union(&self.gaining).cloned().collect()
    }
}

/// What differs between two maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// One of them lacks a lane.
    Lane {
        /// The lane.
        lane: String,
        /// Whether the first has it.
        is_in_first: bool,
    },
    /// They give a pattern to different lanes.
    Pattern {
        /// The pattern.
        pattern: String,
        /// Its lane in the first.
        first: String,
        /// Its lane in the second.
        second: String,
    },
}

impl Difference {
    /// In words: the first is this worker's configuration, the second the routing map.
    #[must_use]
    pub fn of_configuration(&self) -> String {
        match self {
            Self::Lane { lane, is_in_first: true } => {
                format!("the configuration has a lane `{lane}`, the routing map has none")
            }
            Self::Lane { lane, is_in_first: false } => {
                format!("the routing map has a lane `{lane}`, the configuration has none")
            }
            Self::Pattern { pattern, first, second } => format!(
                "the configuration gives `{pattern}` to lane `{first}`, the routing map to `{second}`"
            ),
        }
    }
}

/// Finds the lane of each routing key, whatever the key.
#[derive(Clone, Debug, Default)]
pub struct Router {
    /// Those whose first word is literal.
    by_first_word: HashMap<String, Vec<Route>>,
    others: Vec<Route>,
}

#[derive(Clone, Debug)]
struct Route {
    words: Vec<String>,
    lane: String,
}

impl Router {
    /// For the patterns of the map.
    #[must_use]
    pub fn new(map: &RoutingMap) -> Self {
        let mut router = Self::default();
        for (pattern, lane) in &map.patterns {
            let words: Vec<String> =
                patterns::words(pattern).into_iter().map(str::to_owned).collect();
            let first = words.first().filter(|word| !matches!(word.as_str(), "*" | "#")).cloned();
            let route = Route { words, lane: lane.clone() };
            match first {
                Some(first) => router.by_first_word.entry(first).or_default().push(route),
                None => router.others.push(route),
            }
        }
        router
    }

    /// The lane of a routing key.
    #[must_use]
    pub fn lane_of(&self, routing_key: &str) -> &str {
        let words = patterns::words(routing_key);
        let by_first_word = words.first().and_then(|first| self.by_first_word.get(*first));
        let mut routes = by_first_word.into_iter().flatten().chain(&self.others);
        routes
            .find(|route| patterns::matches(&route.words, &words))
            .map_or(MAIN_LANE, |route| route.lane.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lanes: &[(&str, &[&str])]) -> RoutingMap {
        let lanes: Vec<(&str, Vec<String>)> = lanes
            .iter()
            .map(|(lane, patterns)| (*lane, patterns.iter().map(ToString::to_string).collect()))
            .collect();
        RoutingMap::new(lanes.iter().map(|(lane, patterns)| (*lane, patterns.as_slice())))
    }

    #[test]
    fn each_key_has_one_lane() {
        let map = map(&[("one", &["acme.*", "acme.*.1"]), ("two", &["*.link.2", "beta.#"])]);
        assert_eq!(map.overlap(), None);
        let router = Router::new(&map);
        for (key, lane) in [
            ("acme.link", "one"),
            ("acme.link.1", "one"),
            ("acme.link.2", "two"),
            ("acme.link.3", "main"),
            ("beta", "two"),
            ("beta.x.y.z", "two"),
            ("gamma.link", "main"),
            ("", "main"),
            ("acme.*.2", "main"),
        ] {
            assert_eq!(router.lane_of(key), lane, "{key}");
        }
    }

    #[test]
    fn the_lanes_of_an_overlap_are_named() {
        let overlap = map(&[("one", &["acme.*"]), ("two", &["beta.#", "*.link"])]).overlap();
        let overlap = overlap.map(|overlap| overlap.to_string()).unwrap_or_default();
        assert!(overlap.contains("`*.link` of lane `two`"), "{overlap}");
        assert!(overlap.contains("`acme.*` of lane `one`"), "{overlap}");
        assert_eq!(map(&[("one", &["acme.*"]), ("two", &["acme.*.7"])]).overlap(), None);
        assert_eq!(map(&[("one", &["acme.*", "acme.#"])]).overlap(), None);
    }

    #[test]
    fn differences_are_named_both_ways() {
        let (file, stored) = (map(&[("vip", &["acme.*"])]), map(&[("old", &["acme.*", "b.*"])]));
        let words: Vec<String> =
            file.differences(&stored).iter().map(Difference::of_configuration).collect();
        assert_eq!(
            words,
            [
                "the routing map has a lane `old`, the configuration has none",
                "the configuration has a lane `vip`, the routing map has none",
                "the configuration gives `acme.*` to lane `vip`, the routing map to `old`",
                "the configuration gives `b.*` to lane `main`, the routing map to `old`",
            ]
        );
        assert!(file.differences(&file).is_empty());
    }

    #[test]
    fn a_change_concerns_the_lanes_that_lose_or_get_keys() {
        let lanes = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        for (before, after, losing, gaining) in [
            (map(&[]), map(&[("a", &[])]), vec![], vec![]),
            (map(&[]), map(&[("a", &["acme.*"])]), vec!["main"], vec!["a"]),
            (map(&[("a", &["acme.*"])]), map(&[]), vec!["a"], vec!["main"]),
            (map(&[("a", &["acme.*"])]), map(&[("b", &["acme.*"])]), vec!["a"], vec!["b"]),
            (
                map(&[("a", &["acme.#"])]),
                map(&[("a", &["acme.*"]), ("b", &["acme.*.1"])]),
                vec!["a", "main"],
                vec!["a", "b", "main"],
            ),
        ] {
            let affected = before.affected(&after);
            assert_eq!(affected.losing, lanes(&losing), "{before:?} {after:?}");
            assert_eq!(affected.gaining, lanes(&gaining), "{before:?} {after:?}");
        }
        assert_eq!(map(&[]).with("acme.*", "a"), map(&[("a", &["acme.*"])]));
        assert_eq!(
            map(&[("a", &["acme.*"])]).with("acme.*", MAIN_LANE).patterns,
            BTreeMap::default()
        );
    }
}
