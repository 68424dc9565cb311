//! Dead letters in portions that fit into memory.

use uuid::Uuid;

use crate::message::BODY_BYTES_MAX;
use crate::store::dead_letters::claims::Key;

/// Bodies beyond so many bytes end a portion.
const PORTION_BYTES_MAX: usize = 8 << 20;

/// Why a dead letter is not loaded.
pub(super) fn unloadable(key: &Key) -> Option<String> {
    (bytes(key) > BODY_BYTES_MAX)
        .then(|| format!("would fail again, edit a copy: more than {BODY_BYTES_MAX} bytes"))
}

/// The ids in portions, in order. A dead letter that is larger than a portion has one of its own.
pub(super) fn portions(keys: &[Key]) -> Vec<Vec<Uuid>> {
    let mut portions: Vec<Vec<Uuid>> = Vec::new();
    let mut left = 0;
    for key in keys {
        match portions.last_mut() {
            Some(portion) if bytes(key) <= left => portion.push(key.id),
            _ => {
                left = PORTION_BYTES_MAX;
                portions.push(vec![key.id]);
            }
        }
        left = left.saturating_sub(bytes(key));
    }
    portions
}

fn bytes(key: &Key) -> usize {
    usize::try_from(key.body_bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::store::dead_letters::order::DeathOrder;

    #[test]
    fn no_portion_is_too_large_and_none_is_left_out() {
        let sizes = [9 << 20, 1, 4 << 20, 4 << 20, 1, 0];
        let ordered_at = DateTime::UNIX_EPOCH;
        let order = DeathOrder { ordered_at, lane_epoch: 0, delivery_tag: 0, sequence: 0 };
        let keys: Vec<Key> = (0..)
            .zip(sizes)
            .map(|(id, body_bytes)| Key { id: Uuid::from_u128(id), order, body_bytes })
            .collect();
        let portions: Vec<Vec<u128>> = portions(&keys)
            .iter()
            .map(|portion| portion.iter().map(Uuid::as_u128).collect())
            .collect();
        assert_eq!(portions, [vec![0], vec![1, 2], vec![3, 4, 5]]);
    }
}
