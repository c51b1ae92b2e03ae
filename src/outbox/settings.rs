//! What a host decides about its outbox, and why an outbox could not be opened.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How an outbox behaves. [`Settings::new`] gives the defaults.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The directory that holds all lanes. Made with mode 0700 where it is missing.
    pub dir: PathBuf,
    /// Names of the queues, each `[a-z0-9.-]{1,64}`, at most 256.
    pub queues: Vec<String>,
    /// Size of the accept ring in bytes.
    pub ring_bytes: usize,
    /// Size in bytes from which on a segment is closed and the next one begun.
    pub segment_bytes: u64,
    /// Bound for the whole directory in bytes, other processes' lanes included.
    pub max_bytes: u64,
    /// A segment whose newest record is older is dropped and counted.
    pub max_age: Duration,
    /// What has happened to a record when `append` returns.
    pub accept: Accept,
    /// The longest time that an accepted record stays without `fdatasync`. Zero: synced with every drain.
    pub sync_interval: Duration,
    /// What happens when `max_bytes` is reached, or the disk refuses and the ring is full.
    pub when_full: WhenFull,
}

impl Settings {
    /// 8 MiB.
    pub const RING_BYTES: usize = 8 << 20;
    /// 8 MiB.
    pub const SEGMENT_BYTES: u64 = 8 << 20;
    /// 1 GiB.
    pub const MAX_BYTES: u64 = 1 << 30;
    /// Seven days.
    pub const MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
    /// 100 ms.
    pub const SYNC_INTERVAL: Duration = Duration::from_millis(100);

    /// The defaults, for `dir`, with no queue yet.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            queues: Vec::new(),
            ring_bytes: Self::RING_BYTES,
            segment_bytes: Self::SEGMENT_BYTES,
            max_bytes: Self::MAX_BYTES,
            max_age: Self::MAX_AGE,
            accept: Accept::Ring,
            sync_interval: Self::SYNC_INTERVAL,
            when_full: WhenFull::DropOldest,
        }
    }
}

/// What has happened to a record when `append` returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    /// It is in the mapped ring: it survives the process.
    Ring,
    /// It is in a segment by `write(2)`: it survives the process without a ring.
    Write,
    /// It is in a segment and `fdatasync` returned: it survives power loss.
    Sync,
}

/// What gives way when there is no more space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest segment, counted as lost.
    DropOldest,
    /// The emitter: `append` waits, without a limit.
    Block,
}

/// Why an outbox could not be opened.
#[derive(Debug)]
pub struct OpenError {
    path: PathBuf,
    what: String,
    advice: &'static str,
    source: Option<io::Error>,
}

impl OpenError {
    pub(crate) fn new(path: &Path, what: impl Into<String>, advice: &'static str) -> Self {
        Self { path: path.into(), what: what.into(), advice, source: None }
    }

    pub(crate) fn io(path: &Path, what: &str, error: io::Error) -> Self {
        let advice = match error.kind() {
            io::ErrorKind::PermissionDenied => "choose a directory that this user may write",
            io::ErrorKind::StorageFull => "free some space, or choose another directory",
            _ => "choose another directory",
        };
        Self { path: path.into(), what: format!("{what}: {error}"), advice, source: Some(error) }
    }

    /// The file or directory it is about.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "outbox {}: {}; {}", self.path.display(), self.what, self.advice)
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|e| e as _)
    }
}

pub(crate) fn queue_name_is_valid(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name != "starts"
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-')
}
