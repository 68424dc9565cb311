//! What is known of the broker's version, and whether it can declare a lane.

use crate::broker::connection::Connection;
use crate::broker::probe::{self, Probe};
use crate::broker::version::Server;
use crate::cli::context::one_line;
use crate::cli::doctor::check::Check;
use crate::config::Config;
use crate::config::lane::OtherPriority;
use crate::domain::priority::DeliveryOrder;

/// Enough for every command of a publisher that does not put documents into headers, and too little for
/// headers that take seconds to deliver.
const FRAME_BYTES_ADVISED: usize = 16_384;

pub(super) async fn checks(connection: &Connection, config: &Config) -> Vec<Check> {
    let server = connection.server();
    vec![
        version(server),
        priority(server, config),
        frame(server, connection.frame_max()),
        lane(connection).await,
    ]
}

fn version(server: &Server) -> Check {
    const NAME: &str = "broker version";
    let Some(known) = server.known() else {
        let remedy = "run a version that is tested (3.10, 4.0, 4.3), or `make test` on this one";
        return Check::warn(
            NAME,
            format!("{server}: not tested, so nothing is known of it"),
            remedy,
        );
    };
    let tested = if known.tested { "" } else { " (between versions that are tested)" };
    Check::ok(NAME, format!("{server}{tested}: {}", known.notes.join("; ")))
}

fn priority(server: &Server, config: &Config) -> Check {
    const NAME: &str = "priority";
    let order = server.delivery_order();
    let lanes: Vec<String> =
        config.lanes.iter().map(|lane| format!("{} {}", lane.name, lane.priority)).collect();
    let lanes = lanes.join(", ");
    let detail = match order {
        DeliveryOrder::Queued => {
            return Check::ok(
                NAME,
                format!(
                    "the broker ignores it; before an update to 4.0 or 4.3 the metric worker_other_priority_commands shows whose commands would be refused (lanes take {lanes})"
                ),
            );
        }
        DeliveryOrder::TwoClasses => {
            "the broker prefers 5 and more to 4 and less; none counts as 4; before an update to 4.3 the metric worker_other_priority_commands shows whose commands would be refused"
        }
        DeliveryOrder::Levels => {
            "the broker prefers each level to the lower ones; none counts as 4"
        }
    };
    let warned: Vec<&str> = config
        .lanes
        .iter()
        .filter(|lane| lane.other_priority == OtherPriority::Warn)
        .map(|lane| lane.name.as_str())
        .collect();
    let detail = format!("{detail}; lanes take {lanes}");
    if warned.is_empty() {
        return Check::ok(NAME, detail);
    }
    let detail = format!("{detail}; these apply others out of order: {}", warned.join(", "));
    Check::warn(
        NAME,
        detail,
        "set other_priority = \"refuse\" once all publishers send one priority",
    )
}

fn frame(server: &Server, frame_max: usize) -> Check {
    const NAME: &str = "frame size";
    let detail = format!("headers of at most {frame_max} bytes");
    if server.is_slow_on_deep_headers() && frame_max > FRAME_BYTES_ADVISED {
        let detail = format!("{detail}: deeply nested ones cost the broker seconds a delivery");
        return Check::warn(NAME, detail, "set frame_max = 16384 in rabbitmq.conf");
    }
    Check::ok(NAME, detail)
}

async fn lane(connection: &Connection) -> Check {
    const NAME: &str = "lane probe";
    match probe::declare_lane(connection).await {
        Ok(Probe::Declared) => {
            Check::ok(NAME, "a queue with a lane's arguments was declared and deleted")
        }
        Ok(Probe::NotPermitted) => Check::ok(NAME, "not checked: no right to configure"),
        Err(error) => {
            let remedy = "see the broker's log; restart the node if it says that its dead-letter supervisor has ended";
            Check::fail(
                NAME,
                format!("no lane can be declared: {}", one_line(&error.into())),
                remedy,
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::check::State;

    fn server(version: &str) -> Server {
        Server::of("RabbitMQ", version)
    }

    #[test]
    fn each_version_has_its_advice() {
        for (of, known, frame_state, word) in [
            ("3.10.8", State::Ok, State::Ok, "x-death"),
            ("3.13.7", State::Ok, State::Ok, "between"),
            ("4.0.5", State::Ok, State::Warn, "overtake"),
            ("4.3.6", State::Ok, State::Warn, "time-out"),
            ("4.4.0", State::Warn, State::Warn, "not tested"),
        ] {
            let check = version(&server(of));
            assert_eq!(check.state, known, "{}", check.detail);
            assert!(check.detail.contains(of) && check.detail.contains(word), "{}", check.detail);
            assert_eq!(frame(&server(of), 131_072).state, frame_state);
            assert_eq!(frame(&server(of), 16_384).state, State::Ok);
        }
    }

    #[test]
    fn a_lane_that_only_warns_is_warned_of_where_it_matters() {
        let lanes = r#"[{"name":"main","other_priority":"warn"},{"name":"a","priority":0}]"#;
        let environment = [("PARTNER_PROGRAM_LANES".to_owned(), lanes.to_owned())];
        let config = Config::load(None, environment).unwrap();
        for (version, state) in
            [("3.10.8", State::Ok), ("4.0.5", State::Warn), ("4.3.6", State::Warn)]
        {
            let check = priority(&server(version), &config);
            assert_eq!(check.state, state, "{}", check.detail);
            assert!(check.detail.contains("main 4, a 0"), "{}", check.detail);
        }
    }
}
