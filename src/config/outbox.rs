//! What was said about the outbox.

use std::path::PathBuf;
use std::time::Duration;

use super::env::Env;
use super::{ConfigError, Setting};

/// How the outbox behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxConfig {
    /// What has happened to a record when it counts as accepted.
    pub accept: Setting<Accept>,
    /// The longest time that an accepted record stays without `fdatasync`.
    pub sync_interval: Setting<Duration>,
    /// Bound for the whole directory in bytes.
    pub max_bytes: Setting<u64>,
    /// What is older is dropped and counted.
    pub max_age: Setting<Duration>,
    /// Size of the accept ring in bytes.
    pub ring_bytes: Setting<u64>,
    /// What gives way when the directory is full.
    pub when_full: Setting<WhenFull>,
}

/// Where a record is when it counts as accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// In the mapped ring.
    Ring,
    /// In a file.
    Write,
    /// In a file that was synced.
    Sync,
}

/// What gives way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest records, counted as lost.
    DropOldest,
    /// Whoever emits.
    Block,
}

impl Env<'_> {
    /// Where the outbox is.
    pub(super) fn outbox_dir(&self) -> Result<Setting<PathBuf>, ConfigError> {
        self.directory("FACTLINE_OUTBOX_DIR", "outbox")
    }

    pub(super) fn outbox(&mut self) -> OutboxConfig {
        const ACCEPT: [(&str, Accept); 3] =
            [("ring", Accept::Ring), ("write", Accept::Write), ("sync", Accept::Sync)];
        const FULL: [(&str, WhenFull); 2] =
            [("drop-oldest", WhenFull::DropOldest), ("block", WhenFull::Block)];
        OutboxConfig {
            accept: self.choice("FACTLINE_OUTBOX_ACCEPT", &ACCEPT, Accept::Ring),
            sync_interval: self.duration("FACTLINE_OUTBOX_SYNC_INTERVAL", Duration::from_millis(100)),
            max_bytes: self.number("FACTLINE_OUTBOX_MAX_BYTES", 1 << 30),
            max_age: self.duration("FACTLINE_OUTBOX_MAX_AGE", Duration::from_secs(7 * 24 * 3600)),
            ring_bytes: self.number("FACTLINE_OUTBOX_RING_BYTES", 8 << 20),
            when_full: self.choice("FACTLINE_OUTBOX_WHEN_FULL", &FULL, WhenFull::DropOldest),
        }
    }
}
