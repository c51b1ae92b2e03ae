//! What has started and not ended, on disk, so that whoever comes after a crash can close it.
//!
//! What began and ended before anything of it was written leaves nothing here: until then the ring remembers it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crc32c::{crc32c, crc32c_append};

use super::frame::{FRAME_HEADER, Meta, kind};
use super::place;
use super::queue::{Tally, lock};
use super::record::Key;
use super::scan::{Found, Scan};
use super::tail::Tail;

/// Below this a checkpoint would cost more than the space it frees.
const MIN_LIMIT: u64 = 1 << 20;
const KEY: usize = 24;

struct Open {
    sequence: u64,
    time_ns: u64,
    payload: Box<[u8]>,
    /// The files have a beginning of it, so they must get its end.
    is_filed: bool,
}

/// A begin or an end that is not filed yet.
struct Change {
    meta: Meta,
    key: Key,
    sum: u32,
    /// An end: of something that the files don't know.
    is_vain: bool,
}

pub(crate) struct Starts {
    pub(crate) tail: Tail,
    open: BTreeMap<Key, Open>,
    open_bytes: u64,
    /// What came since the last flush.
    round: Vec<Change>,
    round_bytes: u64,
    /// Filed since the last checkpoint.
    grown: u64,
}

impl Starts {
    /// Reads what is there; also returns the transactions that a `finish` left, oldest first.
    pub(crate) fn open(dir: &Path, limit: u64, tally: Arc<Tally>) -> io::Result<(Self, Vec<Vec<u8>>)> {
        let tail = Tail::open(dir, limit, false, tally)?;
        let mut starts =
            Self { tail, open: BTreeMap::new(), open_bytes: 0, round: Vec::new(), round_bytes: 0, grown: 0 };
        let mut transactions = Vec::new();
        for number in place::segments(dir)? {
            let mut scan = match Scan::open(&dir.join(place::segment_name(number))) {
                Err(e) if e.kind() == io::ErrorKind::InvalidData => continue,
                scan => scan?,
            };
            loop {
                match scan.next()? {
                    Found::End => break,
                    Found::Damage { .. } => {}
                    Found::Frame { at, meta, len } => {
                        let payload = scan.payload(at, len)?;
                        match meta.kind {
                            kind::TRANSACTION => transactions.push(payload.to_vec()),
                            _ => starts.note(meta, payload, true),
                        }
                        starts.tail.last_time_ns = starts.tail.last_time_ns.max(meta.time_ns);
                    }
                }
            }
        }
        Ok((starts, transactions))
    }

    fn note(&mut self, meta: Meta, payload: &[u8], is_filed: bool) {
        let Some((key, rest)) = payload.split_first_chunk::<KEY>() else { return };
        let gone = match meta.kind {
            kind::BEGIN => {
                let (sequence, time_ns) = (meta.sequence, meta.time_ns);
                self.open_bytes += rest.len() as u64;
                self.open.insert(Key(*key), Open { sequence, time_ns, payload: rest.into(), is_filed })
            }
            kind::END => self.open.remove(&Key(*key)),
            _ => None,
        };
        self.open_bytes -= gone.map_or(0, |o| o.payload.len() as u64);
    }

    /// Adds a begin, an end or a transaction, unless its sequence is there already; `sum` as in `Tail::push`.
    pub(crate) fn push(&mut self, meta: Meta, payload: &[u8], sum: u32) {
        if meta.sequence <= self.tail.last_sequence {
            return;
        }
        let key = payload.first_chunk::<KEY>().filter(|_| meta.kind != kind::TRANSACTION);
        let Some(key) = key.copied().map(Key) else {
            self.settle();
            return self.file(meta, [payload, &[]], sum);
        };
        // A beginning that replaces a filed one counts as filed: the end of either must get there.
        let filed = self.open.get(&key).map(|open| open.is_filed);
        let is_vain = meta.kind == kind::END && filed == Some(false);
        self.note(meta, payload, filed == Some(true));
        self.round.push(Change { meta, key, sum, is_vain });
        self.round_bytes += (FRAME_HEADER + payload.len()) as u64;
        self.tail.last_sequence = meta.sequence;
        self.tail.last_time_ns = self.tail.last_time_ns.max(meta.time_ns);
    }

    fn file(&mut self, meta: Meta, payload: [&[u8]; 2], sum: u32) {
        self.grown = self.grown.saturating_add((FRAME_HEADER + payload[0].len() + payload[1].len()) as u64);
        self.tail.push_again(meta, payload, sum);
    }

    /// Files what came since the last time, but for what ended meanwhile. The last one is filed in any case: by its
    /// sequence a recovery tells what of an old ring it has seen.
    fn settle(&mut self) {
        let round = std::mem::take(&mut self.round);
        self.round_bytes = 0;
        let last = round.last().map_or(0, |change| change.meta.sequence);
        for Change { meta, key, sum, is_vain } in round {
            if meta.kind == kind::END && (!is_vain || meta.sequence == last) {
                self.file(meta, [&key.0, &[]], sum);
            }
            let Some(open) = self.open.get_mut(&key).filter(|open| open.sequence == meta.sequence) else {
                continue;
            };
            open.is_filed = true;
            self.grown = self.grown.saturating_add((FRAME_HEADER + KEY + open.payload.len()) as u64);
            self.tail.push_again(meta, [&key.0, &open.payload], sum);
        }
    }

