//! Stores dead letters in the archive, each once.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::Connection as _;
use uuid::Uuid;

use crate::domain::command::Operation;
use crate::domain::dead_letter::{DeadLetter, QueuePosition};
use crate::message::{BODY_HASH, BODY_LENGTH, Headers, Message, Properties};
use crate::store::connection::Connection;
use crate::store::dead_letters::applied;
use crate::store::dead_letters::order::{self, Death, Placed};
use crate::store::error::Error;
use crate::store::held_letters;
use crate::store::text::replace_nul;

/// As much of a dead letter as the database takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All that a replay needs: without headers and most properties.
    Stripped,
    /// The body, under the dead letter's id.
    BodyAlone,
    /// The hash of the body, which nothing in the dead letter can make the database refuse.
    HashAlone,
}

/// The part of a dead letter that is stored if the database refuses more of it.
#[must_use]
pub fn reduce(letter: &DeadLetter, extent: Extent) -> DeadLetter {
    let printable = |text: &str| text.escape_default().to_string();
    let DeadLetter { message, provenance, .. } = letter;
    let stripped = DeadLetter {
        detail: format!("{} (headers that the database refused are left out)", letter.reason),
        pointer: None,
        // They say that the body is not whole, so that the rest of it is not replayed.
        provenance: [BODY_LENGTH, BODY_HASH]
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), provenance.get(name)?.clone())))
            .collect(),
        customer_keys: Vec::new(),
        message: Message {
            exchange: printable(&message.exchange),
            routing_key: printable(&message.routing_key),
            properties: Properties {
                message_id: message.properties.message_id.as_deref().map(printable),
                ..Properties::default()
            },
            body: message.body.clone(),
        },
        ..letter.clone()
    };
    let body_alone = |detail: String, body: Vec<u8>| DeadLetter {
        org: None,
        operation: None,
        lane: None,
        reason: "unknown".to_owned(),
        detail,
        fingerprint: "refused".to_owned(),
        attempts: 1,
        position: None,
        replay_of: None,
        replay_number: None,
        message: Message { body, ..Message::default() },
        ..stripped.clone()
    };
    match extent {
        Extent::Stripped => stripped,
        Extent::BodyAlone => {
            body_alone("the database refused all but the body".to_owned(), message.body.clone())
        }
        Extent::HashAlone => {
            let bytes = message.body.len();
            let hash = hex::encode(Sha256::digest(&message.body));
            body_alone(
                format!(
                    "the database refused its body of {bytes} bytes, which is lost; SHA-256 {hash}"
                ),
                Vec::new(),
            )
        }
    }
}

fn death(letter: &DeadLetter) -> Death<'_> {
    let DeadLetter { lane, position, died_at, .. } = letter;
    Death { lane: lane.as_deref(), position: *position, died_at: *died_at }
}

/// The command's id, which an empty one is not.
fn command_id(letter: &DeadLetter) -> Option<String> {
    let id = letter.message.properties.message_id.as_deref();
    id.filter(|id| !id.is_empty()).map(replace_nul)
}

/// The properties that have no column of their own.
fn other_properties(properties: &Properties) -> Value {
    json!({
        "reply_to": properties.reply_to,
        "type": properties.kind,
        "content_type": properties.content_type,
        "content_encoding": properties.content_encoding,
        "priority": properties.priority,
        "expiration": properties.expiration,
    })
}

/// Keeps the letters, in their order, and says of those whose replay they are that they failed
/// again. A letter that is there already stays one letter: if it died anew since, it is open
/// again unless a replay of it is under way. No two of `letters` have the same id.
pub async fn add(connection: &mut Connection, letters: &[DeadLetter]) -> Result<(), Error> {
    let mut transaction = connection.begin().await?;
    // One at a time: so letters are numbered in the order of the queue.
    sqlx::query!("select pg_advisory_xact_lock(hashtext('partner_program.dead_letters')) as lock")
        .fetch_one(&mut *transaction)
        .await?;
    mark_failed_again(&mut transaction, letters).await?;
    let deaths: Vec<Death<'_>> = letters.iter().map(death).collect();
    let placed = order::place(&mut transaction, &deaths).await?;
    insert(&mut transaction, letters, &placed).await?;
    supersede_taken_back(&mut transaction, letters).await?;
    let ids: Vec<Uuid> = letters.iter().map(|letter| letter.id).collect();
    applied::mark(&mut transaction, &ids).await?;
    transaction.commit().await?;
    Ok(())
}

