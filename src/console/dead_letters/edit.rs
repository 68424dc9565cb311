//! Editing a copy of a letter, checked while it is edited.

use askama::Template;
use axum::extract::{Form, Multipart, Path, Query, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{Html, IntoResponse, Redirect, Response};
use serde::Deserialize;
use uuid::Uuid;

use crate::config::console::Role;
use crate::console::app::{App, Shared};
use crate::console::auth::Identity;
use crate::console::dead_letters::query::Asked;
use crate::console::error::{Failure, page};
use crate::console::layout::{Layout, Section};
use crate::domain::dead_letter;
use crate::store::dead_letters::audit::{self, AuditAction};
use crate::store::dead_letters::show::{self, Letter};
use crate::usecases::dead_letters::edit;
use crate::usecases::dead_letters::error::Error;
use crate::usecases::dead_letters::json_text;

/// The reason that the audit notes when a letter is opened here.
const OPENED: &str = "to edit a copy";
/// Likewise of a download.
const DOWNLOADED: &str = "to download the body";

#[derive(Template)]
#[template(path = "edit.html")]
struct Page {
    layout: Layout,
    letter: Letter,
    routing_key: String,
    body: String,
    reason: String,
    query: String,
    verdict: Verdict,
    /// Why it can't be edited here.
    not_text: Option<String>,
}

/// What a worker would say to the copy as it is.
enum Verdict {
    Readable,
    Broken(String),
}

pub(in crate::console) async fn form(
    State(app): State<Shared>,
    who: Identity,
    Path(id): Path<Uuid>,
    Query(asked): Query<Asked>,
) -> Result<Html<String>, Failure> {
    who.must_be(Role::Admin)?;
    let letter = load(&app, id).await?;
    let mut connection = app.database.acquire().await?;
    audit::note(&mut connection, &[id], AuditAction::Unmask, &who.actor(OPENED), None).await?;
    connection.release();
    let (body, not_text) = match json_text::text(&letter.body) {
        Ok(text) => (json_text::readable(text), None),
        Err(why) => (String::new(), Some(why.to_string())),
    };
    page(&Page {
        layout: Layout::of(&app, who, Section::DeadLetters),
        routing_key: letter.routing_key.clone(),
        verdict: verdict(&letter, &letter.routing_key, &body)?,
        body,
        reason: String::new(),
        query: asked.query(),
        letter,
        not_text,
    })
}

/// A copy as it was edited.
#[derive(Deserialize)]
pub(in crate::console) struct Edited {
    routing_key: String,
    body: String,
    #[serde(default)]
    reason: String,
    /// `check` or `save`.
    #[serde(default, rename = "do")]
    wish: String,
}

pub(in crate::console) async fn save(
    State(app): State<Shared>,
    who: Identity,
    Path(id): Path<Uuid>,
    Query(asked): Query<Asked>,
    Form(edited): Form<Edited>,
) -> Result<Response, Failure> {
    who.must_be(Role::Admin)?;
    let letter = load(&app, id).await?;
    let routing_key = edited.routing_key.trim().to_owned();
    // A browser ends the lines of a form in its own way.
    let edited = Edited { body: edited.body.replace("\r\n", "\n"), ..edited };
    let original = json_text::text(&letter.body).map_err(|why| {
        Failure::BadInput(format!("{why}: download it, and upload the changed one."))
    })?;
    let mut verdict = verdict(&letter, &routing_key, &edited.body)?;
    let actor = who.actor(&edited.reason);
    if edited.wish == "save" && matches!(verdict, Verdict::Readable) {
        if actor.reason.is_empty() {
            verdict = Verdict::Broken("Say why: the audit keeps it.".to_owned());
        } else {
            let mut connection = app.database.acquire().await?;
            let body = json_text::merged(original, &edited.body).into_bytes();
            let copy = edit::edit(&mut connection, id, Some(&routing_key), &body, &actor).await?;
            connection.release();
            tracing::info!(letter.id = %id, "{} puts the edited copy {copy} for letter {id}", who.name);
            return Ok(Redirect::to(&format!("/dead-letters/{copy}")).into_response());
        }
    }
    let shown = page(&Page {
        layout: Layout::of(&app, who, Section::DeadLetters),
        letter,
        routing_key,
        body: edited.body,
        reason: edited.reason,
        query: asked.query(),
        verdict,
        not_text: None,
    })?;
    Ok(shown.into_response())
}

/// The body, byte for byte.
pub(in crate::console) async fn download(
    State(app): State<Shared>,
    who: Identity,
    Path(id): Path<Uuid>,
) -> Result<Response, Failure> {
    who.must_be(Role::Admin)?;
    let mut connection = app.database.acquire().await?;
    let letter = show::show(&mut connection, id).await?;
    let letter =
        letter.ok_or_else(|| Failure::NotFound(format!("There is no dead letter {id}.")))?;
    audit::note(&mut connection, &[id], AuditAction::Unmask, &who.actor(DOWNLOADED), None).await?;
    connection.release();
    let name = format!("attachment; filename=\"dead-letter-{id}.body\"");
    let headers =
        [(CONTENT_TYPE, "application/octet-stream".to_owned()), (CONTENT_DISPOSITION, name)];
    Ok((headers, letter.body).into_response())
}

/// Puts a copy with the uploaded body in the letter's place, byte for byte.
pub(in crate::console) async fn upload(
    State(app): State<Shared>,
    who: Identity,
    Path(id): Path<Uuid>,
    mut form: Multipart,
) -> Result<Redirect, Failure> {
    who.must_be(Role::Admin)?;
    let unreadable = |_| Failure::BadInput("The upload can't be read: try again.".to_owned());
    let (mut reason, mut routing_key, mut body) = (String::new(), None, None);
    while let Some(field) = form.next_field().await.map_err(unreadable)? {
        match field.name() {
            Some("reason") => reason = field.text().await.map_err(unreadable)?,
            Some("routing_key") => {
                routing_key = Some(field.text().await.map_err(unreadable)?.trim().to_owned());
            }
            Some("body") => body = Some(field.bytes().await.map_err(unreadable)?),
            _ => {}
        }
    }
    let body = body.ok_or_else(|| Failure::BadInput("Choose a file with the body.".to_owned()))?;
    let actor = who.actor(&reason);
    if actor.reason.is_empty() {
        return Err(Failure::BadInput("Say why: the audit keeps it.".to_owned()));
    }
    let mut connection = app.database.acquire().await?;
    let copy = edit::edit(&mut connection, id, routing_key.as_deref(), &body, &actor).await?;
    connection.release();
    tracing::info!(letter.id = %id, "{} puts the uploaded copy {copy} for letter {id}", who.name);
    Ok(Redirect::to(&format!("/dead-letters/{copy}")))
}

async fn load(app: &App, id: Uuid) -> Result<Letter, Failure> {
    let mut connection = app.database.acquire().await?;
    let letter = show::show(&mut connection, id).await?;
    connection.release();
    let letter =
        letter.ok_or_else(|| Failure::NotFound(format!("There is no dead letter {id}.")))?;
    if letter.state != dead_letter::State::Open {
        let state = letter.state.as_str().replace('_', " ");
        return Err(Failure::Conflict(format!(
            "Only an open letter is edited; this one is {state}."
        )));
    }
    Ok(letter)
}

fn verdict(letter: &Letter, routing_key: &str, body: &str) -> Result<Verdict, Failure> {
    match edit::check(letter, routing_key, body.as_bytes()) {
        Ok(()) => Ok(Verdict::Readable),
        Err(Error::StillBroken(rejection)) => {
            Ok(Verdict::Broken(format!("{}: {}", rejection.reason, rejection.detail)))
        }
        Err(error) => Err(error.into()),
    }
}
