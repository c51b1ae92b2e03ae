//! The id of a log record (`log.record.uid`), by which a duplicate can be recognised.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The id of a record: the same for the same fact, however often it is delivered or replayed.
pub(super) fn uid(event: &str, ids: u64, time: u64, occurrence: u64) -> u64 {
    let mut bytes = [0; 24];
    for (place, number) in bytes.chunks_exact_mut(8).zip([ids, time, occurrence]) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    xxh3_64_with_seed(event.as_bytes(), xxh3_64_with_seed(&bytes, 0))
}

// Facts that are equal in everything come close together: the last ones are enough to count them.
#[derive(Debug)]
pub(super) struct Equal {
    last: [(u64, u64); 64],
    next: usize,
}

impl Default for Equal {
    fn default() -> Self {
        Equal { last: [(0, 0); 64], next: 0 }
    }
}

impl Equal {
    /// How often this id was there before, among the last ones.
    pub fn occurrence(&mut self, uid: u64) -> u64 {
        if let Some((_, times)) = self.last.iter_mut().find(|(known, _)| *known == uid) {
            *times += 1;
            return *times;
        }
        if let Some(place) = self.last.get_mut(self.next) {
            *place = (uid, 0);
        }
        self.next = (self.next + 1) % self.last.len();
        0
    }
}