async fn mark_failed_again(
    connection: &mut Connection,
    letters: &[DeadLetter],
) -> Result<(), Error> {
    let mut replays: (Vec<Uuid>, Vec<String>, Vec<Uuid>) = Default::default();
    for letter in letters {
        let Some(command) = command_id(letter) else { continue };
        let Some(replay_of) = letter.replay_of else { continue };
        replays.0.push(replay_of);
        replays.1.push(command);
        replays.2.push(letter.id);
    }
    let (ids, commands, replay_died_as) = replays;
    if ids.is_empty() {
        return Ok(());
    }
    let believed = sqlx::query!(
        "with failed_again as (
            update dead_letter letter set state = 'failed_again', changed_at = now()
            from (select distinct on (id, command_id) *
                from unnest($1::uuid[], $2::text[], $3::uuid[]) as t(id, command_id, replay_died_as))
                replay
            where letter.id = replay.id and letter.state in ('replaying', 'replayed')
                and letter.id in (select id from dead_letter where id = any($1) order by id for update)
                and coalesce(letter.command_id, letter.id::text) = replay.command_id
            returning letter.id, bulk_job_id, replay_died_as),
        noted as (
            insert into dead_letter_action
                (dead_letter_id, action, actor, reason, source, bulk_job_id)
            select id, 'failed_again', 'worker', 'its replay died', 'worker', bulk_job_id
            from failed_again)
        select id, replay_died_as as \"replay_died_as!\" from failed_again",
        &ids,
        &commands,
        &replay_died_as,
    )
    .fetch_all(&mut *connection)
    .await?;
    let (letters, replay_died_as): (Vec<Uuid>, Vec<Uuid>) =
        believed.into_iter().map(|row| (row.id, row.replay_died_as)).unzip();
    held_letters::failed_again(connection, &letters, &replay_died_as).await
}

