//! Pages of letters, newest first, and how many there are.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::dead_letter::State;
use crate::store::connection::Connection;
use crate::store::dead_letters::filter::{Cursor, Filter};
use crate::store::error::Error;
use crate::store::text::replace_nul;

/// Letters beyond so many are not counted one by one.
const COUNTED_MAX: i64 = 100_000;

/// What a list shows of a letter: no personal data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The letter's own id.
    pub id: Uuid,
    /// The org's code, where the routing key had one.
    pub org: Option<String>,
    /// `link`, `update`, `delink` or `unknown`.
    pub operation: String,
    /// The lane that it died in.
    pub lane: Option<String>,
    /// A word of the contract, or the broker's.
    pub reason: String,
    /// For people.
    pub detail: String,
    /// The place in the body that the detail is about, as a JSON pointer.
    pub pointer: Option<String>,
    /// Its group.
    pub fingerprint: String,
    /// Where it stands.
    pub state: State,
    /// The publisher's message id.
    pub command_id: Option<String>,
    /// As the publisher set it.
    pub correlation_id: Option<String>,
    /// How often the worker tried it before it died.
    pub attempts: i32,
    /// How often this very letter died.
    pub deaths: i32,
    /// When the first letter of its replays died.
    pub first_died_at: DateTime<Utc>,
    /// When this one died.
    pub last_died_at: DateTime<Utc>,
    /// With `delivery_tag` its place in the lane's queue, if that is known.
    pub lane_epoch: Option<i64>,
    /// See `lane_epoch`.
    pub delivery_tag: Option<i64>,
    /// The size of the body.
    pub body_bytes: i32,
    /// The letter that it came back from.
    pub replay_of: Option<Uuid>,
    /// The letter that it is an edited copy of.
    pub edited_from: Option<Uuid>,
    /// Its number among all letters.
    pub sequence: i64,
}

impl Summary {
    /// Where the page behind this letter begins.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor { died_at: self.last_died_at, sequence: self.sequence }
    }
}

/// How many letters there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// So many, or more if the count is not exact.
    pub letters: i64,
    /// Whether all were counted.
    pub is_exact: bool,
}

/// The next `limit` letters behind `after`, newest first.
pub async fn list(
    connection: &mut Connection,
    filter: &Filter,
    after: Option<Cursor>,
    limit: i64,
) -> Result<Vec<Summary>, Error> {
    let filter = filter.resolve(connection).await?;
    let letters = sqlx::query_as!(
        Summary,
        r#"select id as "id!", org_code as org, operation as "operation!", lane,
            reason as "reason!", detail as "detail!", pointer, fingerprint as "fingerprint!",
            state as "state!: State", command_id, correlation_id, attempts as "attempts!",
            deaths as "deaths!", first_died_at as "first_died_at!",
            last_died_at as "last_died_at!", nullif(lane_epoch, 0) as lane_epoch,
            nullif(delivery_tag, 0) as delivery_tag, octet_length(body) as "body_bytes!", replay_of,
            edited_from, sequence as "sequence!"
        from dead_letter_matching($1)
        where (last_died_at, sequence)
            < (coalesce($2, 'infinity'::timestamptz), coalesce($3, 0::bigint))
        order by last_died_at desc, sequence desc limit $4"#,
        filter,
        after.map(|after| after.died_at),
        after.map(|after| after.sequence),
        limit,
    )
    .fetch_all(connection)
    .await?;
    Ok(letters)
}

/// How many letters the filter means.
pub async fn count(connection: &mut Connection, filter: &Filter) -> Result<Count, Error> {
    if filter.is_counted(connection).await? {
        let letters = sqlx::query_scalar!(
            r#"select coalesce(sum(letters), 0)::bigint as "letters!" from dead_letter_group
            where ($1::text is null or org_code = $1) and ($2::text is null or operation = $2)
                and ($3::text is null or reason = $3) and ($4::text is null or fingerprint = $4)
                and ($5::text is null or state = $5)
                and ($6::text is null or strpos(detail, dead_letter_normalised($6)) > 0)"#,
            filter.org.as_deref().map(replace_nul),
            filter.operation.as_deref().map(replace_nul),
            filter.reason.as_deref().map(replace_nul),
            filter.fingerprint.as_deref().map(replace_nul),
            filter.state.map(State::as_str),
            filter.text.as_deref().map(replace_nul),
        )
        .fetch_one(connection)
        .await?;
        return Ok(Count { letters, is_exact: true });
    }
    let filter = filter.resolve(connection).await?;
    let letters = sqlx::query_scalar!(
        r#"select count(*) as "letters!" from
            (select from dead_letter_matching($1) limit $2) matching"#,
        filter,
        COUNTED_MAX + 1,
    )
    .fetch_one(connection)
    .await?;
    Ok(Count { letters: letters.min(COUNTED_MAX), is_exact: letters <= COUNTED_MAX })
}
