//! A lane: the directory of one process's queues, held by the one who has its lock.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crc32c::crc32c;

use super::bundle::{self, Item, Items};
use super::frame::{FileHeader, Meta, Purpose, kind};
use super::place;
use super::queue::{Tally, lock};
use super::reader::Reader;
use super::record::{Queue, Transaction, Unfinished, Waiting};
use super::scan::{Found, Scan};
use super::settings::{Settings, queue_name_is_valid};
use super::store::{self, Store};
use super::totals;

pub(crate) struct LaneInner {
    pub(crate) name: String,
    pub(crate) root: PathBuf,
    pub(crate) dir: PathBuf,
    pub(crate) names: Vec<String>,
    pub(crate) store: Mutex<Store>,
    pub(crate) max_age: Duration,
    /// The lane is ours to append to by `Outbox::append`; `finish` is not for it.
    live: bool,
    /// Rung when settled segments gave space back.
    freed: Arc<(Mutex<u64>, Condvar)>,
    /// Holds the flock; closing it gives the lane up.
    lock_file: Mutex<File>,
    /// Somebody removed files of it since it is ours.
    pub(crate) was_restored: AtomicBool,
}

impl LaneInner {
    /// Makes a new lane, locked. It gets its final name only when it is locked: nobody can take it for one
    /// whose owner is gone.
    pub(crate) fn create(settings: &Settings, tally: &Arc<Tally>) -> io::Result<Self> {
        let name =
            format!("{}-{}-{:08x}", place::now_ns() / 1_000_000, std::process::id(), place::random() as u32);
        let (dir, lock_file) = make_locked(&settings.dir, &name, &settings.queues)?;
        let limit = segment_limit(settings);
        let store = Store::open(&dir, &settings.queues, limit, tally)?;
        store.tails.iter().for_each(|t| lock(&t.shared.state).live = true);
        Ok(Self {
            name,
            root: settings.dir.clone(),
            dir,
            names: settings.queues.clone(),
            store: Mutex::new(store),
            max_age: settings.max_age,
            live: true,
            freed: Arc::default(),
            lock_file: Mutex::new(lock_file),
            was_restored: AtomicBool::new(false),
        })
    }

    /// Takes a lane whose owner is gone. `None`: it has an owner, or is gone itself.
    ///
    /// Errors: the disk's; `Unsupported` when a newer version wrote it: it is left as it is.
    pub(crate) fn adopt(settings: &Settings, name: &str, tally: &Arc<Tally>) -> io::Result<Option<Self>> {
        let dir = settings.dir.join("lanes").join(name);
        let path = dir.join("lock");
        let lock_file = match place::open_or_create(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        // The one who removed the lane before us held the lock of a file that has no name any more.
        if !place::try_lock(&lock_file)? || !place::is_same(&lock_file, &path) {
            return Ok(None);
        }
        refuse_newer(&dir)?;
        let names = names_of(&dir)?;
        let mut store = Store::open(&dir, &names, segment_limit(settings), tally)?;
        let ring = dir.join("ring");
        let had_ring = store::recover_ring(&mut store, &ring)?;
        store.flush()?;
        let store = Mutex::new(store);
        if had_ring {
            store::sync(&store)?;
            fs::remove_file(&ring)?;
            place::sync_dir(&dir)?;
        }
        Ok(Some(Self {
            name: name.into(),
            root: settings.dir.clone(),
            dir,
            names,
            store,
            max_age: settings.max_age,
            live: false,
            freed: Arc::default(),
            lock_file: Mutex::new(lock_file),
            was_restored: AtomicBool::new(false),
        }))
    }

    pub(crate) fn freed(&self) -> &Arc<(Mutex<u64>, Condvar)> {
        &self.freed
    }

    /// Its process is gone, and everything we added is in its files.
    pub(crate) fn is_complete(&self) -> bool {
        !self.live && lock(&self.store).pending_bytes() == 0
    }

    pub(crate) fn space_freed(&self) {
        *lock(&self.freed.0) += 1;
        self.freed.1.notify_all();
    }

    /// Makes again what somebody removed while the lane is held, and writes again what was in it and is still
    /// known; says whether there was something. What is lost is counted when a reader comes to it.
    ///
    /// Errors: the disk's; `WouldBlock` when somebody else has made and taken a lane of this name.
    pub(crate) fn restore(&self, store: &mut Store) -> io::Result<bool> {
        store.looked = Instant::now();
        let mut gone = false;
        {
            // The lock comes first: files without it would be anybody's.
            let mut held = lock(&self.lock_file);
            if !place::is_same(&held, &self.dir.join("lock")) {
                gone = true;
                (_, *held) = make_locked(&self.root, &self.name, &self.names)?;
                store.made_again(&self.dir);
            }
        }
        let names = self.dir.join("names");
        if !names.exists() {
            write_names(&names, &self.names)?;
            gone = true;
        }
        gone |= store.restore()?;
        if gone {
            self.was_restored.store(true, Ordering::Relaxed);
            store.flush()?;
        }
        Ok(gone)
    }

    /// Removes the directory if everything in it is settled and ended.
    pub(crate) fn remove_if_empty(&self) -> io::Result<bool> {
        let store = lock(&self.store);
        if !store.is_empty() {
            return Ok(false);
        }
        let sums: Vec<_> = self.names.iter().cloned().zip(store.totals()).collect();
        totals::absorb(&self.root, &self.name, &sums)?;
        for name in &self.names {
            totals::keep_dead_letters(&self.root, &self.name, &self.dir, name)?;
        }
        fs::remove_dir_all(&self.dir)?;
        place::sync_dir(&self.root.join("lanes"))?;
        Ok(true)
    }
}

/// Makes and locks a lane's directory, or locks what is there.
fn make_locked(root: &Path, name: &str, names: &[String]) -> io::Result<(PathBuf, File)> {
    let lanes = root.join("lanes");
    place::private_dir(root).and_then(|()| place::private_dir(&lanes)).map_err(io::Error::other)?;
    let dir = lanes.join(name);
    let making = if dir.is_dir() { dir.clone() } else { lanes.join(format!(".new-{name}")) };
    place::private_dir(&making).map_err(io::Error::other)?;
    let lock_file = place::open_or_create(&making.join("lock"))?;
    if !place::try_lock(&lock_file)? {
        let what = format!("somebody else has taken the lane {name}");
        return Err(io::Error::new(io::ErrorKind::WouldBlock, what));
    }
    if making != dir {
        match write_names(&making.join("names"), names) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => fs::rename(&making, &dir)?,
        }
    }
    Ok((dir, lock_file))
}

