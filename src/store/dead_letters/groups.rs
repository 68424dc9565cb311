//! Letters that failed alike: same operation, same reason, same detail but for its numbers.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::domain::dead_letter::State;
use crate::store::connection::Connection;
use crate::store::dead_letters::filter::Filter;
use crate::store::error::Error;
use crate::store::text::replace_nul;

/// How many hours a group tells apart.
pub const HOURS: usize = 24;

/// Letters with one fingerprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What they share.
    pub fingerprint: String,
    /// `link`, `update`, `delink` or `unknown`.
    pub operation: String,
    /// A word of the contract, or the broker's.
    pub reason: String,
    /// The detail, with `#` for each number.
    pub detail: String,
    /// The codes of their orgs, a few of them.
    pub orgs: Vec<String>,
    /// How many are in which state.
    pub letters: Letters,
    /// The first death.
    pub first_died_at: DateTime<Utc>,
    /// The last death.
    pub last_died_at: DateTime<Utc>,
    /// Deaths in each of the last hours, the present one last; whatever the filter's other parts.
    pub hours: Vec<i64>,
}

/// Letters by their state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Letters {
    /// Nobody has done anything about these.
    pub open: i64,
    /// Claimed, about to be published.
    pub replaying: i64,
    /// Published, outcome not known yet.
    pub replayed: i64,
    /// Replayed, and took effect.
    pub applied: i64,
    /// Replayed, and died again.
    pub failed_again: i64,
    /// Put aside.
    pub discarded: i64,
    /// Replaced by an edited copy.
    pub superseded: i64,
}

impl Letters {
    /// How many were replayed, whatever came of it.
    #[must_use]
    pub const fn replays(&self) -> i64 {
        self.replayed + self.applied + self.failed_again
    }

    /// All of them.
    #[must_use]
    pub const fn total(&self) -> i64 {
        self.open + self.replaying + self.replays() + self.discarded + self.superseded
    }
}

struct Row {
    fingerprint: String,
    operation: String,
    reason: String,
    orgs: Vec<String>,
    open: i64,
    replaying: i64,
    replayed: i64,
    applied: i64,
    failed_again: i64,
    discarded: i64,
    superseded: i64,
    first_died_at: DateTime<Utc>,
    last_died_at: DateTime<Utc>,
}

/// The groups of the letters that the filter means, those with most open letters first. A state
/// in the filter means groups that have letters in it.
///
/// A filter of nothing but org, operation, reason, fingerprint, state and a text without numbers
/// is answered from counts; any other looks at the letters themselves.
pub async fn groups(
    connection: &mut Connection,
    filter: &Filter,
    limit: i64,
) -> Result<Vec<Group>, Error> {
    let rows = if filter.is_counted(connection).await? {
        counted(connection, filter, limit).await?
    } else {
        looked_at(connection, filter, limit).await?
    };
    let fingerprints: Vec<String> = rows.iter().map(|row| row.fingerprint.clone()).collect();
    let mut hours = hours(connection, &fingerprints, filter.org.as_deref()).await?;
    let mut details = details(connection, &fingerprints).await?;
    let group = |row: Row| Group {
        hours: hours.remove(&row.fingerprint).unwrap_or_else(|| vec![0; HOURS]),
        detail: details.remove(&row.fingerprint).unwrap_or_default(),
        fingerprint: row.fingerprint,
        operation: row.operation,
        reason: row.reason,
        orgs: row.orgs,
        letters: Letters {
            open: row.open,
            replaying: row.replaying,
            replayed: row.replayed,
            applied: row.applied,
            failed_again: row.failed_again,
            discarded: row.discarded,
            superseded: row.superseded,
        },
        first_died_at: row.first_died_at,
        last_died_at: row.last_died_at,
    };
    Ok(rows.into_iter().map(group).collect())
}

