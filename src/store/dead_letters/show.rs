//! One letter with all that is known of it.

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::domain::dead_letter::State;
use crate::store::connection::Connection;
use crate::store::error::Error;

/// A letter. Body, headers and properties may hold personal data.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
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
    /// As the publisher set it.
    pub app_id: Option<String>,
    /// The publisher, as the broker authenticated it.
    pub user_id: Option<String>,
    /// When it was sent, as its publisher says.
    pub sent_at: Option<DateTime<Utc>>,
    /// The exchange that it was published to.
    pub exchange: String,
    /// The routing key that it was published with.
    pub routing_key: String,
    /// The other properties, as an object.
    pub properties: Value,
    /// The publisher's headers, as an object.
    pub headers: Value,
    /// What the worker and the broker added to the headers.
    pub provenance: Value,
    /// Byte for byte.
    pub body: Vec<u8>,
    /// How often the worker tried it before it died.
    pub attempts: i32,
    /// How often this very letter died.
    pub deaths: i32,
    /// When the first letter of its replays died.
    pub first_died_at: DateTime<Utc>,
    /// When this one died.
    pub last_died_at: DateTime<Utc>,
    /// With `delivery_tag` its place in the lane's queue, if that is known: letters of a lane died in
    /// this order.
    pub lane_epoch: Option<i64>,
    /// See `lane_epoch`.
    pub delivery_tag: Option<i64>,
    /// When it was archived.
    pub recorded_at: DateTime<Utc>,
    /// When its state changed last.
    pub changed_at: DateTime<Utc>,
    /// The letter that it came back from.
    pub replay_of: Option<Uuid>,
    /// The number of its latest replay; 0: there was none.
    pub replay_number: i32,
    /// The letters that its replays came back as.
    pub replay_died_as: Vec<Uuid>,
    /// The letter that it is an edited copy of.
    pub edited_from: Option<Uuid>,
    /// The edited copy that stands for it.
    pub superseded_by: Option<Uuid>,
    /// The bulk job that touched it last.
    pub bulk_job_id: Option<Uuid>,
    /// Its number among all letters.
    pub sequence: i64,
}

/// The letter with this id.
pub async fn show(connection: &mut Connection, id: Uuid) -> Result<Option<Letter>, Error> {
    Ok(letters(connection, &[id]).await?.pop())
}

/// Those of `ids` that exist, in the order of death. Each may hold a megabyte.
pub async fn letters(connection: &mut Connection, ids: &[Uuid]) -> Result<Vec<Letter>, Error> {
    let letters = sqlx::query_as!(
        Letter,
        r#"select id, org_code as org, operation, lane, reason, detail, pointer, fingerprint,
            state as "state: State", command_id, correlation_id, app_id, user_id, sent_at,
            exchange, routing_key, properties, headers, provenance, body, attempts, deaths,
            first_died_at, last_died_at, nullif(lane_epoch, 0) as lane_epoch,
            nullif(delivery_tag, 0) as delivery_tag, recorded_at, changed_at, replay_of,
            replay_number,
            array(select back.id from dead_letter back where back.replay_of = letter.id
                order by back.sequence) as "replay_died_as!",
            edited_from, superseded_by, bulk_job_id, sequence
        from dead_letter letter where id = any($1)
        order by coalesce(ordered_at, last_died_at), letter.lane_epoch, letter.delivery_tag, sequence"#,
        ids,
    )
    .fetch_all(connection)
    .await?;
    Ok(letters)
}
