//! Which address leads where, and what stands before all of them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::Redirect;
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::csrf::CsrfLayer;
use tower_http::timeout::TimeoutLayer;

use crate::console::app::Shared;
use crate::console::bulk_jobs;
use crate::console::dead_letters;
use crate::console::error::Failure;
use crate::console::layout;
use crate::console::middleware;
use crate::console::{assets, audit, health, lanes, login, lookup, metrics};

/// Forms are small, but for the one that holds an edited letter.
const FORM_BYTES_MAX: usize = 256 * 1024;
/// A megabyte, and what writing it as a form makes of it.
const LETTER_FORM_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(30);

pub(super) fn of(app: Shared) -> Router {
    let mut csrf = CsrfLayer::new();
    if let Some(url) = &app.config.console.public_url {
        // The setting is a site's address, which is what an origin is.
        match csrf.clone().add_trusted_origin(url.origin().ascii_serialization()) {
            Ok(trusting) => csrf = trusting,
            Err(error) => tracing::warn!("public_url can't be trusted as an origin: {error}"),
        }
    }
    let edit = post(dead_letters::edit::save).get(dead_letters::edit::form);
    let upload = post(dead_letters::edit::upload);
    let pages = Router::new()
        .route("/", get(|| async { Redirect::to("/dead-letters") }))
        .route("/dead-letters", get(dead_letters::page::list))
        .route("/dead-letters/find", post(dead_letters::find::find))
        .route("/dead-letters/plan", post(dead_letters::act::plan))
        .route("/dead-letters/act", post(dead_letters::act::act))
        .route("/dead-letters/export", post(dead_letters::act::export))
        .route("/dead-letters/{id}", get(dead_letters::page::show))
        .route("/dead-letters/{id}/unmask", post(dead_letters::page::unmask))
        .route("/dead-letters/{id}/edit", edit.layer(DefaultBodyLimit::max(LETTER_FORM_BYTES_MAX)))
        .route("/dead-letters/{id}/body", get(dead_letters::edit::download))
        .route(
            "/dead-letters/{id}/upload",
            upload.layer(DefaultBodyLimit::max(LETTER_FORM_BYTES_MAX)),
        )
        .route("/bulk-jobs", get(bulk_jobs::list))
        .route("/bulk-jobs/{id}", get(bulk_jobs::show))
        .route("/bulk-jobs/{id}/cancel", post(bulk_jobs::cancel))
        .route("/audit", get(audit::list))
        .route("/lanes", get(lanes::list))
        .route("/lanes/pause", post(lanes::pause))
        .route("/lanes/resume", post(lanes::resume))
        .route("/lookup", get(lookup::command).post(lookup::customer))
        .route("/status-bar", get(layout::status_bar))
        .route("/login", get(login::form).post(login::login))
        .route("/logout", post(login::logout))
        .route("/assets/{name}", get(assets::asset))
        .fallback(|| async { Failure::NotFound("There is no such page.".to_owned()) })
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .layer(csrf)
        .layer(from_fn_with_state(Arc::clone(&app), middleware::host));
    // Probes and scrapers come by address, from other machines, and find no personal data.
    let probes = Router::new()
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/metrics", get(metrics::metrics));
    pages
        .merge(probes)
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, ANSWER_MAX))
        .layer(CatchPanicLayer::new())
        .layer(from_fn_with_state(Arc::clone(&app), middleware::headers))
        .with_state(app)
}
