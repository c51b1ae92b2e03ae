//! The way from the pumps to the observer: bounded by bytes, never waited for by a pump.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{Ended, Observed, Sender, Transport};

/// What a chunk costs beside its bytes, so that a flood of one-byte reads is bounded as well.
const CHUNK_COST: usize = 96;

/// A part of a direction that was not observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) chunks: u64,
    pub(super) bytes: u64,
    /// Its last byte was a newline, so that what follows begins a line.
    pub(super) ends_line: bool,
}

/// What the observer's thread works on, in order.
pub(super) struct Item {
    pub(super) conn: u32,
    pub(super) what: What,
}

pub(super) enum What {
    Opened { t_us: u64, transport: Transport },
    Bytes { dir: Sender, t_us: u64, bytes: Box<[u8]> },
    Lost { dir: Sender, lost: Lost },
    Closed { dir: Sender },
    Ended { t_us: u64, end: Ended },
}

/// What the queue knows of a connection that has begun and not ended.
#[derive(Default)]
struct Connection {
    lost: [Lost; 2],
    closed: [bool; 2],
}

#[derive(Default)]
struct State {
    items: VecDeque<Item>,
    connections: HashMap<u32, Connection>,
    begun: u32,
    cost: usize,
    relayed: u64,
    handed: u64,
    finished: Option<Ended>,
    waiting: bool,
    observed: Option<Observed>,
}

/// The bounded queue.
pub(super) struct Queue {
    limit: usize,
    state: Mutex<State>,
    filled: Condvar,
    done: Condvar,
}

impl Queue {
    pub(super) fn new(limit: usize) -> Queue {
        Queue { limit, state: Mutex::default(), filled: Condvar::new(), done: Condvar::new() }
    }

    /// A connection has begun: its number, from 1. None where there is no room to say so; then none of it is
    /// observed.
    pub(super) fn open(&self, transport: Transport) -> Option<u32> {
        let mut state = self.lock();
        if state.is_over() || state.cost + CHUNK_COST > self.limit {
            return None;
        }
        let conn = state.begun.checked_add(1)?;
        state.begun = conn;
        state.cost += CHUNK_COST;
        state.connections.insert(conn, Connection::default());
        state.put(conn, What::Opened { t_us: now_us(), transport });
        drop(state);
        self.wake();
        Some(conn)
    }