/// Small enough that dropping one segment is no more than an eighth of the whole bound.
fn segment_limit(settings: &Settings) -> u64 {
    settings.segment_bytes.min(settings.max_bytes / 8).max(4096)
}

fn write_names(path: &Path, names: &[String]) -> io::Result<()> {
    let header = FileHeader::new(0, 0);
    let mut bytes = header.encode(Purpose::Names).to_vec();
    for _ in 0..2 {
        let meta = Meta { kind: kind::NAMES, flags: 0, sequence: 0, time_ns: 0 };
        header.seal().push(&mut bytes, 0, meta, names.join("\n").as_bytes());
    }
    place::create(path)?.write_all(&bytes)
}

/// The queues of a lane, by index; behind them those that only the directory knows.
pub(crate) fn names_of(dir: &Path) -> io::Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    match Scan::open(&dir.join("names")) {
        Ok(mut scan) => loop {
            match scan.next()? {
                Found::End => break,
                Found::Frame { at, meta, len } if meta.kind == kind::NAMES => {
                    let text = String::from_utf8_lossy(scan.payload(at, len)?).into_owned();
                    names = text.lines().filter(|n| queue_name_is_valid(n)).map(str::to_owned).collect();
                    break;
                }
                _ => {}
            }
        },
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {}
        Err(e) => return Err(e),
    }
    for name in place::directories(dir)? {
        if queue_name_is_valid(&name) && !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn refuse_newer(dir: &Path) -> io::Result<()> {
    let mut files = vec![dir.join("ring"), dir.join("names")];
    for queue in place::directories(dir)? {
        let queue = dir.join(queue);
        files.extend(place::segments(&queue)?.into_iter().map(|n| queue.join(place::segment_name(n))));
    }
    for file in files {
        match Scan::open(&file) {
            Err(e) if e.kind() == io::ErrorKind::Unsupported => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// The reading side of a lane that this process holds. Clones share it; the last one (with its readers)
/// gives the lane up.
#[derive(Clone)]
pub struct Lane(pub(crate) Arc<LaneInner>);

impl Lane {
    /// The name of its directory.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Names of the queues on disk, also such as our own settings no longer have.
    pub fn queues(&self) -> Vec<String> {
        self.0.names.clone()
    }

    /// A queue of *this* lane, for `finish` and `set_header`.
    pub fn queue(&self, name: &str) -> Option<Queue> {
        self.0.names.iter().position(|n| n == name).map(|i| Queue(i as u16))
    }

    /// What is still to be settled in a queue, as far as it is drained from the ring; without the time of the
    /// oldest, for which a file would have to be read.
    pub fn backlog(&self, queue: &str) -> Option<Waiting> {
        let queue = self.queue(queue)?;
        let shared = lock(&self.0.store).shared(usize::from(queue.0))?;
        let (records, bytes) = lock(&shared.state).waiting();
        Some(Waiting { records, bytes, oldest_ns: 0 })
    }

    /// Reads a queue.
    ///
    /// Errors: `NotFound` for a name that the lane does not have.
    pub fn reader(&self, queue: &str) -> io::Result<Reader> {
        let shared = self.queue(queue).and_then(|q| lock(&self.0.store).shared(usize::from(q.0)));
        let queue =
            shared.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no queue {queue}")))?;
        Ok(Reader { lane: self.0.clone(), queue })
    }

    /// Begins without an end, in the order they began. Of our own lane: what lasts right now.
    pub fn unfinished(&self) -> Vec<Unfinished> {
        let store = lock(&self.0.store);
        let last_seen_ns = store.newest_time_ns();
        let open = store.starts.unfinished();
        open.map(|(key, time_ns, payload)| Unfinished {
            key,
            time_ns,
            payload: payload.to_vec(),
            last_seen_ns,
        })
        .collect()
    }

    /// What the records of `finish` belong to, if anything was said yet.
    pub fn header(&self, queue: Queue) -> Option<Vec<u8>> {
        let store = lock(&self.0.store);
        let header = store.tails.get(usize::from(queue.0))?.header();
        (!header.is_empty()).then(|| header.to_vec())
    }

    /// Says what the records of `finish` belong to.
    ///
    /// Errors: as `finish`.
    pub fn set_header(&self, queue: Queue, bytes: &[u8]) -> io::Result<()> {
        self.must_be_adopted()?;
        let mut store = lock(&self.0.store);
        store.tails.get_mut(usize::from(queue.0)).ok_or(io::ErrorKind::NotFound)?.set_header(bytes);
        store.flush()
    }

    /// Writes closing records and the end of what they close into this adopted lane, durably, as a whole:
    /// after a crash at any moment either all of it is there or nothing, so nothing is closed twice.
    ///
    /// Errors: `InvalidInput` for our own lane (use `Outbox::append`), a queue it does not have, or too many
    /// bytes; else the disk's, and then it may or may not be done: look at `unfinished` of the next adoption.
    pub fn finish(&self, t: Transaction<'_>) -> io::Result<()> {
        self.must_be_adopted()?;
        let invalid = |e: super::Refused| io::Error::new(io::ErrorKind::InvalidInput, e.to_string());
        {
            let mut store = lock(&self.0.store);
            let mut items = Items::of(&t, store.tails.len()).map_err(invalid)?;
            let log = number(&mut items, &mut store);
            write_whole(&mut store, &items, log, |_| Ok(()))?;
        }
        store::sync(&self.0.store)?;
        checkpoint_if_due(&self.0.store)
    }

    pub(crate) fn must_be_adopted(&self) -> io::Result<()> {
        if self.0.live {
            let what = "this is the process's own lane: use the outbox";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        Ok(())
    }

    /// Removes the lane's directory if everything in it is settled and nothing is unfinished. What it had
    /// delivered and lost is added to the directory's totals first.
    ///
    /// Errors: the disk's; the lane may be there still.
    pub fn remove_if_empty(self) -> io::Result<bool> {
        if self.0.live {
            return Ok(false);
        }
        self.0.remove_if_empty()
    }
}

/// Gives items their sequences and tags; returns the sequence under which the whole may be logged.
fn number(items: &mut [Item<'_>], store: &mut Store) -> u64 {
    let log = store.starts.tail.last_sequence + 1;
    let mut starts = log;
    let mut next: Vec<u64> = store.tails.iter().map(|t| t.last_sequence).collect();
    for item in items {
        let last = next.get_mut(usize::from(item.queue)).unwrap_or(&mut starts);
        *last += 1;
        item.sequence = *last;
        item.tag = store.tails.get(usize::from(item.queue)).map_or(0, |t| crc32c(t.header()));
    }
    log
}

/// Writes a transaction past the ring: first the whole as one frame among the starts, then its parts. A
/// crash in between leaves the frame, from which the next opening completes the parts.
pub(crate) fn write_whole(
    store: &mut Store,
    items: &[Item<'_>],
    log: u64,
    make_space: impl Fn(&mut Store) -> io::Result<()>,
) -> io::Result<()> {
    let mut logged = Ok(());
    if items.len() > 1 {
        // With the headers, so that what is completed from it never ends up under another one.
        let headers: Vec<(u16, Arc<[u8]>)> = store
            .tails
            .iter()
            .enumerate()
            .filter(|(i, _)| items.iter().any(|item| usize::from(item.queue) == *i))
            .map(|(i, tail)| (i as u16, tail.header().clone()))
            .collect();
        let mut whole: Vec<Item<'_>> = headers.iter().map(|(queue, h)| Item::header(*queue, h)).collect();
        whole.extend_from_slice(items);
        let mut bundle = vec![0; bundle::encoded_len(&whole)];
        let sum = bundle::encode(&whole, &mut bundle);
        let meta = Meta { kind: kind::TRANSACTION, flags: 0, sequence: log, time_ns: 0 };
        store.starts.push(meta, &bundle, sum);
        logged =
            make_space(store).and_then(|()| store.starts.tail.flush()).and_then(|()| store.starts.sync());
    }
    // Also after an error: the parts then wait in memory with the whole.
    for item in items {
        store.apply_item(item, None);
    }
    logged?;
    make_space(store)?;
    store.flush()
}

/// Forgets starts that ended, once there are many.
pub(crate) fn checkpoint_if_due(store: &Mutex<Store>) -> io::Result<()> {
    if !lock(store).starts.wants_checkpoint() {
        return Ok(());
    }
    store::sync(store)?;
    let mut store = lock(store);
    // What was drained since is not synced, but it is no transaction of `finish` either.
    store.starts.checkpoint()
}
