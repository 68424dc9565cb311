//! Logging in with a token, and out.

use std::net::SocketAddr;
use std::time::Instant;

use askama::Template;
use axum::extract::{ConnectInfo, Form, Query, State};
use axum::http::header::{CACHE_CONTROL, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use crate::console::app::{App, Shared};
use crate::console::auth::{self, SESSION_COOKIE};
use crate::console::error::{Failure, page};
use crate::console::sessions::LIFETIME;

#[derive(Template)]
#[template(path = "login.html")]
struct Page<'a> {
    back: &'a str,
    problem: Option<&'a str>,
    by_proxy: bool,
}

/// Where to go on.
#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    back: String,
}

pub(super) async fn form(
    State(app): State<Shared>,
    Query(asked): Query<Asked>,
) -> Result<Response, Failure> {
    let back = own_path(&asked.back);
    let by_proxy = app.config.console.proxy.is_some();
    Ok(page(&Page { back, problem: None, by_proxy })?.into_response())
}

#[derive(Deserialize)]
pub(super) struct LoginForm {
    token: String,
    #[serde(default)]
    back: String,
}

pub(super) async fn login(
    State(app): State<Shared>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Form(given): Form<LoginForm>,
) -> Result<Response, Failure> {
    let address = peer.ip().to_canonical();
    let now = Instant::now();
    if let Some(wait) = app.attempts.wait(address, now) {
        return Err(Failure::TooManyAttempts(wait));
    }
    let back = own_path(&given.back);
    let Some((name, role)) = auth::of_token(&app.config.console, &given.token) else {
        app.attempts.failed(address, now);
        tracing::warn!(client.address = %address, "log-in failed from {address}");
        let problem = Some("No such token. It begins with pp_ and is given out by an admin.");
        let by_proxy = app.config.console.proxy.is_some();
        let again = page(&Page { back, problem, by_proxy })?;
        return Ok((StatusCode::UNAUTHORIZED, again).into_response());
    };
    tracing::info!(client.address = %address, "{name} logs in as {}", role.as_str());
    let secret = app.sessions.begin(&name, role);
    let mut response = Redirect::to(back).into_response();
    set_cookie(&app, &mut response, &secret, LIFETIME.as_secs())?;
    Ok(response)
}

pub(super) async fn logout(
    State(app): State<Shared>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    if let Some(secret) = auth::session_secret(&headers) {
        app.sessions.end(secret);
    }
    let mut response = Redirect::to("/login").into_response();
    set_cookie(&app, &mut response, "", 0)?;
    Ok(response)
}

fn set_cookie(
    app: &App,
    response: &mut Response,
    secret: &str,
    seconds: u64,
) -> Result<(), Failure> {
    let secure = if app.is_behind_tls() { "; Secure" } else { "" };
    let cookie = format!(
        "{SESSION_COOKIE}={secret}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"
    );
    let cookie = HeaderValue::from_str(&cookie).map_err(|e| Failure::Broken(e.to_string()))?;
    let headers = response.headers_mut();
    headers.insert(SET_COOKIE, cookie);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(())
}

/// A path of this console; anything else leads to its first page.
fn own_path(back: &str) -> &str {
    let is_own = back.starts_with('/')
        && !back.starts_with("//")
        && !back.contains('\\')
        && !back.chars().any(char::is_control);
    if is_own { back } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_led_away_after_the_log_in() {
        assert_eq!(own_path("/dead-letters?org=acme"), "/dead-letters?org=acme");
        for foreign in ["", "//evil.example", "https://evil.example", "/\\evil.example", "/\nx"] {
            assert_eq!(own_path(foreign), "/", "{foreign:?}");
        }
    }
}
