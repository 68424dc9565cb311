//! Actions on dead letters: first a preview, then, with a reason, the action.
//!
//! An action is a bulk job that a worker runs, so closing the page stops nothing. Only an export
//! runs here, because it goes to the browser.

use std::io;

use askama::Template;
use axum::body::Body;
use axum::extract::{RawForm, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{Html, IntoResponse, Redirect, Response};
use futures_util::stream::unfold;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::config::console::Role;
use crate::console::app::{App, Shared};
use crate::console::auth::Identity;
use crate::console::dead_letters::query::Asked;
use crate::console::error::{Failure, page};
use crate::console::layout::{Layout, Section};
use crate::console::time_format::grouped;
use crate::domain::bulk_job::{BulkJobKind, BulkJobState};
use crate::store::dead_letters::bulk_jobs::{BulkJob, Plan};
use crate::store::dead_letters::filter::Filter;
use crate::store::dead_letters::list::Count;
use crate::usecases::dead_letters::error::Error as LetterError;
use crate::usecases::dead_letters::export::{self as exporting, Destination};
use crate::usecases::dead_letters::run::{self, Outcome};
use crate::usecases::dead_letters::selection::{self, Bounds, Preview};

/// The most dead letters that are checked one by one for a preview.
const PREVIEW_MAX: i64 = 20_000;
/// Portions of an export that wait for the browser.
const PORTIONS_AHEAD: usize = 1;
/// Longest reason, in characters.
const REASON_CHARS_MAX: usize = 500;

/// The fields of a form; some occur several times.
struct Fields(Vec<(String, String)>);

impl Fields {
    fn read(form: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(form).into_owned().collect())
    }

    fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value.trim())
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Failure> {
        match self.get(name) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                Failure::BadInput(format!("{text} is no number that {name} could be."))
            }),
        }
    }

    fn action(&self) -> Result<BulkJobKind, Failure> {
        self.get("action")
            .parse()
            .map_err(|_| Failure::BadInput("Choose an action first.".to_owned()))
    }

    fn ids(&self) -> Vec<Uuid> {
        let ids = self.0.iter().filter(|(name, _)| name == "id");
        ids.filter_map(|(_, id)| id.parse().ok()).collect()
    }

    fn asked(&self) -> Result<Asked, Failure> {
        let query = self.get("query").trim_start_matches('?');
        let uri = format!("/?{query}").parse().map_err(|_| unreadable())?;
        let asked = axum::extract::Query::<Asked>::try_from_uri(&uri).map_err(|_| unreadable())?;
        Ok(asked.0)
    }
}

fn unreadable() -> Failure {
    Failure::BadInput("The filter can't be read: go back and choose again.".to_owned())
}

fn allowed(who: &Identity, kind: BulkJobKind) -> Result<(), Failure> {
    who.must_be(match kind {
        BulkJobKind::Replay | BulkJobKind::Discard | BulkJobKind::Restore => Role::Operator,
        BulkJobKind::Export => Role::Admin,
    })
}

#[derive(Template)]
#[template(path = "plan.html")]
struct Planned {
    layout: Layout,
    kind: &'static str,
    filter: String,
    query: String,
    count: Count,
    preview: Option<Preview>,
    is_single: bool,
}

impl Planned {
    fn counted(&self) -> String {
        let more = if self.count.is_exact { "" } else { "more than " };
        format!("{more}{}", grouped(self.count.letters))
    }

    /// Letters that it would be done with, as far as that is known.
    fn is_pointless(&self) -> bool {
        self.count.letters == 0 || self.preview.as_ref().is_some_and(|known| known.eligible == 0)
    }

    fn eligible(&self) -> String {
        match &self.preview {
            Some(known) => grouped(i64::try_from(known.eligible).unwrap_or(i64::MAX)),
            None => self.counted(),
        }
    }
}

/// Shows what the action would do; changes nothing.
pub(in crate::console) async fn plan(
    State(app): State<Shared>,
    who: Identity,
    RawForm(form): RawForm,
) -> Result<Html<String>, Failure> {
    let fields = Fields::read(&form);
    let kind = fields.action()?;
    allowed(&who, kind)?;
    let layout = Layout::of(&app, who, Section::DeadLetters);
    let asked = fields.asked()?;
    let ids = fields.ids();
    let filter = if fields.get("all") == "1" {
        // The user who chose "all" has not seen those that die from now on.
        Filter { until: Some(layout.now), ..asked.filter(layout.now) }
    } else if ids.is_empty() {
        return Err(Failure::BadInput("Select dead letters first.".to_owned()));
    } else {
        Filter::of_ids(ids)
    };
    let filter = selection::meant(kind, filter);
    let (count, preview) = preview(&app, kind, &filter).await?;
    page(&Planned {
        kind: kind.as_str(),
        is_single: filter.ids.len() == 1,
        filter: filter.to_json().to_string(),
        query: asked.query(),
        count,
        preview,
        layout,
    })
}

