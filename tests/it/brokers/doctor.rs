//! What `doctor` says of the broker, and that it leaves nothing behind there.

use serde_json::Value;

use crate::brokers::DEADLINE;
use crate::harness::servers::{Place, servers};
use crate::harness::worker::Settings;

/// The state and the detail of a check.
async fn check(settings: &Settings, name: &str) -> (String, String) {
    let running = settings.command(&["doctor", "-o", "json"]).output();
    let output = tokio::time::timeout(DEADLINE, running).await.expect("it ends in time");
    let output = output.expect("the program starts");
    let checks: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    let found = checks.iter().find(|check| check["check"] == name).expect("the check");
    let text = |key: &str| found[key].as_str().expect("a text").to_owned();
    (text("state"), text("detail"))
}

#[tokio::test]
async fn doctor_names_the_brokers_version_and_tries_a_lane() {
    let place = Place::new("doctor").await;
    let settings = Settings::of(&place);
    settings.declare().await;
    let (major, minor) = place.broker.version();
    let (state, detail) = check(&settings, "broker version").await;
    assert!(detail.starts_with(&format!("RabbitMQ {major}.{minor}.")), "{detail}");
    assert_eq!(state, "ok", "{detail}");
    let (state, detail) = check(&settings, "lane probe").await;
    assert_eq!((state.as_str(), detail.contains("declared")), ("ok", true), "{detail}");
    assert_eq!(place.broker.queues_like("partner-program.doctor."), 0, "probes are deleted");

    // A user who may not configure: nothing is known, and nothing is wrong.
    let user = place.vhost();
    place.broker.permit_writing(&user, "secret", ".*");
    let url = servers().amqp_url.replace("guest:guest", &format!("{user}:secret"));
    let url = url.replace("/%2f", &format!("/{}", place.vhost()));
    let (state, detail) = check(&settings.with("AMQP_URL", url), "lane probe").await;
    assert_eq!((state.as_str(), detail.as_str()), ("ok", "not checked: no right to configure"));
    place.broker.delete_user(&user);
}
