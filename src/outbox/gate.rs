//! What emitters and the writer's threads share, and the way from the ring into the segments.
//!
//! Two locks, always taken in this order: the store's (who writes files) and the gate's (who touches the
//! ring; never held during a system call that writes).

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::time::{Duration, Instant};

use super::bounds;
use super::bundle::Item;
use super::frame::kind;
use super::lane::{self, LaneInner};
use super::queue::{Tally, lock};
use super::ring::Ring;
use super::settings::{Settings, WhenFull};
use super::store::{self, Store};

/// Gathered before it is written: few system calls, and still in the processor's cache.
const ROUND: u64 = 256 << 10;
/// So often at most it is made sure that nobody removed the files: some 20 us each time.
const LOOK: Duration = Duration::from_millis(100);
/// An emitter that finds the ring full and somebody else draining waits so long before it takes the disk
/// for stuck.
const PATIENCE: Duration = Duration::from_millis(200);

/// How often an emitter looks for the lock before it sleeps; some microseconds.
const SPINS: u32 = 1000;

// In this order: what every emitter writes lies together, because between threads each cache line has to travel.
#[repr(C)]
pub(crate) struct Gate {
    pub(crate) ring: Option<Ring>,
    queues: Vec<Numbered>,
    /// Last sequence given among the starts.
    last_start: u64,
    pub(crate) accepted_bytes: u64,
    /// The disk refuses, or is too slow: with a full ring the policy decides at once.
    pub(crate) stuck: bool,
    /// Something that was taken from the ring is not written.
    pub(crate) behind: bool,
    /// The thread that drains sleeps until it is called.
    pub(crate) idle: bool,
    called: bool,
    pub(crate) closed: bool,
    pub(crate) unsynced_since: Option<Instant>,
    pub(crate) refused: u64,
    /// Dropped from the ring and not yet said in the segments: last sequence and count, per queue.
    dropped: HashMap<u16, (u64, u64)>,
    /// Headers that were dropped with them: what stays in the ring belongs to these.
    dropped_headers: HashMap<u16, Vec<u8>>,
}

#[derive(Clone, Copy, Default)]
struct Numbered {
    /// Last sequence given: as many records were accepted.
    last: u64,
    /// CRC-32C of the queue's header.
    tag: u32,
}

pub(crate) struct Core {
    pub(crate) settings: Settings,
    pub(crate) lane: Arc<LaneInner>,
    pub(crate) gate: Mutex<Gate>,
    /// Bytes; 0 without a ring. Here so that it can be read without the lock.
    pub(crate) ring_capacity: u64,
    /// The writer has something to do.
    pub(crate) work: Condvar,
    /// Something was written that is to be synced.
    pub(crate) unsynced: Condvar,
    /// The ring has room again.
    pub(crate) room: Condvar,
    /// Drains so far, for `wait`.
    pub(crate) drains: Mutex<u64>,
    pub(crate) drained: Condvar,
    pub(crate) tally: Arc<Tally>,
    pub(crate) adopted: Mutex<Vec<Weak<LaneInner>>>,
    pub(crate) warnings: Mutex<Vec<String>>,
}

/// What became of a transaction that did not go through the ring.
pub(crate) enum Past {
    /// It is written or, after an error, kept in memory and tried again.
    Accepted(io::Result<()>),
    /// Something older is kept already; this was not taken.
    Refused(io::Error),
}

impl Gate {
    pub(crate) fn new(ring: Option<Ring>, queues: usize) -> Self {
        Self {
            ring,
            queues: vec![Numbered::default(); queues],
            last_start: 0,
            accepted_bytes: 0,
            stuck: false,
            behind: false,
            idle: false,
            called: false,
            closed: false,
            unsynced_since: None,
            refused: 0,
            dropped: HashMap::new(),
            dropped_headers: HashMap::new(),
        }
    }

