//! Editing a copy of a letter, checked while it is edited.

use askama::Template;
use axum::extract::{Form, Path, Query, State};
use axum::response::{Html, IntoResponse, Redirect, Response};
use serde::Deserialize;
use uuid::Uuid;

use crate::config::console::Role;
use crate::console::app::{App, Shared};
use crate::console::failure::{Failure, page};
use crate::console::frame::{Frame, Here};
use crate::console::json;
use crate::console::letters::asked::Asked;
use crate::console::who::Identity;
use crate::domain::dead_letter;
use crate::ops::dead_letters::edit;
use crate::ops::dead_letters::error::Error;
use crate::store::dead_letters::audit::{self, Deed};
use crate::store::dead_letters::show::{self, Letter};

/// What the audit says of whoever opens a letter here.
const OPENED: &str = "to edit a copy";

#[derive(Template)]
#[template(path = "edit.html")]
struct Page {
    frame: Frame,
    letter: Letter,
    routing_key: String,
    body: String,
    reason: String,
    query: String,
    verdict: Verdict,
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
    let mut connection = app.database.lend().await?;
    audit::note(&mut connection, &[id], Deed::Unmask, &who.actor(OPENED), None).await?;
    connection.give_back();
    let body = json::editable(&letter.body);
    page(&Page {
        frame: Frame::of(&app, who, Here::Letters),
        routing_key: letter.routing_key.clone(),
        verdict: verdict(&letter, &letter.routing_key, &body)?,
        body,
        reason: String::new(),
        query: asked.query(),
        letter,
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
    let mut verdict = verdict(&letter, &routing_key, &edited.body)?;
    let actor = who.actor(&edited.reason);
    if edited.wish == "save" && matches!(verdict, Verdict::Readable) {
        if actor.reason.is_empty() {
            verdict = Verdict::Broken("Say why: the audit keeps it.".to_owned());
        } else {
            let mut connection = app.database.lend().await?;
            let body = edited.body.as_bytes();
            let copy = edit::edit(&mut connection, id, Some(&routing_key), body, &actor).await?;
            connection.give_back();
            tracing::info!(letter.id = %id, "{} puts the edited copy {copy} for letter {id}", who.name);
            return Ok(Redirect::to(&format!("/letters/{copy}")).into_response());
        }
    }
    let shown = page(&Page {
        frame: Frame::of(&app, who, Here::Letters),
        letter,
        routing_key,
        body: edited.body,
        reason: edited.reason,
        query: asked.query(),
        verdict,
    })?;
    Ok(shown.into_response())
}

async fn load(app: &App, id: Uuid) -> Result<Letter, Failure> {
    let mut connection = app.database.lend().await?;
    let letter = show::show(&mut connection, id).await?;
    connection.give_back();
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
