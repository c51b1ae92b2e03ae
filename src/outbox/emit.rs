//! The outbox as emitters see it.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::bundle::{self, Item, Items};
use super::gate::{Core, Gate, Past};
use super::lane::{Lane, LaneInner};
use super::place;
use super::queue::{Tally, lock};
use super::record::{Counters, Queue, Refused, Transaction};
use super::ring::Ring;
use super::settings::{Accept, OpenError, Settings, queue_name_is_valid};
use super::writer;

const RESTORED: &str = "files of this outbox were removed while it was in use; they were made again, and \
    what could not be saved is counted as lost when its turn comes";

/// A durable outbox; clones share it. The last one that goes closes it.
#[derive(Clone)]
pub struct Outbox(Arc<Handle>);

struct Handle {
    core: Arc<Core>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Outbox {
    /// Makes and locks this process's own lane, and starts the threads that write and sync.
    ///
    /// Errors: a directory that can't be made, is a symlink or somebody else's; a queue name that is none.
    /// What others left in the directory, damaged or not, is no reason to fail.
    pub fn open(settings: Settings) -> Result<Outbox, OpenError> {
        Self::open_with(settings, Ring::create)
    }

    fn open_with(
        mut settings: Settings,
        make_ring: impl FnOnce(&Path, usize) -> io::Result<Ring>,
    ) -> Result<Outbox, OpenError> {
        check_queues(&settings)?;
        place::private_dir(&settings.dir)?;
        let lanes = settings.dir.join("lanes");
        place::private_dir(&lanes)?;
        settings.ring_bytes = settings.ring_bytes.min((settings.max_bytes / 4) as usize).max(16 << 10);
        let tally = Arc::<Tally>::default();
        let lane = LaneInner::create(&settings, &tally)
            .map_err(|e| OpenError::io(&lanes, "this process's own lane cannot be made", e))?;
        let mut warnings = Vec::new();
        let ring_path = lane.dir.join("ring");
        let ring = match make_ring(&ring_path, settings.ring_bytes) {
            Ok(ring) => Some(ring),
            Err(e) => {
                warnings.push(format!("no accept ring ({e}); every record is written when it is accepted"));
                let _ = fs::remove_file(&ring_path);
                if settings.accept == Accept::Ring {
                    settings.accept = Accept::Write;
                }
                None
            }
        };
        let core = Arc::new(Core::new(settings, Arc::new(lane), ring, tally, warnings));
        let handle = Handle { core, threads: Mutex::default() };
        let spawn = |name: &str, run: fn(&Core)| {
            let core = handle.core.clone();
            let thread = std::thread::Builder::new().name(name.into()).spawn(move || run(&core));
            thread.map_err(|e| OpenError::io(&lanes, "a thread cannot be started", e))
        };
        for (name, run) in [("factline-outbox", writer::drain as fn(&Core)), ("factline-sync", writer::sync)]
        {
            let thread = spawn(name, run)?;
            lock(&handle.threads).push(thread);
        }
        Ok(Outbox(Arc::new(handle)))
    }

    /// A queue by its name.
    pub fn queue(&self, name: &str) -> Option<Queue> {
        self.0.core.settings.queues.iter().position(|q| q == name).map(|i| Queue(i as u16))
    }

    /// What the records that follow in `queue` belong to (resource and scope). A batch never mixes two.
    /// Ignored for a queue of another lane, and above 16 MiB.
    pub fn set_header(&self, queue: Queue, bytes: &[u8]) {
        let core = &self.0.core;
        if usize::from(queue.0) >= core.settings.queues.len() || bytes.len() > super::MAX_RECORD {
            return;
        }
        let mut items = [Item::header(queue.0, bytes)];
        let len = bundle::encoded_len(&items);
        if core.rings(len) {
            core.put_in_ring(&mut items, len);
        } else if let Some(Past::Refused(e)) = core.past_ring(&mut items) {
            core.warn(format!("a header of {} bytes was not taken: {e}", bytes.len()));
        }
    }

    /// Accepts a transaction, all or nothing, also across a crash of the process. Callable from any thread.
    ///
    /// Errors: see [`Refused`]; refused transactions are counted.
    pub fn append(&self, t: Transaction<'_>) -> Result<(), Refused> {
        let queues = self.0.core.settings.queues.len();
        let refused = |refused| {
            lock(&self.0.core.gate).refused += 1;
            refused
        };
        // What is a single record, as most are, needs no list.
        if let Transaction { begin: None, end: None, records: [one] } = t {
            return self.take(&mut [Item::record(one, queues).map_err(refused)?]);
        }
        match Items::of(&t, queues).map_err(refused)? {
            items if items.is_empty() => Ok(()),
            mut items => self.take(&mut items),
        }
    }

    fn take(&self, items: &mut [Item<'_>]) -> Result<(), Refused> {
        let core = &self.0.core;
        let len = bundle::encoded_len(items);
        let written = if core.rings(len) {
            if !core.put_in_ring(items, len) {
                return Err(Refused::Closed);
            }
            match core.settings.accept {
                Accept::Ring => return Ok(()),
                Accept::Write | Accept::Sync => core.drain(),
            }
        } else {
            match core.past_ring(items).ok_or(Refused::Closed)? {
                Past::Accepted(written) => written,
                Past::Refused(_) => return Err(Refused::Disk),
            }
        };
        let safe = match core.settings.accept {
            Accept::Sync => written.and_then(|()| core.sync()),
            Accept::Ring | Accept::Write => written,
        };
        safe.map_err(|_| Refused::NotYetSafe)
    }

    /// Ring to segments, now.
    ///
    /// Errors: the disk's, and `StorageFull` at `max_bytes` with `WhenFull::Block`; what was accepted is
    /// kept and tried again.
    pub fn drain(&self) -> io::Result<()> {
        self.0.core.drain()
    }

    /// Everything accepted before the call survives power loss after it. Files that somebody removed are
    /// made again first, which otherwise happens within 100 ms of the next record.
    ///
    /// Errors: as `drain`.
    pub fn sync(&self) -> io::Result<()> {
        let looked = self.0.core.look_after(Duration::ZERO);
        self.0.core.sync().and(looked)
    }

    /// Drains, syncs and stops the threads; what is appended later is refused. An empty lane's
    /// directory is removed. Calling it again does nothing.
    ///
    /// Errors: the disk's; what could not be written stays in the ring's file for the next adoption.
    pub fn close(&self) -> io::Result<()> {
        self.0.close()
    }

    /// The reading side of our own lane.
    pub fn own(&self) -> Lane {
        Lane(self.0.core.lane.clone())
    }

    /// Takes the lanes whose owner is gone (nobody holds their lock). They are ours from now on, until the
    /// last clone of the `Lane` and its readers go. A lane that can't be taken is in `warnings`.
    pub fn adopt(&self) -> Vec<Lane> {
        let core = &self.0.core;
        let lanes = core.settings.dir.join("lanes");
        let mut adopted = Vec::new();
        for name in place::directories(&lanes).unwrap_or_default() {
            match LaneInner::adopt(&core.settings, &name, &core.tally) {
                Ok(Some(lane)) => adopted.push(Lane(Arc::new(lane))),
                Ok(None) => {}
                Err(e) => core.warn(format!("lane {name} cannot be adopted: {e}")),
            }
        }
        let mut known = lock(&core.adopted);
        known.retain(|lane| lane.strong_count() > 0);
        known.extend(adopted.iter().map(|lane| Arc::downgrade(&lane.0)));
        adopted
    }

    /// Blocks until something was drained since the ticket `seen`, or `timeout`; returns the present ticket.
    /// The first ticket is 0.
    pub fn wait(&self, seen: u64, timeout: Duration) -> u64 {
        let core = &self.0.core;
        let until = Instant::now() + timeout;
        let mut now = lock(&core.drains);
        while *now == seen {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            now = core.drained.wait_timeout(now, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *now
    }

    /// What this process did so far.
    pub fn counters(&self) -> Counters {
        let core = &self.0.core;
        let (accepted, accepted_bytes, refused) = {
            let gate = lock(&core.gate);
            (gate.accepted(), gate.accepted_bytes, gate.refused)
        };
        let (written, delivered, lost) = core.tally.read();
        Counters { accepted, accepted_bytes, written, delivered, lost, refused }
    }

    /// Bytes of the ring that are in use, and how many it has; none without a ring.
    pub fn ring(&self) -> (u64, u64) {
        let gate = lock(&self.0.core.gate);
        (gate.ring.as_ref().map_or(0, Ring::used), self.0.core.ring_capacity)
    }

    /// Adds to [`warnings`](Outbox::warnings) what whoever uses this outbox found out, once.
    pub fn warn(&self, warning: &str) {
        self.0.core.warn(warning.to_owned());
    }

    /// What an operator should know (no ring, a lane that can't be adopted), each said once. This module
    /// prints and traces nothing: it must never feed on itself.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = lock(&self.0.core.warnings).clone();
        if self.0.core.lane.was_restored.load(Ordering::Relaxed) {
            warnings.push(RESTORED.into());
        }
        warnings
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.0.core.settings.dir
    }
}

fn check_queues(settings: &Settings) -> Result<(), OpenError> {
    let advice = "name queues with 1 to 64 of a-z, 0-9, '.' and '-'";
    if settings.queues.len() > 256 {
        return Err(OpenError::new(&settings.dir, "more than 256 queues", advice));
    }
    for (i, name) in settings.queues.iter().enumerate() {
        if !queue_name_is_valid(name) {
            return Err(OpenError::new(&settings.dir, format!("{name:?} is no queue name"), advice));
        }
        if settings.queues[..i].contains(name) {
            return Err(OpenError::new(&settings.dir, format!("queue {name:?} is named twice"), advice));
        }
    }
    Ok(())
}

impl Core {
    fn new(
        settings: Settings,
        lane: Arc<LaneInner>,
        ring: Option<Ring>,
        tally: Arc<Tally>,
        warnings: Vec<String>,
    ) -> Self {
        let gate = Mutex::new(Gate::new(ring, settings.queues.len()));
        let ring_capacity = lock(&gate).ring.as_ref().map_or(0, Ring::capacity);
        Self {
            settings,
            lane,
            gate,
            ring_capacity,
            work: Condvar::new(),
            unsynced: Condvar::new(),
            room: Condvar::new(),
            drains: Mutex::new(0),
            drained: Condvar::new(),
            tally,
            adopted: Mutex::default(),
            warnings: Mutex::new(warnings),
        }
    }

    /// Whether a transaction of `len` encoded bytes goes through the ring.
    fn rings(&self, len: usize) -> bool {
        len as u64 + 64 <= self.ring_capacity / 2
    }

    fn warn(&self, warning: String) {
        let mut warnings = lock(&self.warnings);
        // Few kinds are ever said; a mistake that says another one each time must not fill the memory.
        if warnings.len() < 64 && !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
}

impl Handle {
    fn close(&self) -> io::Result<()> {
        let mut threads = lock(&self.threads);
        if threads.is_empty() {
            return Ok(());
        }
        lock(&self.core.gate).closed = true;
        self.core.work.notify_all();
        self.core.unsynced.notify_all();
        self.core.wake_waiting();
        self.core.lane.space_freed();
        for thread in threads.drain(..) {
            let _ = thread.join();
        }
        self.core.sync()?;
        self.core.lane.remove_if_empty()?;
        Ok(())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let _ = self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::{Key, Record, Settled};

    #[test]
    fn without_a_ring_every_record_is_written_at_once_and_it_is_said_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::new(dir.path());
        settings.queues = vec!["a".into(), "b".into()];
        let no_ring = |_: &Path, _: usize| Err(io::ErrorKind::Unsupported.into());
        let outbox = Outbox::open_with(settings, no_ring).unwrap();
        assert_eq!(outbox.warnings().len(), 1);
        let (a, b) = (outbox.queue("a").unwrap(), outbox.queue("b").unwrap());
        outbox.set_header(a, b"res");
        for i in 0..50u8 {
            let record = Record { queue: a, time_ns: 1, content: false, payload: &[i] };
            let records = [record, Record { queue: b, ..record }];
            let begin = Some((Key([i; 24]), 1, &b"x"[..]));
            outbox.append(Transaction { begin, records: &records, ..Default::default() }).unwrap();
        }
        assert_eq!(outbox.counters().written, 100);
        assert_eq!(outbox.own().unfinished().len(), 50);
        let mut reader = outbox.own().reader("a").unwrap();
        let batch = reader.next(1000, 1000).unwrap().unwrap();
        assert_eq!((&*batch.header, batch.len()), (&b"res"[..], 50));
        assert!(batch.payloads().eq((0..50u8).map(|i| [i])));
        reader.settle(&batch, Settled::delivered(&batch)).unwrap();
    }
}
