//! What a page says when it can't be shown.

use std::time::Duration;

use askama::Template;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Redirect, Response};

use crate::store;
use crate::usecases::dead_letters::error::Error as LetterError;

/// Why a request is not answered as was wished. The texts are for people.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nobody knows who asks.
    Unknown {
        /// Where to go on after the log-in.
        back: String,
    },
    /// The role does not suffice.
    Forbidden(String),
    /// Too many wrong tokens.
    TooManyAttempts(Duration),
    /// There is no such thing.
    NotFound(String),
    /// What was sent can't be taken.
    BadInput(String),
    /// Somebody else was faster.
    Conflict(String),
    /// The database or the broker is unavailable.
    Away(String),
    /// A defect.
    Broken(String),
}

#[derive(Template)]
#[template(path = "error.html")]
struct Page<'a> {
    title: &'a str,
    text: &'a str,
}

impl Failure {
    const fn title(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "Please log in",
            Self::Forbidden(_) => "Not allowed",
            Self::TooManyAttempts(_) => "Too many attempts",
            Self::NotFound(_) => "Not found",
            Self::BadInput(_) => "Invalid request",
            Self::Conflict(_) => "Already changed by someone else",
            Self::Away(_) => "Temporarily unavailable",
            Self::Broken(_) => "Internal error",
        }
    }

    const fn status(&self) -> StatusCode {
        match self {
            Self::Unknown { .. } => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::TooManyAttempts(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::BadInput(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Away(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Broken(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Unknown { .. } => "You are not logged in.".to_owned(),
            Self::TooManyAttempts(wait) => {
                format!("Wait {} seconds before you try again.", wait.as_secs() + 1)
            }
            Self::Broken(_) => {
                "This is a defect of the console; its log says more. Nothing was changed."
                    .to_owned()
            }
            Self::Forbidden(text)
            | Self::NotFound(text)
            | Self::BadInput(text)
            | Self::Conflict(text)
            | Self::Away(text) => text.clone(),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        if let Self::Unknown { back } = &self {
            let query: String = url::form_urlencoded::byte_serialize(back.as_bytes()).collect();
            return Redirect::to(&format!("/login?back={query}")).into_response();
        }
        if let Self::Broken(text) = &self {
            tracing::error!("request failed: {text}");
        }
        let text = self.text();
        let body = Page { title: self.title(), text: &text }.render();
        let mut response =
            (self.status(), Html(body.unwrap_or_else(|_| text.clone()))).into_response();
        if let Self::TooManyAttempts(wait) = self {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
        }
        response
    }
}

impl From<store::error::Error> for Failure {
    fn from(error: store::error::Error) -> Self {
        use store::error::Error;
        match error {
            Error::Outage(text) | Error::Statement(text) => {
                Self::Away(format!("The database does not answer: {text}. Try again soon."))
            }
            Error::Conflict(text) => Self::Conflict(text),
            Error::Refused(text) => Self::Broken(text),
            fenced @ Error::Fenced { .. } => Self::Conflict(fenced.to_string()),
        }
    }
}

impl From<LetterError> for Failure {
    fn from(error: LetterError) -> Self {
        match error {
            LetterError::Store(error) => error.into(),
            LetterError::Broker(error) => {
                Self::Away(format!("The broker does not answer: {error}."))
            }
            LetterError::NotFound(_) => Self::NotFound(error.to_string()),
            LetterError::Conflict(text) => Self::Conflict(text),
            LetterError::TakenOver(_) => Self::Conflict(error.to_string()),
            LetterError::StillBroken(_)
            | LetterError::Output(_)
            | LetterError::Meaningless(_)
            | LetterError::Unknown(_) => Self::BadInput(error.to_string()),
            LetterError::Config(_) => Self::Broken(error.to_string()),
        }
    }
}

/// A page, or the defect that kept it from being rendered.
pub(super) fn page(template: &impl Template) -> Result<Html<String>, Failure> {
    template.render().map(Html).map_err(|error| Failure::Broken(error.to_string()))
}
