//! What stands around every page: where one is, who one is, and how the system fares.

use askama::Template;
use axum::extract::State;
use axum::response::Html;
use chrono::{DateTime, Utc};

use crate::config::console::Role;
use crate::console::app::{App, Shared};
use crate::console::auth::Identity;
use crate::console::error::{Failure, page};
use crate::console::status::{Server, SystemStatus};
use crate::console::time_format::{Moment, grouped, span};

/// The pages' common part.
pub(super) struct Layout {
    pub(super) here: Section,
    pub(super) who: Identity,
    pub(super) status_bar: StatusBar,
    pub(super) now: DateTime<Utc>,
}

/// Which part of the console a page belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    DeadLetters,
    BulkJobs,
    Lookup,
    Lanes,
    Audit,
}

/// The status bar in the header.
#[derive(Template)]
#[template(path = "status_bar.html")]
pub(super) struct StatusBar {
    database: Light,
    broker: Light,
    lanes: Vec<Chip>,
    lanes_left_out: usize,
    per_second: String,
    p99: Option<String>,
    oldest: Option<String>,
    open: i64,
    new_within_an_hour: i64,
    letters_waiting: Option<u32>,
}

/// A server's state in words and colour.
struct Light {
    class: &'static str,
    word: &'static str,
    title: String,
}

struct Chip {
    name: String,
    class: &'static str,
    holder: String,
    ready: String,
    title: String,
}

/// Lanes beyond so many stand on the page of lanes only.
const CHIPS_MAX: usize = 4;

impl Layout {
    pub(super) fn of(app: &App, who: Identity, here: Section) -> Self {
        let now = app.clock.now();
        Self { here, who, status_bar: StatusBar::of(&app.status.latest(), now), now }
    }

    pub(super) fn is(&self, here: Section) -> bool {
        self.here == here
    }

    pub(super) fn may_operate(&self) -> bool {
        self.who.may(Role::Operator)
    }

    pub(super) fn is_admin(&self) -> bool {
        self.who.may(Role::Admin)
    }

    pub(super) const fn now(&self) -> DateTime<Utc> {
        self.now
    }

    pub(super) fn moment(&self, at: &DateTime<Utc>) -> Moment {
        Moment::of(*at, self.now)
    }
}

impl StatusBar {
    fn of(latest: &SystemStatus, now: DateTime<Utc>) -> Self {
        let lanes = latest.lanes.iter().take(CHIPS_MAX).map(|lane| {
            let (holder, title) = match &lane.held {
                None => ("no owner".to_owned(), "no worker has acquired this lane yet".to_owned()),
                Some(held) => {
                    let since = Moment::of(held.taken_at, now);
                    let title = format!(
                        "held by {} in epoch {} since {} ({})",
                        held.holder, held.epoch, since.exact, since.relative
                    );
                    (held.holder.clone(), title)
                }
            };
            let (holder, title) = match latest.pause(&lane.name) {
                None => (holder, title),
                Some(pause) => {
                    let title = format!("paused by {}: {}", pause.actor, pause.reason);
                    ("paused".to_owned(), title)
                }
            };
            let class = match lane.depth {
                Some(depth) if depth.consumers == 0 => "bad",
                Some(_) => "good",
                None => "unknown",
            };
            let ready = lane.depth.map_or("?".to_owned(), |depth| grouped(i64::from(depth.ready)));
            Chip { name: lane.name.clone(), class, holder, ready, title }
        });
        let (p99, oldest) = latest.worst();
        Self {
            database: Light::of(&latest.database),
            broker: Light::of(&latest.broker),
            lanes: lanes.collect(),
            lanes_left_out: latest.lanes.len().saturating_sub(CHIPS_MAX),
            per_second: latest.per_second().map_or("–".to_owned(), rate),
            p99: p99.map(took),
            oldest: oldest.map(span),
            open: latest.letters.open,
            new_within_an_hour: latest.letters.new_within_an_hour,
            letters_waiting: latest.letters_waiting.filter(|waiting| *waiting > 0),
        }
    }
}

/// Commands a second, with as many digits as mean something.
pub(super) fn rate(per_second: f64) -> String {
    if per_second >= 10.0 || per_second == 0.0 {
        let whole = format!("{per_second:.0}");
        whole.parse::<i64>().map_or(whole, grouped)
    } else {
        format!("{per_second:.1}")
    }
}

/// Milliseconds, with as many digits as mean something.
pub(super) fn took(milliseconds: f32) -> String {
    match milliseconds {
        ..10.0 => format!("{milliseconds:.1} ms"),
        ..10_000.0 => format!("{milliseconds:.0} ms"),
        _ => format!("{:.0} s", milliseconds / 1_000.0),
    }
}

impl Light {
    fn of(server: &Server) -> Self {
        let (class, title) = match server {
            Server::Unknown => ("unknown", String::new()),
            Server::Up => ("good", String::new()),
            Server::Down(problem) => ("bad", problem.clone()),
        };
        Self { class, word: server.word(), title }
    }
}

impl Server {
    /// The state in a word.
    pub(super) const fn word(&self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down(_) => "unavailable",
        }
    }
}

/// The status bar alone, which a page loads again while it is open.
pub(super) async fn status_bar(
    State(app): State<Shared>,
    _who: Identity,
) -> Result<Html<String>, Failure> {
    page(&StatusBar::of(&app.status.latest(), app.clock.now()))
}
