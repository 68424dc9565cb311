//! The priority that keeps a command in its place among those of its lane.

use crate::config::Config;
use crate::domain::priority::{self, WITHOUT_PRIORITY};
use crate::domain::routing::{Router, RoutingMap};

/// The priority to publish a command with, by the lane that its routing key leads to: its `own`, or
/// the lane's if a broker could tell the two apart.
#[must_use]
pub fn in_lane(config: &Config, routing_key: &str, own: Option<u8>) -> Option<u8> {
    let router = Router::new(&RoutingMap::of(&config.lanes));
    let name = router.lane_of(routing_key);
    let lane = config.lanes.iter().find(|lane| lane.name == name);
    priority::in_lane(lane.map_or(WITHOUT_PRIORITY, |lane| lane.priority), own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lane_that_takes_the_command_decides() {
        let lanes = r#"[{"name":"acme","bindings":["acme.*","acme.*.7"],"priority":0},{"name":"main","priority":9}]"#;
        let environment = [("PARTNER_PROGRAM_LANES".to_owned(), lanes.to_owned())];
        let config = Config::load(None, environment).unwrap();
        for (key, own, expected) in [
            ("acme.link", None, Some(0)),
            ("acme.link.7", Some(9), Some(0)),
            ("acme.link.8", None, Some(9)),
            ("globex.link", Some(9), Some(9)),
        ] {
            assert_eq!(in_lane(&config, key, own), expected, "{key}");
        }
    }
}