async fn counted(
    connection: &mut Connection,
    filter: &Filter,
    limit: i64,
) -> Result<Vec<Row>, Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"select fingerprint, min(operation) as "operation!", min(reason) as "reason!",
            (array_agg(distinct org_code))[:5] as "orgs!",
            coalesce(sum(letters) filter (where state = 'open'), 0)::bigint as "open!",
            coalesce(sum(letters) filter (where state = 'replaying'), 0)::bigint as "replaying!",
            coalesce(sum(letters) filter (where state = 'replayed'), 0)::bigint as "replayed!",
            coalesce(sum(letters) filter (where state = 'applied'), 0)::bigint as "applied!",
            coalesce(sum(letters) filter (where state = 'failed_again'), 0)::bigint
                as "failed_again!",
            coalesce(sum(letters) filter (where state = 'discarded'), 0)::bigint as "discarded!",
            coalesce(sum(letters) filter (where state = 'superseded'), 0)::bigint as "superseded!",
            min(first_died_at) as "first_died_at!", max(last_died_at) as "last_died_at!"
        from dead_letter_group
        where letters > 0
            and ($1::text is null or org_code = $1) and ($2::text is null or operation = $2)
            and ($3::text is null or reason = $3) and ($4::text is null or fingerprint = $4)
            and ($7::text is null or strpos(detail, dead_letter_normalised($7)) > 0)
        group by fingerprint
        having $5::text is null or sum(letters) filter (where state = $5) > 0
        order by 5 desc, 13 desc, fingerprint limit $6"#,
        filter.org.as_deref().map(replace_nul),
        filter.operation.as_deref().map(replace_nul),
        filter.reason.as_deref().map(replace_nul),
        filter.fingerprint.as_deref().map(replace_nul),
        filter.state.map(State::as_str),
        limit,
        filter.text.as_deref().map(replace_nul),
    )
    .fetch_all(connection)
    .await?;
    Ok(rows)
}

async fn looked_at(
    connection: &mut Connection,
    filter: &Filter,
    limit: i64,
) -> Result<Vec<Row>, Error> {
    let filter = filter.resolve(connection).await?;
    let rows = sqlx::query_as!(
        Row,
        r#"select fingerprint as "fingerprint!", min(operation) as "operation!",
            min(reason) as "reason!",
            (array_agg(distinct coalesce(org_code, '')))[:5] as "orgs!",
            count(*) filter (where state = 'open') as "open!",
            count(*) filter (where state = 'replaying') as "replaying!",
            count(*) filter (where state = 'replayed') as "replayed!",
            count(*) filter (where state = 'applied') as "applied!",
            count(*) filter (where state = 'failed_again') as "failed_again!",
            count(*) filter (where state = 'discarded') as "discarded!",
            count(*) filter (where state = 'superseded') as "superseded!",
            min(first_died_at) as "first_died_at!", max(last_died_at) as "last_died_at!"
        from dead_letter_matching($1)
        group by fingerprint order by 5 desc, 13 desc, fingerprint limit $2"#,
        filter,
        limit,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows)
}

/// Deaths by hour, by fingerprint.
async fn hours(
    connection: &mut Connection,
    fingerprints: &[String],
    org: Option<&str>,
) -> Result<HashMap<String, Vec<i64>>, Error> {
    let rows = sqlx::query!(
        r#"select fingerprint, sum(letters)::bigint as "letters!",
            (extract(epoch from date_trunc('hour', now(), 'UTC') - hour) / 3600)::int as "ago!"
        from dead_letter_group_hour
        where hour > date_trunc('hour', now(), 'UTC') - interval '24 hours' and hour <= now()
            and fingerprint = any($1) and ($2::text is null or org_code = $2)
        group by fingerprint, hour"#,
        fingerprints,
        org,
    )
    .fetch_all(connection)
    .await?;
    let mut hours: HashMap<String, Vec<i64>> = HashMap::new();
    for row in rows {
        let counts = hours.entry(row.fingerprint).or_insert_with(|| vec![0; HOURS]);
        let place = usize::try_from(row.ago).ok().and_then(|ago| (HOURS - 1).checked_sub(ago));
        if let Some(count) = place.and_then(|place| counts.get_mut(place)) {
            *count = row.letters;
        }
    }
    Ok(hours)
}

/// The detail of each group, in its letters' own spelling but for the numbers.
async fn details(
    connection: &mut Connection,
    fingerprints: &[String],
) -> Result<HashMap<String, String>, Error> {
    let rows = sqlx::query!(
        r#"select fingerprint as "fingerprint!",
            regexp_replace(letter.detail, '[0-9]+', '#', 'g') as "detail!"
        from unnest($1::text[]) as shown (fingerprint)
        cross join lateral
            (select detail from dead_letter where fingerprint = shown.fingerprint limit 1) letter"#,
        fingerprints,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.fingerprint, row.detail)).collect())
}
