//! Which letters an operation is about, and what would come of it.

use std::collections::BTreeMap;

use crate::config::Config;
use crate::domain::bulk_job::BulkJobKind;
use crate::domain::dead_letter::State;
use crate::store::connection::Connection;
use crate::store::dead_letters::claims::{self, Key};
use crate::store::dead_letters::filter::Filter;
use crate::store::dead_letters::list::{self, Count};
use crate::store::dead_letters::show;
use crate::store::lookup;
use crate::store::session::answered;
use crate::usecases::dead_letters::eligible::{self, Rules};
use crate::usecases::dead_letters::error::Error;
use crate::usecases::dead_letters::steps::{portions, unloadable};
use crate::wire::customer_keys;

/// Letters that are looked at together.
const PAGE: i64 = 200;

/// What a replay would come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// Letters that would be published.
    pub eligible: u64,
    /// Letters that would not be, by the reason.
    pub skipped: BTreeMap<String, u64>,
}

impl Preview {
    /// All letters that were looked at.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.eligible + self.skipped.values().sum::<u64>()
    }
}

/// What bounds a replay beside its filter.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    /// Stop after so many.
    pub dead_letters_max: Option<i64>,
    /// Whether it has effect although the publisher may not act for the org.
    pub overrides_publisher: bool,
}

/// The filter as an operation of that kind means it: without a state or ids in it, a replay or a
/// discard is about open letters, and a restore about discarded ones.
#[must_use]
pub fn meant(kind: BulkJobKind, mut filter: Filter) -> Filter {
    if filter.ids.is_empty() && filter.state.is_none() {
        filter.state = match kind {
            BulkJobKind::Replay | BulkJobKind::Discard => Some(State::Open),
            BulkJobKind::Restore => Some(State::Discarded),
            BulkJobKind::Export => None,
        };
    }
    filter
}

/// Adds the customer whom the text identifies, in whatever spelling, to the filter.
pub async fn with_customer(
    connection: &mut Connection,
    filter: Filter,
    identifier: &str,
) -> Result<Filter, Error> {
    let codes = lookup::country_codes(connection).await?;
    Ok(Filter { customer_keys: customer_keys::of_search(identifier, &codes), ..filter })
}

/// How many letters the operation is about.
pub async fn count(
    connection: &mut Connection,
    kind: BulkJobKind,
    filter: &Filter,
) -> Result<Count, Error> {
    Ok(list::count(connection, &meant(kind, filter.clone())).await?)
}

/// What a replay would come to; nothing is changed. `observe` hears how many letters were looked
/// at.
pub async fn preview(
    connection: &mut Connection,
    config: &Config,
    filter: &Filter,
    bounds: Bounds,
    mut observe: impl FnMut(u64),
) -> Result<Preview, Error> {
    let filter = meant(BulkJobKind::Replay, filter.clone());
    let rules = rules(connection, config, bounds.overrides_publisher).await?;
    let mut preview = Preview::default();
    let before = claims::now(connection).await?;
    let mut after = None;
    let mut left = bounds.dead_letters_max.unwrap_or(i64::MAX);
    while left > 0 {
        let page = claims::page(connection, &filter, before, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.order);
        let looked_at = page.len();
        let mut skip = |why: String| *preview.skipped.entry(why).or_default() += 1;
        let (large, page): (Vec<Key>, Vec<Key>) =
            page.into_iter().partition(|key| unloadable(key).is_some());
        large.iter().filter_map(unloadable).for_each(&mut skip);
        for portion in portions(&page) {
            for letter in show::letters(connection, &portion).await? {
                match eligible::check(&letter, &rules) {
                    Ok(_) if left > 0 => {
                        left -= 1;
                        preview.eligible += 1;
                    }
                    Ok(_) => {}
                    Err(why) => skip(why),
                }
            }
        }
        observe(u64::try_from(looked_at).unwrap_or_default());
    }
    Ok(preview)
}

/// What the check of a replay needs.
pub(super) async fn rules<'a>(
    connection: &mut Connection,
    config: &'a Config,
    overrides_publisher: bool,
) -> Result<Rules<'a>, Error> {
    let orgs = answered(lookup::org_codes(connection)).await?.into_iter().collect();
    Ok(Rules { config, user: config.amqp_user(), orgs, overrides_publisher })
}
