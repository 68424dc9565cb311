//! The page of the letters: groups on the left, the list in the middle, one letter on the right.

use askama::Template;
use axum::extract::{Form, Path, Query, State};
use axum::response::Html;
use serde::Deserialize;
use uuid::Uuid;

use crate::config::console::Role;
use crate::console::app::{App, Shared};
use crate::console::auth::Identity;
use crate::console::chart::{self, Bar};
use crate::console::dead_letters::detail::{self, Detail};
use crate::console::dead_letters::query::{AGES, Asked};
use crate::console::error::{Failure, page};
use crate::console::layout::{Layout, Section};
use crate::console::time_format::grouped;
use crate::domain::command::Operation;
use crate::domain::dead_letter;
use crate::domain::rejection::Reason;
use crate::store::dead_letters::audit::{self, AuditAction};
use crate::store::dead_letters::filter::Filter;
use crate::store::dead_letters::groups::{self, Group};
use crate::store::dead_letters::list::{self, Count, Summary};

const LIST: i64 = 50;
const GROUPS: i64 = 60;

#[derive(Template)]
#[template(path = "dead_letters.html")]
struct Page {
    layout: Layout,
    asked: Asked,
    menus: Menus,
    groups: Vec<Shown>,
    letters: Vec<Summary>,
    count: Count,
    next: Option<String>,
    detail: Option<Detail>,
}

struct Shown {
    group: Group,
    spark: Vec<Bar>,
    dead_within_a_day: i64,
}

/// What the filters offer.
struct Menus {
    ages: [(&'static str, &'static str); 5],
    operations: Vec<&'static str>,
    reasons: Vec<&'static str>,
    states: Vec<&'static str>,
}

impl Menus {
    fn new() -> Self {
        let reasons = Reason::ALL.iter().map(|reason| reason.as_str());
        Self {
            ages: AGES,
            operations: Operation::ALL
                .iter()
                .map(|operation| operation.as_str())
                .chain(["unknown"])
                .collect(),
            reasons: reasons.chain(["delivery-limit", "maxlen", "rejected", "unknown"]).collect(),
            states: dead_letter::State::ALL.iter().map(|state| state.as_str()).collect(),
        }
    }
}

impl Page {
    fn is_chosen(&self, id: &Uuid) -> bool {
        self.detail.as_ref().is_some_and(|detail| detail.letter.id == *id)
    }

    fn counted(&self) -> String {
        let more = if self.count.is_exact { "" } else { "more than " };
        format!("{more}{}", grouped(self.count.letters))
    }

    /// Whether letters that could be replayed or discarded are among those asked for.
    fn offers_open(&self) -> bool {
        matches!(self.asked.state_word(), "open" | "any")
    }

    fn offers_restore(&self) -> bool {
        matches!(self.asked.state_word(), "discarded" | "replayed" | "any")
    }

    fn letter_address(&self, id: &Uuid) -> String {
        format!("/dead-letters/{id}{}", self.asked.query())
    }
}

/// The state in words.
pub(in crate::console) fn state_label(state: &str) -> String {
    state.replace('_', " ")
}

pub(in crate::console) async fn list(
    State(app): State<Shared>,
    who: Identity,
    Query(asked): Query<Asked>,
) -> Result<Html<String>, Failure> {
    browse(&app, who, asked, None).await
}

pub(in crate::console) async fn show(
    State(app): State<Shared>,
    who: Identity,
    Path(id): Path<Uuid>,
    Query(asked): Query<Asked>,
) -> Result<Html<String>, Failure> {
    let mut connection = app.database.acquire().await?;
    let detail = detail::load(&mut connection, id, false).await?;
    connection.release();
    browse(&app, who, asked, Some(detail)).await
}

/// Why a user wants to see personal data.
#[derive(Deserialize)]
pub(in crate::console) struct PauseForm {
    reason: String,
}

/// Shows one letter with its personal data, once, and notes who saw it.
pub(in crate::console) async fn unmask(
    State(app): State<Shared>,
    who: Identity,
    Path(id): Path<Uuid>,
    Query(asked): Query<Asked>,
    Form(wish): Form<PauseForm>,
) -> Result<Html<String>, Failure> {
    who.must_be(Role::Admin)?;
    let actor = who.actor(&wish.reason);
    if actor.reason.is_empty() {
        return Err(Failure::BadInput("Say why: the audit keeps it.".to_owned()));
    }
    let mut connection = app.database.acquire().await?;
    let detail = detail::load(&mut connection, id, true).await?;
    audit::note(&mut connection, &[id], AuditAction::Unmask, &actor, None).await?;
    connection.release();
    browse(&app, who, asked, Some(detail)).await
}

async fn browse(
    app: &App,
    who: Identity,
    asked: Asked,
    detail: Option<Detail>,
) -> Result<Html<String>, Failure> {
    let layout = Layout::of(app, who, Section::DeadLetters);
    let filter = asked.filter(layout.now);
    // The groups stay when one of them is chosen.
    let of_any_group = Filter { fingerprint: None, ..filter.clone() };
    let mut connection = app.database.acquire().await?;
    let groups = groups::groups(&mut connection, &of_any_group, GROUPS).await?;
    let letters = list::list(&mut connection, &filter, asked.cursor(), LIST).await?;
    let count = list::count(&mut connection, &filter).await?;
    connection.release();
    let is_full = i64::try_from(letters.len()).is_ok_and(|letters| letters == LIST);
    let next =
        letters.last().filter(|_| is_full).map(|last| asked.from(&last.cursor().to_string()));
    let groups = groups.into_iter().map(|group| Shown {
        spark: chart::bars(&group.hours),
        dead_within_a_day: group.hours.iter().sum(),
        group,
    });
    page(&Page {
        layout,
        menus: Menus::new(),
        groups: groups.collect(),
        letters,
        count,
        next,
        detail,
        asked,
    })
}
