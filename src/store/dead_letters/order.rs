//! The order of death: where a letter stands among all others.
//!
//! Within a lane it is the order of the lane's queue, so no clock decides which of two letters of a
//! customer comes first. Letters of different lanes are ordered by the time of death, which is moved
//! between the times of the letters before and behind it in its lane. So there is one order of all
//! letters, and it keeps that of each lane. A letter without a position stands at its time of death.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::domain::dead_letter::QueuePosition;
use crate::store::connection::Connection;
use crate::store::error::Error;
use crate::store::text::replace_nul;

/// A letter's place in the order of death.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeathOrder {
    /// See the module.
    pub ordered_at: DateTime<Utc>,
    /// Of its position in the lane's queue; 0 if that is not known.
    pub lane_epoch: i64,
    /// Likewise.
    pub delivery_tag: i64,
    /// Its number among all letters.
    pub sequence: i64,
}

/// What is known of a death before it is placed.
pub(super) struct Death<'a> {
    pub(super) lane: Option<&'a str>,
    pub(super) position: Option<QueuePosition>,
    pub(super) died_at: DateTime<Utc>,
}

/// A position that is believed, and the time that goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) position: QueuePosition,
    pub(super) ordered_at: DateTime<Utc>,
}

/// A letter's neighbours in its lane.
struct Neighbours {
    letter: usize,
    before: Option<DateTime<Utc>>,
    behind: Option<DateTime<Utc>>,
}

/// The places of letters that are about to be archived, in their order; nothing for those without a
/// position that a worker can have stamped. No other letter may be archived meanwhile.
pub(super) async fn place(
    connection: &mut Connection,
    deaths: &[Death<'_>],
) -> Result<Vec<Option<Placed>>, Error> {
    let mut placed = vec![None; deaths.len()];
    let mut stamped: Vec<(usize, &str, QueuePosition)> = deaths
        .iter()
        .enumerate()
        .filter_map(|(index, death)| Some((index, death.lane?, death.position?)))
        .collect();
    if stamped.is_empty() {
        return Ok(placed);
    }
    stamped.sort_by_key(|(_, lane, position)| (*lane, *position));
    let neighbours = neighbours(connection, &stamped).await?;
    let mut last: HashMap<&str, DateTime<Utc>> = HashMap::new();
    for Neighbours { letter, before, behind } in neighbours {
        let Some((index, lane, position)) = stamped.get(letter) else { continue };
        let before = before.max(last.get(lane).copied());
        let ordered_at = between(deaths[*index].died_at, before, behind);
        last.insert(lane, ordered_at);
        placed[*index] = Some(Placed { position: *position, ordered_at });
    }
    Ok(placed)
}

/// The time, moved into the bounds; `behind` is no earlier than what the archive has before it.
fn between(
    died_at: DateTime<Utc>,
    before: Option<DateTime<Utc>>,
    behind: Option<DateTime<Utc>>,
) -> DateTime<Utc> {
    let not_behind = behind.map_or(died_at, |behind| died_at.min(behind));
    before.map_or(not_behind, |before| not_behind.max(before))
}

/// Of those whose epoch the lane has had, in the order of `stamped`.
async fn neighbours(
    connection: &mut Connection,
    stamped: &[(usize, &str, QueuePosition)],
) -> Result<Vec<Neighbours>, Error> {
    let lanes: Vec<String> = stamped.iter().map(|(_, lane, _)| replace_nul(lane)).collect();
    let epochs: Vec<i64> = stamped.iter().map(|(_, _, at)| at.lane_epoch).collect();
    let tags: Vec<i64> = stamped.iter().map(|(_, _, at)| at.delivery_tag).collect();
    let rows = sqlx::query!(
        r#"select place as "place!", before.ordered_at as "before?", behind.ordered_at as "behind?"
        from unnest($1::text[], $2::bigint[], $3::bigint[]) with ordinality
            as new (lane, lane_epoch, delivery_tag, place)
        join lane on lane.name = new.lane and new.lane_epoch <= lane.epoch
        left join lateral (select ordered_at from dead_letter known
            where known.lane = new.lane and known.lane_epoch > 0
                and (known.lane_epoch, known.delivery_tag) < (new.lane_epoch, new.delivery_tag)
            order by known.lane_epoch desc, known.delivery_tag desc limit 1) before on true
        left join lateral (select ordered_at from dead_letter known
            where known.lane = new.lane and known.lane_epoch > 0
                and (known.lane_epoch, known.delivery_tag) > (new.lane_epoch, new.delivery_tag)
            order by known.lane_epoch, known.delivery_tag limit 1) behind on true
        order by place"#,
        &lanes,
        &epochs,
        &tags,
    )
    .fetch_all(connection)
    .await?;
    let rows = rows.into_iter().map(|row| Neighbours {
        letter: usize::try_from(row.place - 1).unwrap_or(usize::MAX),
        before: row.before,
        behind: row.behind,
    });
    Ok(rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_moved_no_further_than_to_its_neighbours() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        for (died_at, before, behind, expected) in [
            (5, None, None, 5),
            (5, Some(3), Some(7), 5),
            (5, Some(6), None, 6),
            (5, None, Some(4), 4),
            (5, Some(6), Some(6), 6),
            (9, Some(6), Some(7), 7),
        ] {
            assert_eq!(between(at(died_at), before.map(at), behind.map(at)), at(expected));
        }
    }
}
