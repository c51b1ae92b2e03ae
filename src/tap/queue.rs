//! The way from the pumps to the observer: bounded by bytes, never waited for by a pump.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{Ended, Observed, Sender};

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
pub(super) enum Item {
    Bytes { dir: Sender, t_us: u64, bytes: Box<[u8]> },
    Lost { dir: Sender, lost: Lost },
    Closed { dir: Sender },
    Ended { t_us: u64, end: Ended },
}

#[derive(Default)]
struct State {
    items: VecDeque<Item>,
    cost: usize,
    lost: [Lost; 2],
    closed: [bool; 2],
    relayed: u64,
    handed: u64,
    ended: bool,
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

    /// Copies what a pump has read. Says whether the observer sleeps: then [`wake`](Queue::wake) it, after writing
    /// the bytes on, so that the relay does not pay for it before.
    #[must_use]
    pub(super) fn push(&self, dir: Sender, bytes: &[u8]) -> bool {
        // The copy is made outside the lock, for the other direction's sake.
        let copy: Box<[u8]> = bytes.into();
        let mut state = self.lock();
        state.relayed += bytes.len() as u64;
        if state.observed.is_some() || state.ended {
            return false;
        }
        let cost = copy.len() + CHUNK_COST;
        if state.cost + cost > self.limit {
            let lost = &mut state.lost[super::index(dir)];
            lost.chunks += 1;
            lost.bytes += bytes.len() as u64;
            lost.ends_line = bytes.ends_with(b"\n");
            return false;
        }
        state.tell_lost(dir);
        state.cost += cost;
        // The clock is read under the lock, so that the order of the queue is the order of its times.
        state.items.push_back(Item::Bytes { dir, t_us: now_us(), bytes: copy });
        state.waiting
    }

    /// That direction has ended.
    pub(super) fn close(&self, dir: Sender) {
        self.lock().close(dir);
        self.wake();
    }

    /// Everything has ended.
    pub(super) fn end(&self, end: Ended) {
        let mut state = self.lock();
        state.close(Sender::Client);
        state.close(Sender::Server);
        state.items.push_back(Item::Ended { t_us: now_us(), end });
        state.ended = true;
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

    /// The next item, waiting for it.
    pub(super) fn next(&self) -> Item {
        let mut state = self.lock();
        loop {
            if let Some(item) = state.pop() {
                return item;
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
    fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        if let Item::Bytes { bytes, .. } = &item {
            self.cost = self.cost.saturating_sub(bytes.len() + CHUNK_COST);
        }
        Some(item)
    }

    fn tell_lost(&mut self, dir: Sender) {
        let lost = std::mem::take(&mut self.lost[super::index(dir)]);
        if lost.chunks > 0 {
            self.items.push_back(Item::Lost { dir, lost });
        }
    }

    fn close(&mut self, dir: Sender) {
        if self.observed.is_some() || self.ended || self.closed[super::index(dir)] {
            return;
        }
        self.closed[super::index(dir)] = true;
        self.tell_lost(dir);
        self.items.push_back(Item::Closed { dir });
    }
}

/// Microseconds since the Unix epoch.
pub(super) fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}