    /// Gives the items their sequences: from here on they are accepted. A header has none of its own.
    pub(crate) fn number(&mut self, items: &mut [Item<'_>]) {
        for item in items {
            match self.queues.get_mut(usize::from(item.queue)) {
                Some(queue) if item.kind == kind::RECORD => {
                    queue.last += 1;
                    (item.sequence, item.tag) = (queue.last, queue.tag);
                    self.accepted_bytes += item.len() as u64;
                }
                Some(queue) => queue.tag = item.tag,
                None => {
                    self.last_start += 1;
                    item.sequence = self.last_start;
                }
            }
        }
    }

    /// Records accepted.
    pub(crate) fn accepted(&self) -> u64 {
        self.queues.iter().map(|queue| queue.last).sum()
    }

    /// A sequence among the starts, for a transaction that is logged as a whole.
    pub(crate) fn number_log(&mut self) -> u64 {
        self.last_start += 1;
        self.last_start
    }

    fn drop_oldest(&mut self, len: usize, tally: &Tally) {
        let Some(ring) = &mut self.ring else { return };
        let (dropped, headers, mut records) = (&mut self.dropped, &mut self.dropped_headers, 0);
        ring.make_room(len, |item| {
            if item.kind == kind::HEADER {
                headers.insert(item.queue, item.payload[0].to_vec());
            } else {
                let entry = dropped.entry(item.queue).or_default();
                *entry = (item.sequence, entry.1 + 1);
                records += u64::from(item.kind == kind::RECORD);
            }
        });
        tally.dropped_in_ring(records);
    }

    pub(crate) fn has_work(&self) -> bool {
        self.behind || self.ring.as_ref().is_some_and(|r| !r.is_drained())
    }

    /// It is time to drain, or emitters will have to: the last quarter is for those who come meanwhile.
    pub(crate) fn is_filling(&self) -> bool {
        self.ring.as_ref().is_some_and(|r| r.used() > r.capacity() / 4 * 3)
    }

    /// Whether the writer has to be called: it sleeps, or has to hurry.
    pub(crate) fn must_call(&mut self) -> bool {
        let filling = self.is_filling();
        let call = std::mem::take(&mut self.idle) || (filling && !self.called);
        self.called = filling;
        call
    }
}

/// The lock is held for some 100 ns each time, to sleep and be woken takes a hundred times that.
fn lock_soon(gate: &Mutex<Gate>) -> MutexGuard<'_, Gate> {
    for _ in 0..SPINS {
        match gate.try_lock() {
            Ok(gate) => return gate,
            Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
            Err(TryLockError::Poisoned(_)) => break,
        }
    }
    lock(gate)
}

