//! The words that emitters and readers use: records, transactions, batches, counters.

use std::fmt;
use std::sync::Arc;

/// The largest payload of one record: 16 MiB.
pub const MAX_RECORD: usize = 16 << 20;
/// The largest sum of payloads in one transaction: 32 MiB.
pub const MAX_TRANSACTION: usize = 32 << 20;

/// A queue of one lane, by index. It belongs to the outbox or lane that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Queue(pub(crate) u16);

/// One record, ready to be delivered.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Where it goes.
    pub queue: Queue,
    /// Time of the fact, unix nanoseconds.
    pub time_ns: u64,
    /// It carries content: when space runs out, segments with such records go first.
    pub content: bool,
    /// Opaque bytes, at most [`MAX_RECORD`].
    pub payload: &'a [u8],
}

/// Identifies something that lasts (trace id and span id).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub [u8; 24]);

/// What is accepted as a whole or not at all, also across a crash of the process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Transaction<'a> {
    /// Something that lasts has started: its key, its time (unix ns), and what is needed to close it.
    pub begin: Option<(Key, u64, &'a [u8])>,
    /// Something that lasts has ended.
    pub end: Option<Key>,
    /// Finished records.
    pub records: &'a [Record<'a>],
}

/// Why a transaction was not accepted as asked. Nothing of it was stored, except with `NotYetSafe`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// A record above [`MAX_RECORD`], or all of it above [`MAX_TRANSACTION`]. Holds the size in bytes.
    TooLarge(usize),
    /// A queue that this lane does not have.
    UnknownQueue(Queue),
    /// The outbox was closed.
    Closed,
    /// The disk refuses, and it is too large to wait in the ring, or there is none.
    Disk,
    /// With `Accept::Write` or `Accept::Sync`: the disk refuses. The transaction *is* accepted and tried
    /// again (its records are counted), it is only not yet as safe as was asked for.
    NotYetSafe,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(n) => {
                write!(f, "{n} bytes are too large (record {MAX_RECORD}, transaction {MAX_TRANSACTION})")
            }
            Self::UnknownQueue(q) => write!(f, "no queue number {} in this lane", q.0),
            Self::Closed => f.write_str("the outbox is closed"),
            Self::Disk => f.write_str("the disk refuses the write"),
            Self::NotYetSafe => f.write_str("accepted, but the disk refuses the write for now"),
        }
    }
}

impl std::error::Error for Refused {}

/// Why a record was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Loss {
    /// The directory reached `max_bytes`.
    Full,
    /// Older than `max_age`.
    Age,
    /// The disk refused and the ring was full, or somebody removed the file it was in.
    Disk,
    /// Its frame was damaged or missing.
    Damaged,
    /// The destination refused it.
    Rejected,
    /// Too large for the destination.
    TooLarge,
    /// Removed by `purge`, on somebody's order.
    Purged,
}

impl Loss {
    /// Every reason; the index of a reason here is its place in [`Lost`] and on disk.
    pub const ALL: [Loss; 7] =
        [Loss::Full, Loss::Age, Loss::Disk, Loss::Damaged, Loss::Rejected, Loss::TooLarge, Loss::Purged];

    /// The reason in a word, as it stands in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Loss::Full => "full",
            Loss::Age => "age",
            Loss::Disk => "disk",
            Loss::Damaged => "damaged",
            Loss::Rejected => "rejected",
            Loss::TooLarge => "too_large",
            Loss::Purged => "purged",
        }
    }

    pub(crate) fn from_code(code: u8) -> Loss {
        Self::ALL.get(usize::from(code)).copied().unwrap_or(Loss::Damaged)
    }
}

/// Lost records by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost(pub(crate) [u64; Loss::ALL.len()]);

impl Lost {
    /// Records lost for `reason`.
    pub fn by(&self, reason: Loss) -> u64 {
        self.0[reason as usize]
    }

    /// Records lost for any reason.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub(crate) fn add(&mut self, reason: Loss, records: u64) {
        self.0[reason as usize] += records;
    }

    pub(crate) fn take(&mut self, reason: Loss, records: u64) {
        let sum = &mut self.0[reason as usize];
        *sum = sum.saturating_sub(records);
    }

    pub(crate) fn merge(&mut self, other: &Lost) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}

/// What this process did since it opened the outbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Records accepted.
    pub accepted: u64,
    /// Payload bytes accepted.
    pub accepted_bytes: u64,
    /// Records in segments.
    pub written: u64,
    /// Records that readers settled as delivered, from any lane.
    pub delivered: u64,
    /// Records lost after they were accepted, by reason, in any lane that this process held.
    pub lost: Lost,
    /// Transactions that were refused (never accepted).
    pub refused: u64,
}

/// Records that were handed out together; all belong to one header.
#[derive(Debug, Clone)]
pub struct Batch {
    /// What the records belong to (resource and scope), as `set_header` got it.
    pub header: Arc<[u8]>,
    /// The payloads, one after the other.
    pub bytes: Vec<u8>,
    /// Where each record ends in `bytes`.
    pub ends: Vec<usize>,
    /// Time of the oldest record, unix ns.
    pub oldest_ns: u64,
    pub(crate) ticket: u64,
}

impl Batch {
    /// Number of records.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Never true for a batch from a reader.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The payloads, each on its own.
    pub fn payloads(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(from, &to)| self.bytes.get(from..to).unwrap_or_default())
    }
}

/// What became of a batch: every record was either delivered or lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settled {
    /// Records that the destination took.
    pub delivered: u64,
    /// Records that it will never get, by reason.
    pub lost: Lost,
}

impl Settled {
    /// All of it was delivered.
    pub fn delivered(batch: &Batch) -> Self {
        Self { delivered: batch.len() as u64, lost: Lost::default() }
    }

    /// `lost` of its records were lost for `reason`, the others delivered.
    pub fn partly(batch: &Batch, lost: u64, reason: Loss) -> Self {
        let lost = lost.min(batch.len() as u64);
        let mut by = Lost::default();
        by.add(reason, lost);
        Self { delivered: batch.len() as u64 - lost, lost: by }
    }
}

/// What is still to be delivered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Records (among them those whose damage was not met yet).
    pub records: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Time of the oldest one, unix ns; 0 when there is none.
    pub oldest_ns: u64,
}

/// Something that started and of which no end is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// What it is.
    pub key: Key,
    /// When it started, unix ns.
    pub time_ns: u64,
    /// What `begin` was given.
    pub payload: Vec<u8>,
    /// The latest time of any record of its lane, unix ns.
    pub last_seen_ns: u64,
}
