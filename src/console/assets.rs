//! Style and scripts, out of the binary.

use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use crate::console::error::Failure;

/// Changes with each release, and so do the addresses that pages name.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(super) async fn asset(Path(name): Path<String>) -> Result<Response, Failure> {
    let (kind, text) = match name.as_str() {
        "style.css" => ("text/css; charset=utf-8", include_str!("assets/style.css")),
        "keys.js" => ("text/javascript; charset=utf-8", include_str!("assets/keys.js")),
        "htmx.js" => ("text/javascript; charset=utf-8", include_str!("assets/htmx.min.js")),
        "icon.svg" => ("image/svg+xml", include_str!("assets/icon.svg")),
        _ => return Err(Failure::NotFound("There is no such file.".to_owned())),
    };
    let headers = [(CONTENT_TYPE, kind), (CACHE_CONTROL, "public, max-age=3600")];
    Ok((headers, text).into_response())
}
