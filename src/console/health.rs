//! Whether the process lives, and whether it could work: for whoever starts and restarts it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::console::app::Shared;
use crate::console::pulse::Server;

/// Answers as long as anything does. It looks at no server: to restart a worker because its
/// database is away would help nobody.
pub(super) async fn live(State(app): State<Shared>) -> Json<Value> {
    Json(json!({ "status": "live", "worker": app.config.worker_id }))
}

/// 503 while the database or the broker is away.
pub(super) async fn ready(State(app): State<Shared>) -> Response {
    let beat = app.pulse.beat();
    let is_ready = beat.database == Server::Up && beat.broker == Server::Up;
    let (status, word) = if is_ready {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready")
    };
    let body = json!({
        "status": word,
        "worker": app.config.worker_id,
        "database": beat.database.word(),
        "broker": beat.broker.word(),
    });
    (status, Json(body)).into_response()
}
