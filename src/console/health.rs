//! The probes: whether the process lives, and whether it could work.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::SecondsFormat;
use serde_json::{Value, json};

use crate::config::Config;
use crate::console::app::Shared;
use crate::console::status::Server;
use crate::worker::health::{LaneError, Report};

/// For a machine that stands still now and then.
const TURN_MARGIN: Duration = Duration::from_secs(30);
/// The canary, the note on the try, the try itself, and waiting for another lane's.
const TRIES_BETWEEN_TURNS: u32 = 5;

/// 503 if the loop of a lane has not turned within its bound: only a restart helps then. Outages
/// don't matter here, because a restart ends none of them.
pub(super) async fn live(State(app): State<Shared>) -> Response {
    let bound = turn_max(&app.config);
    let stuck: Vec<&str> = app
        .counters
        .iter()
        .filter(|(_, counters)| counters.since_turn() > bound)
        .map(|(lane, _)| lane)
        .collect();
    let (status, word) = if stuck.is_empty() {
        (StatusCode::OK, "live")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "stuck")
    };
    let body = json!({ "status": word, "worker": app.config.worker_id, "stuck_lanes": stuck });
    (status, Json(body)).into_response()
}

/// 503 while the database or the broker is unavailable, or a lane of this worker can't work.
pub(super) async fn ready(State(app): State<Shared>) -> Response {
    let latest = app.status.latest();
    let lanes: Vec<(&str, Report)> =
        app.counters.iter().map(|(lane, counters)| (lane, counters.health())).collect();
    let servers_are_up = latest.database == Server::Up && latest.broker == Server::Up;
    let bindings = app.counters.bindings();
    let is_ready =
        servers_are_up && bindings.is_ready() && lanes.iter().all(|(_, report)| report.is_ready());
    let (status, word) = if is_ready {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready")
    };
    let lanes: Vec<Value> = lanes
        .into_iter()
        .map(|(lane, report)| {
            let is_ready = report.is_ready();
            let last_error = report.last_error.map(|LaneError { text, at }| {
                json!({ "text": text, "at": at.to_rfc3339_opts(SecondsFormat::Millis, true) })
            });
            json!({
                "lane": lane,
                "ready": is_ready,
                "state": report.state.as_str(),
                "last_error": last_error,
            })
        })
        .collect();
    let body = json!({
        "status": word,
        "worker": app.config.worker_id,
        "worker_id_also_used_by": app.counters.twins(),
        "database": latest.database.word(),
        "broker": latest.broker.word(),
        "bindings": bindings.to_string(),
        "lanes": lanes,
    });
    (status, Json(body)).into_response()
}

/// The longest time between two turns of a lane's loop that works: a try at the database and the
/// statements around it, each of which may take its own bound.
fn turn_max(config: &Config) -> Duration {
    TURN_MARGIN + config.database_timeout() * TRIES_BETWEEN_TURNS
}
