//! One lane's files: its queues and its starts, written by whoever holds the store's lock.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crc32c::crc32c;

use super::bundle::{self, Item, STARTS};
use super::frame::{Meta, kind};
use super::place;
use super::queue::{QueueShared, Tally, lock};
use super::record::Loss;
use super::scan::{Found, Scan};
use super::starts::Starts;
use super::tail::Tail;
use super::totals::Total;

pub(crate) struct Store {
    pub(crate) tails: Vec<Tail>,
    pub(crate) starts: Starts,
    /// Names that exist since the last sync in directories above the queues.
    parents: Vec<PathBuf>,
    /// Bytes in the whole directory, and when they were last counted.
    pub(crate) usage: (u64, Option<Instant>),
    /// When it was last made sure that nobody removed what is being written.
    pub(crate) looked: Instant,
}

impl Store {
    /// Opens the queues `names` of the lane in `dir`, and completes what a `finish` left half done.
    pub(crate) fn open(dir: &Path, names: &[String], limit: u64, tally: &Arc<Tally>) -> io::Result<Self> {
        let mut tails = Vec::new();
        for name in names {
            let queue = dir.join(name);
            place::private_dir(&queue).map_err(io::Error::other)?;
            tails.push(Tail::open(&queue, limit, true, tally.clone())?);
        }
        let starts_dir = dir.join("starts");
        place::private_dir(&starts_dir).map_err(io::Error::other)?;
        let (starts, transactions) = Starts::open(&starts_dir, limit, tally.clone())?;
        let mut store = Self { tails, starts, parents: Vec::new(), usage: (0, None), looked: Instant::now() };
        store.made_again(dir);
        let mut headers = HashMap::new();
        transactions.iter().for_each(|bundle| note_headers(bundle, &mut headers));
        for bundle in transactions {
            store.apply(&bundle, Some(&headers));
        }
        Ok(store)
    }

    /// Adds the items of a transaction, each to its queue, unless the queue has it already.
    ///
    /// `headers` are those found in a ring that is recovered: a record goes under the header it was accepted
    /// under or, when that is damaged, nowhere (its sequence tells that it is missing).
    pub(crate) fn apply(&mut self, bundle: &[u8], headers: Option<&HashMap<u32, Vec<u8>>>) {
        for item in bundle::decode(bundle) {
            self.apply_item(&item, headers);
        }
    }

    pub(crate) fn apply_item(&mut self, item: &Item<'_>, headers: Option<&HashMap<u32, Vec<u8>>>) {
        let meta =
            Meta { kind: item.kind, flags: item.flags, sequence: item.sequence, time_ns: item.time_ns };
        if item.queue == STARTS {
            match item.payload {
                [whole, []] => self.starts.push(meta, whole, item.crc),
                pieces => self.starts.push(meta, &pieces.concat(), item.crc),
            }
            return;
        }
        let Some(tail) = self.tails.get_mut(usize::from(item.queue)) else { return };
        match item.kind {
            kind::HEADER if headers.is_none() => tail.set_header(item.payload[0]),
            kind::RECORD if item.sequence > tail.last_sequence => {
                if let Some(headers) = headers.filter(|_| crc32c(tail.header()) != item.tag) {
                    let Some(header) = headers.get(&item.tag) else { return };
                    tail.set_header(header);
                }
                tail.push(meta, item.payload, item.crc);
            }
            _ => {}
        }
    }

    pub(crate) fn set_header(&mut self, queue: u16, header: &[u8]) {
        if let Some(tail) = self.tails.get_mut(usize::from(queue)) {
            tail.set_header(header);
        }
    }

    pub(crate) fn lost(&mut self, queue: u16, sequence: u64, count: u64) {
        if let Some(tail) = self.tails.get_mut(usize::from(queue)) {
            tail.push_lost(sequence, count, Loss::Disk);
        } else if queue == STARTS {
            self.starts.tail.last_sequence = self.starts.tail.last_sequence.max(sequence);
        }
    }

    pub(crate) fn all(&mut self) -> impl Iterator<Item = &mut Tail> {
        self.tails.iter_mut().chain([&mut self.starts.tail])
    }

    pub(crate) fn pending_bytes(&self) -> u64 {
        self.tails.iter().map(Tail::pending_bytes).sum::<u64>() + self.starts.pending_bytes()
    }

