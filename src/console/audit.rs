//! Who did what with which letter, newest first.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Html;
use serde::Deserialize;

use crate::console::app::Shared;
use crate::console::error::{Failure, page};
use crate::console::layout::{Layout, Section};
use crate::store::dead_letters::audit::{self, Action};

use crate::console::auth::Identity;

const PAGE: i64 = 100;

#[derive(Template)]
#[template(path = "audit.html")]
struct Page {
    layout: Layout,
    actions: Vec<Action>,
    next: Option<i64>,
    is_first: bool,
}

/// Which page.
#[derive(Deserialize)]
pub(super) struct Asked {
    after: Option<i64>,
}

pub(super) async fn list(
    State(app): State<Shared>,
    who: Identity,
    Query(asked): Query<Asked>,
) -> Result<Html<String>, Failure> {
    let mut connection = app.database.acquire().await?;
    let actions = audit::recent(&mut connection, asked.after, PAGE).await?;
    connection.release();
    let is_full = i64::try_from(actions.len()).is_ok_and(|count| count == PAGE);
    page(&Page {
        layout: Layout::of(&app, who, Section::Audit),
        next: actions.last().filter(|_| is_full).map(|action| action.id),
        actions,
        is_first: asked.after.is_none(),
    })
}