async fn preview(
    app: &App,
    kind: BulkJobKind,
    filter: &Filter,
) -> Result<(Count, Option<Preview>), Failure> {
    let mut connection = app.database.acquire().await?;
    let count = selection::count(&mut connection, kind, filter).await?;
    let preview = if kind == BulkJobKind::Replay && count.letters <= PREVIEW_MAX {
        Some(
            selection::preview(&mut connection, &app.config, filter, Bounds::default(), |_| {})
                .await?,
        )
    } else {
        None
    };
    connection.release();
    Ok((count, preview))
}

fn planned(fields: &Fields, who: &Identity) -> Result<Plan, Failure> {
    let kind = fields.action()?;
    allowed(who, kind)?;
    let json = serde_json::from_str(fields.get("filter")).map_err(|_| unreadable())?;
    let filter = Filter::from_json(&json).ok_or_else(unreadable)?;
    let reason: String = fields.get("reason").chars().take(REASON_CHARS_MAX).collect();
    let actor = who.actor(&reason);
    if actor.reason.is_empty() {
        return Err(Failure::BadInput("Say why: the audit keeps it.".to_owned()));
    }
    let dead_letters_max = fields.number::<i64>("limit")?.filter(|most| *most > 0);
    let dead_letters_per_second = fields.number::<i32>("rate")?.filter(|rate| *rate > 0);
    let overrides_publisher = false;
    Ok(Plan { kind, filter, actor, dead_letters_max, dead_letters_per_second, overrides_publisher })
}

/// Creates the bulk job; a worker takes it over within a second.
pub(in crate::console) async fn act(
    State(app): State<Shared>,
    who: Identity,
    RawForm(form): RawForm,
) -> Result<Redirect, Failure> {
    let plan = planned(&Fields::read(&form), &who)?;
    if plan.kind == BulkJobKind::Export {
        return Err(Failure::BadInput("An export goes to a file.".to_owned()));
    }
    let mut connection = app.database.acquire().await?;
    let job = run::begin(&mut connection, plan, None).await?;
    connection.release();
    tracing::info!(
        bulk_job.id = %job.id,
        "{} starts bulk job {}: {}", who.name, job.id, job.kind.as_str()
    );
    Ok(Redirect::to(&format!("/bulk-jobs/{}", job.id)))
}

/// Sends the letters as lines of JSON, as they are read.
pub(in crate::console) async fn export(
    State(app): State<Shared>,
    who: Identity,
    RawForm(form): RawForm,
) -> Result<Response, Failure> {
    let plan = planned(&Fields::read(&form), &who)?;
    allowed(&who, BulkJobKind::Export)?;
    let runner = format!("console {} {}", app.config.worker_id, Uuid::now_v7());
    let plan = Plan { kind: BulkJobKind::Export, ..plan };
    let mut connection = app.database.acquire().await?;
    let job = run::begin(&mut connection, plan, Some(&runner)).await?;
    let name = format!("attachment; filename=\"dead-letters-{}.ndjson\"", job.id);
    let headers = [(CONTENT_TYPE, "application/x-ndjson".to_owned()), (CONTENT_DISPOSITION, name)];
    connection.release();
    let (lines, sent) = mpsc::channel(PORTIONS_AHEAD);
    tokio::spawn(send_export(app, job, runner, lines));
    let stream = unfold(sent, async |mut sent| Some((sent.recv().await?, sent)));
    Ok((headers, Body::from_stream(stream)).into_response())
}

/// Sends the lines. If it can't send all, the browser is to see that its file is not whole.
async fn send_export(
    app: Shared,
    job: BulkJob,
    runner: String,
    lines: mpsc::Sender<io::Result<Vec<u8>>>,
) {
    let id = job.id;
    let exported = async {
        let mut connection = app.database.acquire().await.map_err(|_away| {
            LetterError::Conflict("the database does not answer; try again".to_owned())
        })?;
        let (config, mut browser) = (&app.config, Browser(lines.clone()));
        let exporting =
            exporting::export(&mut connection, config, &job, &runner, &mut browser, |_| {});
        let exported = exporting.await?;
        connection.release();
        Ok::<Outcome, LetterError>(exported)
    };
    match exported.await {
        Ok(Outcome { end: BulkJobState::Done, .. }) => {}
        Ok(_cancelled) => break_off(&lines, "the export was cancelled").await,
        Err(error) => {
            tracing::warn!(bulk_job.id = %id, "export {id} failed: {error}");
            break_off(&lines, &error.to_string()).await;
        }
    }
}

async fn break_off(lines: &mpsc::Sender<io::Result<Vec<u8>>>, why: &str) {
    // If it is gone there is nothing to tell it.
    drop(lines.send(Err(io::Error::other(why.to_owned()))).await);
}

/// A download.
struct Browser(mpsc::Sender<io::Result<Vec<u8>>>);

impl Destination for Browser {
    async fn write(&mut self, lines: Vec<u8>) -> io::Result<()> {
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the download was broken off");
        self.0.send(Ok(lines)).await.map_err(gone)
    }

    async fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}