    /// Writes everything that has gathered: the queues first, so that an end is never there before the
    /// record it belongs to. Tries every queue even if one fails; returns the first error.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let mut result = Ok(());
        for tail in &mut self.tails {
            let flushed = tail.flush();
            if result.is_ok() {
                result = flushed;
            }
        }
        result?;
        self.starts.flush()
    }

    /// There are new names in the lane's directory, and perhaps in those above it.
    pub(crate) fn made_again(&mut self, dir: &Path) {
        self.parents.extend(dir.ancestors().take(3).map(Path::to_owned));
    }

    /// Makes again what somebody removed below the lane's directory; says whether there was something.
    pub(crate) fn restore(&mut self) -> io::Result<bool> {
        let mut gone = false;
        for tail in &mut self.tails {
            gone |= tail.restore()?;
        }
        gone |= self.starts.restore()?;
        Ok(gone)
    }

    pub(crate) fn newest_time_ns(&self) -> u64 {
        self.tails.iter().chain([&self.starts.tail]).map(|t| t.last_time_ns).max().unwrap_or(0)
    }

    pub(crate) fn shared(&self, queue: usize) -> Option<Arc<QueueShared>> {
        self.tails.get(queue).map(|t| t.shared.clone())
    }

    /// What each queue has delivered and lost.
    pub(crate) fn totals(&self) -> impl Iterator<Item = Total> {
        self.tails.iter().map(|t| {
            let cursor = lock(&t.shared.state).cursor;
            Total { delivered: cursor.delivered, lost: cursor.lost }
        })
    }

    /// Everything accepted is settled, and nothing is open.
    pub(crate) fn is_empty(&self) -> bool {
        self.pending_records_are_none()
            && self.starts.is_empty()
            && self.tails.iter().all(|t| {
                let state = lock(&t.shared.state);
                state.cursor.sequence >= state.last_sequence
            })
    }

    fn pending_records_are_none(&self) -> bool {
        self.tails.iter().all(|t| lock(&t.shared.state).last_sequence >= t.last_sequence)
    }
}

/// Syncs what the store has written. The lock is not held while the disk works, so that drains go on.
pub(crate) fn sync(store: &Mutex<Store>) -> io::Result<()> {
    // After a failure the frames are in new segments, which have to be written and synced in turn; a disk
    // that fails again and again is the caller's to come back to.
    let mut result = Ok(());
    for _ in 0..3 {
        result = sync_once(store);
        if result.is_ok() {
            break;
        }
        lock(store).flush()?;
    }
    result
}

fn sync_once(store: &Mutex<Store>) -> io::Result<()> {
    let (mut work, dirs) = {
        let mut store = lock(store);
        let work: Vec<_> = store
            .all()
            .enumerate()
            .flat_map(|(i, t)| t.unsynced().into_iter().map(move |u| (i, u)))
            .collect();
        let mut dirs: Vec<_> = store.all().filter_map(Tail::changed_dir).collect();
        dirs.append(&mut store.parents);
        (work, dirs)
    };
    let mut result = Ok(());
    let mut failed = Vec::new();
    for (queue, unsynced) in work.drain(..) {
        let synced = if failed.contains(&queue) {
            Err(io::ErrorKind::Other.into())
        } else {
            unsynced.file.sync_data()
        };
        let mut store = lock(store);
        let Some(tail) = store.all().nth(queue) else { continue };
        match synced {
            Ok(()) => tail.was_synced(&unsynced),
            Err(_) if failed.contains(&queue) => {}
            Err(e) => {
                failed.push(queue);
                tail.distrust(unsynced.number);
                result = Err(e);
            }
        }
    }
    for dir in dirs {
        if let Err(e) = place::sync_dir(&dir) {
            result = Err(e);
            lock(store).parents.push(dir);
        }
    }
    result
}

fn note_headers(bundle: &[u8], headers: &mut HashMap<u32, Vec<u8>>) {
    for item in bundle::decode(bundle).filter(|i| i.kind == kind::HEADER) {
        headers.insert(item.tag, item.payload[0].to_vec());
    }
}

/// Appends to the queues what a dead process's ring holds and they lack. Returns whether there was a ring.
pub(crate) fn recover_ring(store: &mut Store, path: &Path) -> io::Result<bool> {
    let mut scan = match Scan::open(path) {
        Ok(scan) => scan,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        // Without the salt no frame can be told from garbage; the sequences will show what is missing.
        Err(e) if e.kind() == io::ErrorKind::InvalidData => return Ok(true),
        Err(e) => return Err(e),
    };
    scan.at = super::ring::DATA as u64;
    let mut frames = Vec::new();
    let mut headers = HashMap::new();
    loop {
        match scan.next()? {
            Found::End => break,
            Found::Frame { at, meta, len } if meta.kind == kind::TRANSACTION => {
                note_headers(scan.payload(at, len)?, &mut headers);
                frames.push((meta.sequence, at, len));
            }
            _ => {}
        }
    }
    frames.sort_unstable();
    for (_, at, len) in frames {
        let bundle = scan.payload(at, len)?.to_vec();
        store.apply(&bundle, Some(&headers));
    }
    Ok(true)
}
