//! What delivery reads from: a queue of stored records.

use std::io;
use std::ops::Range;
use std::sync::Arc;

/// Stored records of one resource and scope, in the order in which they were accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// `u32` little-endian length of R, then R, then C (see [`super::request`]).
    pub header: Arc<[u8]>,
    /// The payloads, one behind the other. Each is a frame: `0x12`, varint length, body.
    pub bytes: Vec<u8>,
    /// The end of each payload in `bytes`.
    pub ends: Vec<usize>,
}

impl Batch {
    /// Number of records.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The payloads of the records in `range`; empty where the offsets make no sense.
    pub fn frames(&self, range: Range<usize>) -> &[u8] {
        if range.is_empty() {
            return &[];
        }
        let before = |index: usize| index.checked_sub(1).map_or(Some(0), |last| self.ends.get(last).copied());
        match (before(range.start), before(range.end)) {
            (Some(start), Some(end)) => self.bytes.get(start..end).unwrap_or_default(),
            _ => &[],
        }
    }
}

/// What became of a batch, record by record in sum: `delivered` plus all of `lost` is the batch's length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Records that the destination took.
    pub delivered: u64,
    /// Records that it did not take and that will not be sent again, by reason.
    pub lost: Vec<(&'static str, u64)>,
}

/// A queue to deliver from. Calls come from one thread at a time, may block on the disk, and batches are
/// settled in the order in which `next` gave them out.
pub trait Source: Send {
    /// The next records that were not given out yet, of one resource and scope; `None` when there are none
    /// now. At most `max_bytes` of payload and `max_records` records, but always at least one record.
    ///
    /// # Errors
    /// The queue can't be read now; the call is repeated later.
    fn next(&mut self, max_bytes: usize, max_records: usize) -> io::Result<Option<Batch>>;

    /// Forgets the oldest batch that was given out and not settled, for good.
    ///
    /// # Errors
    /// That could not be made durable; the call is repeated later.
    fn settle(&mut self, batch: &Batch, settled: Settled) -> io::Result<()>;

    /// Gives out again what was given out and not settled. Called before a retry, so that a queue which drops
    /// its oldest records during an outage counts them once, as lost, and not as delivered too.
    fn rewind(&mut self);

    /// Keeps a record that the destination refused, for a person to look at. It is counted as lost either
    /// way.
    ///
    /// # Errors
    /// It could not be kept.
    fn dead_letter(&mut self, header: &[u8], payload: &[u8], reason: &str) -> io::Result<()>;
}
