//! The id of a log record (`log.record.uid`), by which a duplicate can be recognised.

use std::sync::{Mutex, PoisonError};

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The id of a record: the same for the same fact, however often it is delivered or replayed.
pub(super) fn uid(event: &str, ids: u64, time: u64, occurrence: u64) -> u64 {
    let mut bytes = [0; 24];
    for (place, number) in bytes.chunks_exact_mut(8).zip([ids, time, occurrence]) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    xxh3_64_with_seed(event.as_bytes(), xxh3_64_with_seed(&bytes, 0))
}

/// Facts that are equal in everything come close together: the last ones are enough to count them.
///
/// In parts, each with a lock of its own: equal ids meet in the same part, other threads seldom do.
#[derive(Debug)]
pub(super) struct Equal([Part; PARTS]);

const PARTS: usize = 64;
const LAST: usize = 6;

// Between threads a cache line has to travel: what is written each time lies in one, with the lock.
#[derive(Debug)]
#[repr(align(64))]
struct Part(Mutex<Recent>);

#[derive(Debug)]
#[repr(C)]
struct Recent {
    uids: [u64; LAST],
    next: usize,
    times: [u64; LAST],
}

impl Default for Equal {
    fn default() -> Self {
        Equal([const { Part(Mutex::new(Recent { uids: [0; LAST], next: 0, times: [0; LAST] })) }; PARTS])
    }
}

impl Equal {
    /// How often this id was there before, among the last ones.
    pub fn occurrence(&self, uid: u64) -> u64 {
        let part = &self.0[uid as usize % PARTS].0;
        let mut recent = part.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = recent.uids.iter().position(|known| *known == uid) {
            recent.times[at] += 1;
            return recent.times[at];
        }
        let at = recent.next;
        recent.uids[at] = uid;
        // Mostly it is 0 already, and its cache line another one.
        if recent.times[at] != 0 {
            recent.times[at] = 0;
        }
        recent.next = (at + 1) % LAST;
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_ids_are_counted_though_others_come_in_between() {
        let equal = Equal::default();
        let ids: Vec<u64> = (1..=64).map(|n| uid("event", n, 0, 0)).collect();
        for round in 0..3 {
            ids.iter().for_each(|id| assert_eq!(equal.occurrence(*id), round));
        }
    }
}