impl Core {
    /// Puts a transaction of `len` encoded bytes into the ring; waits or drops as the policy says.
    /// False: closed.
    pub(crate) fn put_in_ring(&self, items: &mut [Item<'_>], len: usize) -> bool {
        let mut gate = lock_soon(&self.gate);
        let mut waited = Duration::ZERO;
        let at = loop {
            if gate.closed {
                gate.refused += 1;
                return false;
            }
            if let Some(at) = gate.ring.as_ref().and_then(|ring| ring.room(len)) {
                break at;
            }
            gate = self.find_room(gate, len, &mut waited);
        };
        gate.number(items);
        if let Some(ring) = &mut gate.ring {
            ring.put(at, items, len);
        }
        let call = gate.must_call();
        drop(gate);
        if call {
            self.work.notify_one();
        }
        true
    }

    fn find_room<'a>(
        &'a self,
        mut gate: MutexGuard<'a, Gate>,
        len: usize,
        waited: &mut Duration,
    ) -> MutexGuard<'a, Gate> {
        if gate.stuck {
            if gate.ring.as_ref().is_some_and(Ring::is_held) {
                // A drain copies right now, for some 100 us at most; only then it is known what may go.
                drop(gate);
                std::thread::yield_now();
                return lock(&self.gate);
            }
            if self.settings.when_full == WhenFull::DropOldest {
                gate.drop_oldest(len, &self.tally);
                return gate;
            }
            return self.room.wait(gate).unwrap_or_else(PoisonError::into_inner);
        }
        drop(gate);
        // Nobody else is at it: the emitter does it itself, which is quicker than calling somebody.
        if let Ok(mut store) = self.lane.store.try_lock() {
            let _ = self.drain_held(&mut store);
            return lock(&self.gate);
        }
        let gate = lock(&self.gate);
        if gate.closed || gate.stuck || gate.ring.as_ref().is_none_or(|r| r.room(len).is_some()) {
            return gate;
        }
        let began = Instant::now();
        let (mut gate, result) =
            self.room.wait_timeout(gate, PATIENCE).unwrap_or_else(PoisonError::into_inner);
        *waited += began.elapsed();
        if result.timed_out() && *waited >= PATIENCE {
            gate.stuck = true;
        }
        gate
    }

    /// Ring to segments, until the ring is empty.
    pub(crate) fn drain(&self) -> io::Result<()> {
        self.drain_held(&mut lock(&self.lane.store))
    }

    pub(crate) fn drain_held(&self, store: &mut Store) -> io::Result<()> {
        loop {
            // What an earlier round could not write goes first, alone, so that memory stays bounded.
            while store.pending_bytes() == 0 && self.gather(store) {}
            if store.pending_bytes() == 0 {
                let mut gate = lock(&self.gate);
                gate.behind = false;
                self.release(&mut gate);
                return Ok(());
            }
            if let Err(e) = self.write_out(store) {
                let mut gate = lock(&self.gate);
                (gate.stuck, gate.behind) = (true, true);
                // Who waits for room has to look again: the policy applies now.
                self.room.notify_all();
                return Err(e);
            }
            {
                let mut gate = lock(&self.gate);
                self.mark_unsynced(&mut gate);
                self.release(&mut gate);
            }
            *lock(&self.drains) += 1;
            self.drained.notify_all();
        }
    }

    /// Adds one round of what the ring holds to the store. Emitters go on meanwhile: the lock is only held to
    /// say what is read. False: there was nothing.
    fn gather(&self, store: &mut Store) -> bool {
        let (dropped, headers, window) = {
            let mut gate = lock(&self.gate);
            let (dropped, headers) =
                (std::mem::take(&mut gate.dropped), std::mem::take(&mut gate.dropped_headers));
            (dropped, headers, gate.ring.as_mut().and_then(Ring::take))
        };
        // All of what was dropped is older than what is read now.
        for (queue, (sequence, count)) in dropped {
            store.lost(queue, sequence, count);
        }
        for (queue, header) in headers {
            store.set_header(queue, &header);
        }
        let Some(mut window) = window else { return false };
        let enough = window.left().saturating_sub(ROUND);
        while window.left() > enough
            && let Some(bundle) = window.next()
        {
            store.apply(bundle, None);
        }
        if let Some(ring) = &mut lock(&self.gate).ring {
            ring.give_back(&window);
        }
        true
    }

    fn write_out(&self, store: &mut Store) -> io::Result<()> {
        bounds::make_space(&self.settings, store, &lock(&self.adopted))?;
        match store.flush() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.restore(store)?;
                store.flush()
            }
            // What this file refused is planned for another one by now, which may take it: at once, or emitters
            // would take the disk for stuck.
            Err(e) if !matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                store.flush()
            }
            flushed => flushed,
        }
    }

    /// Sees whether somebody removed files that are in use, if `every` has passed since the last look, and
    /// makes them again.
    pub(crate) fn look_after(&self, every: Duration) -> io::Result<()> {
        let mut store = lock(&self.lane.store);
        if store.looked.elapsed() < every {
            return Ok(());
        }
        let path = self.lane.dir.join("ring");
        let restored = self.restore(&mut store);
        if lock(&self.gate).ring.as_ref().is_some_and(|r| r.is_gone(&path)) {
            self.replace_ring(&mut store, &path)?;
        }
        restored
    }

    fn restore(&self, store: &mut Store) -> io::Result<()> {
        if self.lane.restore(store)? {
            self.mark_unsynced(&mut lock(&self.gate));
        }
        Ok(())
    }

    /// A new ring in place of one without a name. What is in the old one is taken first.
    fn replace_ring(&self, store: &mut Store, path: &Path) -> io::Result<()> {
        self.drain_held(store)?;
        let made =
            Ring::create(path, self.settings.ring_bytes).inspect_err(|_| drop(fs::remove_file(path)))?;
        store.made_again(&self.lane.dir);
        let mut old = lock(&self.gate).ring.replace(made);
        while let Some(mut window) = old.as_mut().and_then(Ring::take) {
            while let Some(bundle) = window.next() {
                store.apply(bundle, None);
            }
            if let Some(old) = &mut old {
                old.give_back(&window);
            }
        }
        self.drain_held(store)
    }

    fn mark_unsynced(&self, gate: &mut Gate) {
        if gate.unsynced_since.is_none() {
            gate.unsynced_since = Some(Instant::now());
            self.unsynced.notify_one();
        }
    }

    /// Everything taken is written: its space is free.
    fn release(&self, gate: &mut Gate) {
        gate.stuck = false;
        gate.behind = false;
        let Some(ring) = &mut gate.ring else { return };
        ring.release();
        // Emitters that wait are not woken for every round, they would only fill it and sleep again.
        if ring.used() <= ring.capacity() / 8 * 7 {
            self.room.notify_all();
        }
    }

    /// Drain and `fdatasync`.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let looked = self.look_after(LOOK);
        let drained = self.drain();
        let since = lock(&self.gate).unsynced_since.take();
        let synced = store::sync(&self.lane.store).and_then(|()| lane::checkpoint_if_due(&self.lane.store));
        if synced.is_err() {
            let mut gate = lock(&self.gate);
            self.mark_unsynced(&mut gate);
            gate.unsynced_since = gate.unsynced_since.min(since).or(gate.unsynced_since);
        }
        looked.and(drained).and(synced)
    }

    /// Writes a transaction that is too large for the ring, or has none, behind everything accepted before.
    pub(crate) fn past_ring(&self, items: &mut [Item<'_>]) -> Option<Past> {
        let mut store = lock(&self.lane.store);
        let log = loop {
            let drained = self.drain_held(&mut store);
            let mut gate = lock(&self.gate);
            if gate.closed {
                gate.refused += 1;
                return None;
            }
            if let Err(e) = drained {
                if self.settings.when_full == WhenFull::Block {
                    drop((gate, store));
                    self.pause(Duration::from_millis(20));
                    store = lock(&self.lane.store);
                    continue;
                }
                gate.refused += 1;
                return Some(Past::Refused(e));
            }
            // Under both locks: nobody can come in between the sequences and the files.
            if !gate.has_work() {
                let log = gate.number_log();
                gate.number(items);
                break log;
            }
        };
        let written = lane::write_whole(&mut store, items, log, |store| {
            bounds::make_space(&self.settings, store, &lock(&self.adopted))
        });
        let mut gate = lock(&self.gate);
        self.mark_unsynced(&mut gate);
        if written.is_err() {
            (gate.stuck, gate.behind) = (true, true);
        }
        if gate.must_call() {
            self.work.notify_one();
        }
        drop(gate);
        *lock(&self.drains) += 1;
        self.drained.notify_all();
        Some(Past::Accepted(written))
    }

    pub(crate) fn wake_waiting(&self) {
        drop(lock(&self.gate));
        self.room.notify_all();
    }

    /// Waits for space to be given back, or `at_most`.
    pub(crate) fn pause(&self, at_most: Duration) {
        let freed = self.lane.freed();
        let guard = lock(&freed.0);
        drop(freed.1.wait_timeout(guard, at_most));
    }
}