    /// Whether that many bytes would be taken now, so that nobody copies them for nothing.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let state = self.lock();
        !state.is_over() && state.cost + bytes + CHUNK_COST <= self.limit
    }

    /// Takes a copy of what a pump has read. Says whether the observer sleeps: then [`wake`](Queue::wake) it, after
    /// writing the bytes on, so that the relay does not pay for it before.
    #[must_use]
    pub(super) fn push(&self, conn: u32, dir: Sender, bytes: impl Into<Box<[u8]>>) -> bool {
        // A copy is made outside the lock, for the other direction's sake.
        let copy: Box<[u8]> = bytes.into();
        let len = copy.len() as u64;
        let mut state = self.lock();
        state.relayed += len;
        if state.is_over() {
            return false;
        }
        let cost = copy.len() + CHUNK_COST;
        if state.cost + cost > self.limit {
            state.lose(conn, dir, Lost { chunks: 1, bytes: len, ends_line: copy.ends_with(b"\n") });
            return false;
        }
        state.tell_lost(conn, dir);
        state.cost += cost;
        // The clock is read under the lock, so that the order of the queue is the order of its times.
        state.put(conn, What::Bytes { dir, t_us: now_us(), bytes: copy });
        state.waiting
    }

    /// That many bytes were relayed that nobody can read along with.
    pub(super) fn skip(&self, conn: u32, dir: Sender, bytes: u64, ends_line: bool) {
        let mut state = self.lock();
        state.relayed += bytes;
        if !state.is_over() {
            state.lose(conn, dir, Lost { chunks: 1, bytes, ends_line });
        }
    }

    /// That direction has ended.
    pub(super) fn close(&self, conn: u32, dir: Sender) {
        self.lock().close(conn, dir);
        self.wake();
    }

    /// That connection has ended.
    pub(super) fn end(&self, conn: u32, end: Ended) {
        self.lock().end(conn, end);
        self.wake();
    }

    /// Everything has ended, also the connections that are still open.
    pub(super) fn finish(&self, end: Ended) {
        let mut state = self.lock();
        let mut open: Vec<u32> = state.connections.keys().copied().collect();
        open.sort_unstable();
        for conn in open {
            state.end(conn, end);
        }
        state.finished = Some(end);
        drop(state);
        self.wake();
    }

    pub(super) fn wake(&self) {
        self.filled.notify_one();
    }

    /// The next item if there is one.
    pub(super) fn next_now(&self) -> Option<Item> {
        self.lock().pop()
    }

    /// The next item, waiting for it; how everything ended once there is none any more.
    pub(super) fn next(&self) -> Result<Item, Ended> {
        let mut state = self.lock();
        loop {
            if let Some(item) = state.pop() {
                return Ok(item);
            }
            if let Some(end) = state.finished {
                return Err(end);
            }
            state.waiting = true;
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting = false;
        }
    }

    /// That many bytes were handed to the observer in lines.
    pub(super) fn handed(&self, bytes: u64) {
        self.lock().handed += bytes;
    }

    /// The observer is gone; what waits for it is let go.
    pub(super) fn observer_gone(&self, observed: Observed) {
        let mut state = self.lock();
        state.observed = Some(observed);
        state.items = VecDeque::new();
        drop(state);
        self.done.notify_all();
    }

    /// Waits for the observer for that long; says how far it came, and how many bytes it never got.
    pub(super) fn wait_for_observer(&self, grace: Duration) -> (Observed, u64) {
        let until = Instant::now() + grace;
        let mut state = self.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if state.observed.is_some() || left.is_zero() {
                let unobserved = state.relayed.saturating_sub(state.handed);
                return (state.observed.unwrap_or(Observed::Busy), unobserved);
            }
            let waited = self.done.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic half-way happens under the lock, and the relay must go on in any case.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_over(&self) -> bool {
        self.observed.is_some() || self.finished.is_some()
    }

    fn put(&mut self, conn: u32, what: What) {
        self.items.push_back(Item { conn, what });
    }

    fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        let cost = match &item.what {
            What::Bytes { bytes, .. } => bytes.len() + CHUNK_COST,
            // A connection pays for all its words at once.
            What::Opened { .. } => CHUNK_COST,
            _ => 0,
        };
        self.cost = self.cost.saturating_sub(cost);
        Some(item)
    }

    fn lose(&mut self, conn: u32, dir: Sender, more: Lost) {
        if let Some(connection) = self.connections.get_mut(&conn) {
            let lost = &mut connection.lost[super::index(dir)];
            lost.chunks += more.chunks;
            lost.bytes += more.bytes;
            lost.ends_line = more.ends_line;
        }
    }

    fn tell_lost(&mut self, conn: u32, dir: Sender) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        let lost = std::mem::take(&mut connection.lost[super::index(dir)]);
        if lost.chunks > 0 {
            self.put(conn, What::Lost { dir, lost });
        }
    }

    fn close(&mut self, conn: u32, dir: Sender) {
        if self.is_over() {
            return;
        }
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        if !std::mem::replace(&mut connection.closed[super::index(dir)], true) {
            self.tell_lost(conn, dir);
            self.put(conn, What::Closed { dir });
        }
    }

    fn end(&mut self, conn: u32, end: Ended) {
        self.close(conn, Sender::Client);
        self.close(conn, Sender::Server);
        if self.connections.remove(&conn).is_some() && !self.is_over() {
            self.put(conn, What::Ended { t_us: now_us(), end });
        }
    }
}

/// Microseconds since the Unix epoch.
pub(super) fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}