/// A replay that died before its letter was taken back is no letter to act on: the one that was taken back
/// stands for the command.
async fn supersede_taken_back(
    connection: &mut Connection,
    letters: &[DeadLetter],
) -> Result<(), Error> {
    let mut replays: (Vec<Uuid>, Vec<Uuid>, Vec<i32>, Vec<String>) = Default::default();
    for letter in letters {
        let (Some(command), Some(replay_of), Some(number)) =
            (command_id(letter), letter.replay_of, letter.replay_number)
        else {
            continue;
        };
        replays.0.push(letter.id);
        replays.1.push(replay_of);
        replays.2.push(number);
        replays.3.push(command);
    }
    let (ids, replays_of, numbers, commands) = replays;
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "with superseded as (
            update dead_letter letter
            set state = 'superseded', superseded_by = standing.id, replay_of = standing.id,
                changed_at = now()
            from unnest($1::uuid[], $2::uuid[], $3::int[], $4::text[])
                    as replay (id, replay_of, number, command_id)
                join dead_letter standing on standing.id = replay.replay_of
            where letter.id = replay.id and letter.state = 'open'
                and coalesce(standing.command_id, standing.id::text) = replay.command_id
                and (standing.state in ('open', 'discarded', 'superseded')
                    or standing.replay_number <> replay.number)
            returning letter.id)
        insert into dead_letter_action (dead_letter_id, action, actor, reason, source)
        select id, 'superseded', 'worker', 'the letter that it replays was taken back', 'worker'
        from superseded",
        &ids,
        &replays_of,
        &numbers,
        &commands,
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn insert(
    connection: &mut Connection,
    letters: &[DeadLetter],
    placed: &[Option<Placed>],
) -> Result<(), Error> {
    macro_rules! column {
        ($letter:ident => $value:expr) => {
            &letters.iter().map(|$letter| $value).collect::<Vec<_>>()[..]
        };
    }
    let optional = |text: &Option<String>| text.as_deref().map(replace_nul);
    let ordered: Vec<Option<DateTime<Utc>>> =
        placed.iter().map(|placed| placed.map(|placed| placed.ordered_at)).collect();
    let position = |of: fn(QueuePosition) -> i64| -> Vec<i64> {
        placed.iter().map(|placed| placed.map_or(0, |placed| of(placed.position))).collect()
    };
    sqlx::query!(
        "insert into dead_letter as letter (id, org_code, operation, lane, reason, detail, pointer,
            fingerprint, command_id, correlation_id, app_id, user_id, sent_at, exchange, routing_key,
            properties, headers, provenance, body, attempts, first_died_at, last_died_at, replay_of,
            customer_keys, ordered_at, lane_epoch, delivery_tag, last_lane_epoch, last_delivery_tag)
        select new.id, org_code, operation, lane, reason, detail, pointer, fingerprint, command_id,
            correlation_id, app_id, user_id, sent_at, exchange, routing_key, properties, headers,
            provenance, body, attempts, least(died_at, before.first_died_at), died_at, before.id,
            customer_keys::bigint[], ordered_at, lane_epoch, delivery_tag, lane_epoch, delivery_tag
        from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
            $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[],
            $13::timestamptz[], $14::text[], $15::text[], $16::jsonb[], $17::jsonb[], $18::jsonb[],
            $19::bytea[], $20::int[], $21::timestamptz[], $22::uuid[], $23::text[],
            $24::timestamptz[], $25::bigint[], $26::bigint[])
            with ordinality as new (id, org_code, operation, lane, reason, detail, pointer,
                fingerprint, command_id, correlation_id, app_id, user_id, sent_at, exchange,
                routing_key, properties, headers, provenance, body, attempts, died_at, replay_of,
                customer_keys, ordered_at, lane_epoch, delivery_tag, place)
        -- Believed only of letters that were replayed under this command id.
        left join lateral (select before.id, before.first_died_at from dead_letter before
            where before.id = new.replay_of and before.state in ('failed_again', 'superseded')
                and coalesce(before.command_id, before.id::text) = new.command_id) before on true
        order by place
        -- Written in any case: a commit that writes nothing would not wait for a standby, which
        -- may not have the letter yet. The place is that of the first death, for a command counts
        -- where it came first; one that was settled in between begins anew.
        on conflict (id) do update set
            (deaths, last_died_at, changed_at, state, last_lane_epoch, last_delivery_tag) = (
                select least(letter.deaths, 2147483646) + is_new::int,
                    greatest(letter.last_died_at, excluded.last_died_at),
                    case when is_new then now() else letter.changed_at end,
                    case when is_new and letter.state not in ('replaying', 'replayed') then 'open'
                        else letter.state end,
                    case when is_new then excluded.last_lane_epoch else letter.last_lane_epoch end,
                    case when is_new then excluded.last_delivery_tag else letter.last_delivery_tag end
                from (values (dead_letter_died_anew(letter, excluded))) as death (is_new)),
            (lane, lane_epoch, delivery_tag, ordered_at) = (
                select lane, lane_epoch, delivery_tag, ordered_at
                from (select letter.lane, letter.lane_epoch, letter.delivery_tag, letter.ordered_at,
                        false as begins_anew
                    union all select excluded.lane, excluded.lane_epoch, excluded.delivery_tag,
                        excluded.ordered_at, true) either
                where begins_anew = (letter.state not in ('open', 'replaying', 'replayed')
                    and dead_letter_died_anew(letter, excluded)))",
        column!(l => l.id),
        column!(l => optional(&l.org)) as &[Option<String>],
        column!(l => l.operation.map_or("unknown", Operation::as_str).to_owned()),
        column!(l => optional(&l.lane)) as &[Option<String>],
        column!(l => replace_nul(&l.reason)),
        column!(l => replace_nul(&l.detail)),
        column!(l => optional(&l.pointer)) as &[Option<String>],
        column!(l => l.fingerprint.clone()),
        column!(l => command_id(l)) as &[Option<String>],
        column!(l => optional(&l.message.properties.correlation_id)) as &[Option<String>],
        column!(l => optional(&l.message.properties.app_id)) as &[Option<String>],
        column!(l => optional(&l.message.properties.user_id)) as &[Option<String>],
        column!(l => l.message.properties.timestamp) as &[Option<DateTime<Utc>>],
        column!(l => replace_nul(&l.message.exchange)),
        column!(l => replace_nul(&l.message.routing_key)),
        column!(l => replace_nul_in_json(&other_properties(&l.message.properties))),
        column!(l => headers(&l.message.properties.headers)),
        column!(l => headers(&l.provenance)),
        column!(l => l.message.body.clone()),
        column!(l => l.attempts),
        column!(l => l.died_at),
        column!(l => l.replay_of) as &[Option<Uuid>],
        column!(l => array(&l.customer_keys)),
        &ordered as &[Option<DateTime<Utc>>],
        &position(|position| position.lane_epoch),
        &position(|position| position.delivery_tag),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// An array literal: arrays of arrays can't be told apart once they are unnested.
fn array(keys: &[i64]) -> String {
    let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
    format!("{{{}}}", keys.join(","))
}

fn headers(headers: &Headers) -> Value {
    headers.iter().map(|(name, value)| (replace_nul(name), replace_nul_in_json(value))).collect()
}

fn replace_nul_in_json(value: &Value) -> Value {
    match value {
        Value::String(text) => replace_nul(text).into(),
        Value::Array(values) => values.iter().map(replace_nul_in_json).collect(),
        Value::Object(fields) => {
            let fields = fields.iter();
            fields.map(|(name, value)| (replace_nul(name), replace_nul_in_json(value))).collect()
        }
        other => other.clone(),
    }
}
