//! When a collection began and ended.

use std::sync::atomic::{AtomicU64, Ordering};

/// The times of data points in a replay: those of the transcript, so that the same one gives the same bytes.
#[derive(Debug)]
pub(super) struct Seen {
    first: AtomicU64,
    last: AtomicU64,
    /// When the last collection was.
    collected: AtomicU64,
    interval: u64,
}

impl Seen {
    pub fn new(interval: std::time::Duration) -> Self {
        let interval = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        Seen { first: AtomicU64::new(0), last: AtomicU64::new(0), collected: AtomicU64::new(0), interval }
    }

    /// Whether what was seen before this time is to be collected first.
    pub fn is_due(&self, time: u64) -> bool {
        let _ = self.first.compare_exchange(0, time, Ordering::Relaxed, Ordering::Relaxed);
        let _ = self.collected.compare_exchange(0, time, Ordering::Relaxed, Ordering::Relaxed);
        time.saturating_sub(self.collected.load(Ordering::Relaxed)) >= self.interval
    }

    pub fn see(&self, time: u64) {
        self.last.fetch_max(time, Ordering::Relaxed);
    }

    /// Start of cumulative series, start of those that begin anew with each collection, and now.
    pub fn times(&self) -> (u64, u64, u64) {
        let read = |time: &AtomicU64| time.load(Ordering::Relaxed);
        (read(&self.first), read(&self.collected), read(&self.last))
    }

    pub fn was_collected(&self) {
        self.collected.store(self.last.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}
