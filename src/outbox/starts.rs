//! What has started and not ended, on disk, so that whoever comes after a crash can close it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crc32c::{crc32c, crc32c_append};

use super::frame::{Meta, kind};
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
}

pub(crate) struct Starts {
    pub(crate) tail: Tail,
    open: BTreeMap<Key, Open>,
    open_bytes: u64,
    /// Pushed since the last checkpoint.
    grown: u64,
}

impl Starts {
    /// Reads what is there; also returns the transactions that a `finish` left, oldest first.
    pub(crate) fn open(dir: &Path, limit: u64, tally: Arc<Tally>) -> io::Result<(Self, Vec<Vec<u8>>)> {
        let tail = Tail::open(dir, limit, false, tally)?;
        let mut starts = Self { tail, open: BTreeMap::new(), open_bytes: 0, grown: 0 };
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
                            _ => starts.note(meta, payload),
                        }
                        starts.tail.last_time_ns = starts.tail.last_time_ns.max(meta.time_ns);
                    }
                }
            }
        }
        Ok((starts, transactions))
    }

    fn note(&mut self, meta: Meta, payload: &[u8]) {
        let Some((key, rest)) = payload.split_first_chunk::<KEY>() else { return };
        let gone = match meta.kind {
            kind::BEGIN => {
                let open = Open { sequence: meta.sequence, time_ns: meta.time_ns, payload: rest.into() };
                self.open_bytes += rest.len() as u64;
                self.open.insert(Key(*key), open)
            }
            kind::END => self.open.remove(&Key(*key)),
            _ => None,
        };
        self.open_bytes -= gone.map_or(0, |o| o.payload.len() as u64);
    }

    /// Adds a begin, an end or a transaction, unless its sequence is there already; `sum` as in `Tail::push`.
    pub(crate) fn push(&mut self, meta: Meta, payload: &[u8], sum: u32) {
        if meta.sequence > self.tail.last_sequence {
            self.note(meta, payload);
            self.grown = self.grown.saturating_add(payload.len() as u64 + 36);
            self.tail.push(meta, [payload, &[]], sum);
        }
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
        self.tail.flush()?;
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
