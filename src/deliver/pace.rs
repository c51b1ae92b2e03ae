//! How fast, how much and how long.

use std::time::Duration;

use tokio::time::Instant;

/// The numbers of a route. The default is right for a local or remote collector; tests use shorter waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The first wait after a failure; each further one is twice as long, minus up to half by jitter.
    pub first_wait: Duration,
    /// No wait of ours is longer.
    pub longest_wait: Duration,
    /// How often a destination is asked again that can't be used as it is configured.
    pub paused: Duration,
    /// How long to gather after a nudge, so that a burst of records is a few requests and not hundreds.
    pub linger: Duration,
    /// An empty queue is looked at this often without a nudge.
    pub look_again: Duration,
    /// Batches on their way at the same time.
    pub in_flight: usize,
    /// Bytes of records in a batch, at most. The default stays below the 4 MiB that a stock gRPC receiver
    /// takes.
    pub batch_bytes: usize,
    /// Records in a batch, at most.
    pub batch_records: usize,
    /// Refused requests per minute that are cut in two. A destination that refuses everything would otherwise
    /// see twice as many requests as there are records, as fast as it can refuse them.
    pub splits_per_minute: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(60),
            paused: Duration::from_secs(300),
            linger: Duration::from_millis(200),
            look_again: Duration::from_secs(5),
            in_flight: 2,
            batch_bytes: 3_670_016,
            batch_records: 10_000,
            splits_per_minute: 120,
        }
    }
}

impl Pace {
    /// The size of further batches after one with `refused` bytes was too big. Not less than 64 KiB: then it
    /// is single records that are too big, and all others need not suffer.
    pub(crate) fn smaller(&self, refused: usize) -> usize {
        (refused / 2).max(64 << 10).min(self.batch_bytes)
    }
}

/// The budget for cutting batches in two, per minute.
#[derive(Debug)]
pub(crate) struct Splits {
    per_minute: u32,
    left: u32,
    since: Instant,
}

impl Splits {
    pub(crate) fn new(per_minute: u32) -> Self {
        Self { per_minute, left: per_minute, since: Instant::now() }
    }

    /// Takes one. When it was the last, how long to wait for more.
    pub(crate) fn spend(&mut self) -> Option<Duration> {
        const MINUTE: Duration = Duration::from_secs(60);
        let passed = self.since.elapsed();
        if passed >= MINUTE {
            *self = Self::new(self.per_minute);
        }
        self.left = self.left.saturating_sub(1);
        (self.left == 0).then(|| MINUTE.saturating_sub(self.since.elapsed()))
    }
}