    /// Writes what has gathered; as `Tail::flush`.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.settle();
        self.tail.flush()
    }

    /// Bytes that a flush would write, or more.
    pub(crate) fn pending_bytes(&self) -> u64 {
        self.round_bytes + self.tail.pending_bytes()
    }

    /// As `Tail::restore`. Closed segments may be gone as well: a checkpoint writes again what they said.
    pub(crate) fn restore(&mut self) -> io::Result<bool> {
        let gone = self.tail.restore()?;
        if gone {
            self.grown = u64::MAX;
        }
        Ok(gone)
    }

    /// Lets others say it for what is open, which a checkpoint then makes last; returns for how much they did.
    pub(crate) fn replace(&mut self, with: fn(&[u8]) -> Option<Vec<u8>>) -> u64 {
        self.settle();
        let mut replaced = 0;
        for open in self.open.values_mut() {
            let Some(payload) = with(&open.payload) else { continue };
            self.open_bytes = self.open_bytes - open.payload.len() as u64 + payload.len() as u64;
            open.payload = payload.into();
            replaced += 1;
        }
        replaced
    }

    pub(crate) fn wants_checkpoint(&self) -> bool {
        self.grown > MIN_LIMIT.max(2 * self.open_bytes)
    }

    /// Writes what is open to a new segment and deletes all before it. The queues must be synced: from here
    /// on nothing but they remembers the transactions of `finish`.
    pub(crate) fn checkpoint(&mut self) -> io::Result<()> {
        self.flush()?;
        self.tail.begin_segment(self.tail.last_sequence + 1);
        let mut open: Vec<_> = self.open.iter().collect();
        open.sort_by_key(|(_, o)| o.sequence);
        for (key, o) in open {
            let meta = Meta { kind: kind::BEGIN, flags: 0, sequence: o.sequence, time_ns: o.time_ns };
            let sum = crc32c_append(crc32c(&key.0), &o.payload);
            self.tail.push_again(meta, [&key.0, &o.payload], sum);
        }
        // Only one checkpoint for so much growth, also when the disk refuses this one half way.
        self.grown = 0;
        let first = self.tail.first_pending();
        self.tail.flush()?;
        self.sync()?;
        match first {
            Some(number) => lock(&self.tail.shared.state).drop_before(number),
            None => Ok(()),
        }
    }

    /// What was written to the starts survives power loss from here on.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        for done in self.tail.unsynced() {
            match done.file.sync_data() {
                Ok(()) => self.tail.was_synced(&done),
                Err(e) => {
                    self.tail.distrust(done.number);
                    return Err(e);
                }
            }
        }
        self.tail.changed_dir().map_or(Ok(()), |dir| place::sync_dir(&dir))
    }

    /// Everything open, in the order it started.
    pub(crate) fn unfinished(&self) -> impl Iterator<Item = (Key, u64, &[u8])> {
        let mut open: Vec<_> = self.open.iter().collect();
        open.sort_by_key(|(_, o)| o.sequence);
        open.into_iter().map(|(key, o)| (*key, o.time_ns, &*o.payload))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(starts: &mut Starts, sequence: u64, kind: u8, name: u8) {
        let key = [name; KEY];
        let payload = if kind == kind::BEGIN { [&key[..], &[7; 500]].concat() } else { key.to_vec() };
        let meta = Meta { kind, flags: 0, sequence, time_ns: sequence };
        starts.push(meta, &payload, crc32c(&payload));
    }

    fn open(dir: &Path) -> Starts {
        Starts::open(dir, 1 << 20, Arc::default()).unwrap().0
    }

    fn left(dir: &Path) -> (Vec<u8>, u64) {
        let starts = open(dir);
        (starts.unfinished().map(|(key, ..)| key.0[0]).collect(), starts.tail.last_sequence)
    }

    #[test]
    fn what_begins_and_ends_before_a_write_leaves_only_its_last_sequence() {
        let dir = tempfile::tempdir().unwrap();
        let mut starts = open(dir.path());
        for pair in 0..100u8 {
            push(&mut starts, 1 + 2 * u64::from(pair), kind::BEGIN, pair);
            push(&mut starts, 2 + 2 * u64::from(pair), kind::END, pair);
        }
        starts.flush().unwrap();
        assert_eq!(left(dir.path()), (vec![], 200));
        let file = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap();
        assert!(file.metadata().unwrap().len() < 1024);
    }

    #[test]
    fn an_end_is_written_when_its_begin_was() {
        let dir = tempfile::tempdir().unwrap();
        let mut starts = open(dir.path());
        push(&mut starts, 1, kind::BEGIN, 1);
        push(&mut starts, 2, kind::BEGIN, 2);
        push(&mut starts, 3, kind::BEGIN, 3);
        starts.flush().unwrap();
        assert_eq!(left(dir.path()), (vec![1, 2, 3], 3));
        // Again what began already, and its end, which the files must not miss; and an end that is not the last.
        push(&mut starts, 4, kind::BEGIN, 1);
        push(&mut starts, 5, kind::END, 1);
        push(&mut starts, 6, kind::END, 2);
        push(&mut starts, 7, kind::BEGIN, 4);
        push(&mut starts, 8, kind::BEGIN, 5);
        push(&mut starts, 9, kind::END, 5);
        starts.flush().unwrap();
        assert_eq!(left(dir.path()), (vec![3, 4], 9));
        // The same in a process that only knows the files.
        let mut starts = open(dir.path());
        push(&mut starts, 10, kind::END, 3);
        push(&mut starts, 11, kind::BEGIN, 6);
        starts.flush().unwrap();
        assert_eq!(left(dir.path()), (vec![4, 6], 11));
    }
}
