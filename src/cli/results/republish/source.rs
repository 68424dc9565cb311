//! Where answers that were published before come from: the archive of dead letters and the inbox.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};

use crate::domain::program::OrgId;
use crate::message::Message;
use crate::store::command_log::{self, CommandKey};
use crate::store::connection::Connection;
use crate::store::dead_letters::claims;
use crate::store::dead_letters::filter::Filter;
use crate::store::dead_letters::order::DeathOrder;
use crate::store::results::{self, Selection};
use crate::usecases::dead_letters::rejections::{self, RejectionEvent};
use crate::worker::lane::answer;

/// Most results that are read at once.
const RESULTS_MAX: usize = 500;
/// Most keys that are held at once: some ten megabytes.
const KEYS_MAX: i64 = 100_000;

/// An answer, as it was published.
pub(super) struct Answer {
    pub(super) command_id: Option<String>,
    pub(super) operation: String,
    pub(super) verdict: &'static str,
    pub(super) event: Message,
}

/// Rejections in the order of death, then results in the order in which they were stored: so of a
/// command that was replayed the result comes last.
pub(super) struct Source {
    connection: Connection,
    /// Letters archived later are none of ours.
    before: DateTime<Utc>,
    /// Which letters are still to come, the first last.
    letters: Vec<Filter>,
    after_letter: Option<DeathOrder>,
    /// Whose results; an org that is not in the catalogue has none.
    org_id: Option<OrgId>,
    selection: Selection,
    keys: VecDeque<CommandKey>,
    after_key: i64,
}

impl Source {
    pub(super) async fn new(
        mut connection: Connection,
        org_code: &str,
        org_id: Option<OrgId>,
        selection: Selection,
    ) -> anyhow::Result<Self> {
        let before = claims::now(&mut connection).await?;
        let of_org = Filter { org: Some(org_code.to_owned()), ..Filter::default() };
        let letters = match &selection {
            Selection::Commands(ids) => {
                let of = |id: &String| Filter { command_id: Some(id.clone()), ..of_org.clone() };
                ids.iter().rev().map(of).collect()
            }
            Selection::Stored { since, until } => {
                vec![Filter { since: Some(*since), until: *until, ..of_org }]
            }
        };
        Ok(Self {
            connection,
            before,
            letters,
            after_letter: None,
            org_id,
            selection,
            keys: VecDeque::new(),
            after_key: 0,
        })
    }

    /// The next answers, some hundreds at most; none when all were given. `wanted` is how many
    /// more are of use.
    pub(super) async fn next(&mut self, wanted: u64) -> anyhow::Result<Vec<Answer>> {
        while let Some(filter) = self.letters.last() {
            let page =
                rejections::page(&mut self.connection, filter, self.before, self.after_letter);
            let Some(page) = page.await? else {
                self.letters.pop();
                self.after_letter = None;
                continue;
            };
            self.after_letter = Some(page.next);
            if !page.published.is_empty() {
                return Ok(page.published.into_iter().map(rejected).collect());
            }
        }
        let Some(org_id) = self.org_id else { return Ok(Vec::new()) };
        loop {
            if self.keys.is_empty() && !self.more_keys(org_id, wanted).await? {
                return Ok(Vec::new());
            }
            let some = self.keys.len().min(RESULTS_MAX);
            let keys: Vec<CommandKey> = self.keys.drain(..some).collect();
            let mut found = command_log::find(&mut self.connection, &keys).await?;
            // What has left the retention since its key was read is left out.
            let stored = keys.into_iter().filter_map(|key| found.remove_entry(&key));
            let answers: Vec<Answer> = stored
                .map(|(key, stored)| Answer {
                    operation: stored.operation.as_str().to_owned(),
                    verdict: stored.verdict.as_str(),
                    event: answer::result_event(&key, &stored),
                    command_id: Some(key.command_id),
                })
                .collect();
            if !answers.is_empty() {
                return Ok(answers);
            }
        }
    }

    async fn more_keys(&mut self, org_id: OrgId, wanted: u64) -> anyhow::Result<bool> {
        let limit = i64::try_from(wanted).unwrap_or(KEYS_MAX).min(KEYS_MAX);
        let (connection, after) = (&mut self.connection, self.after_key);
        let page = results::keys(connection, org_id, &self.selection, after, limit).await?;
        let Some((last, _)) = page.last() else { return Ok(false) };
        self.after_key = *last;
        self.keys.extend(page.into_iter().map(|(_, key)| key));
        Ok(true)
    }
}

fn rejected(published: RejectionEvent) -> Answer {
    let RejectionEvent { command_id, operation, event } = published;
    Answer { command_id, operation, verdict: "rejected", event }
}
