//! The outbox as a source: a reader's batches, settled in the order in which they were given out.

use std::collections::VecDeque;
use std::io;

use super::source::{Batch, Settled, Source};
use crate::outbox::{self, Loss, Reader};

/// A queue of the outbox to deliver from.
pub struct Stored {
    reader: Reader,
    /// Batches without their bytes: what the reader needs to settle them.
    given: VecDeque<outbox::Batch>,
}

impl Stored {
    /// Delivers from `reader`.
    pub fn new(reader: Reader) -> Self {
        Stored { reader, given: VecDeque::new() }
    }
}

impl Source for Stored {
    fn next(&mut self, max_bytes: usize, max_records: usize) -> io::Result<Option<Batch>> {
        let Some(mut stored) = self.reader.next(max_bytes, max_records)? else { return Ok(None) };
        let bytes = std::mem::take(&mut stored.bytes);
        let batch = Batch { header: stored.header.clone(), bytes, ends: stored.ends.clone() };
        self.given.push_back(stored);
        Ok(Some(batch))
    }

    fn settle(&mut self, _: &Batch, settled: Settled) -> io::Result<()> {
        let Some(stored) = self.given.pop_front() else { return Ok(()) };
        // Whatever the words, what delivery gives up is what the destination refused.
        let lost = settled.lost.iter().map(|(_, records)| records).sum();
        self.reader.settle(&stored, outbox::Settled::partly(&stored, lost, Loss::Rejected))
    }

    fn rewind(&mut self) {
        self.given.clear();
        self.reader.rewind();
    }

    fn dead_letter(&mut self, header: &[u8], payload: &[u8], reason: &str) -> io::Result<()> {
        self.reader.dead_letter(header, payload, reason)
    }
}
