//! The accept ring: a file of fixed size, mapped, into which emitters copy transactions.
//!
//! The kernel keeps a mapped file's pages when the process dies, so what was copied in is safe without a
//! system call. The file is a header and then frames of kind `transaction`, none of which crosses the end of
//! the file. There are no positions in the file: a recovery takes every frame whose sums hold, and the
//! sequences say which records the segments already have. A frame that was only half copied fails its sum;
//! one that was drained long ago has sequences that the segments know.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{Ordering, compiler_fence};

use memmap2::{MmapMut, MmapOptions};

use super::bundle::{self, Item};
use super::frame::{FILE_HEADER, FRAME_HEADER, FileHeader, Meta, Purpose, Seal, kind, u32_at};
use super::place;

/// Frames begin here; a page of their own keeps the file header from being written again and again.
pub(crate) const DATA: usize = 4096;

pub(crate) struct Ring {
    map: MmapMut,
    /// Only to see whether it still has its name.
    file: File,
    seal: Seal,
    capacity: u64,
    // Positions only grow; the place in the file is the position modulo the capacity.
    head: u64,
    /// Up to here the drain has copied.
    taken: u64,
    /// Up to here space is free again.
    tail: u64,
    /// Where the frames before the end of the file stop. One at a time, because head - tail <= capacity.
    gap_at: Option<u64>,
    next_sequence: u64,
}

impl Ring {
    /// Makes and maps the ring file.
    pub(crate) fn create(path: &Path, bytes: usize) -> io::Result<Self> {
        // A power of two: positions become places by a mask, where a division would cost 10 ns each time.
        let capacity = 1 << bytes.max(DATA).ilog2();
        let mut file = place::create(path)?;
        let header = FileHeader::new(0, 0);
        let mut page = vec![0; DATA];
        page[..FILE_HEADER].copy_from_slice(&header.encode(Purpose::Ring));
        file.write_all(&page)?;
        // Written in full now: a hole would have to be filled at a time when the disk may be full, and a
        // store to a mapping can't return an error, it can only end the process.
        let zeros = vec![0; 1 << 20];
        let mut left = capacity;
        while left > 0 {
            let n = left.min(zeros.len());
            file.write_all(&zeros[..n])?;
            left -= n;
        }
        let mut map = map(&file)?;
        // The first store to each page of a mapping costs a microsecond; paid here, not by emitters.
        for page in map.chunks_mut(DATA) {
            if let Some(byte) = page.last_mut() {
                *std::hint::black_box(byte) = 0;
            }
        }
        Ok(Self {
            map,
            file,
            seal: header.seal(),
            capacity: capacity as u64,
            head: 0,
            taken: 0,
            tail: 0,
            gap_at: None,
            next_sequence: 1,
        })
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// Whether somebody removed the file: then what is in it does not survive the process.
    pub(crate) fn is_gone(&self, path: &Path) -> bool {
        !place::is_same(&self.file, path)
    }

    pub(crate) fn used(&self) -> u64 {
        self.head - self.tail
    }

    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.taken == self.head
    }

    fn offset(&self, position: u64) -> usize {
        DATA + (position & (self.capacity - 1)) as usize
    }

    /// Where a frame of `len` bytes would begin, if there is room.
    fn room(&self, len: usize) -> Option<u64> {
        let left = self.capacity - (self.head & (self.capacity - 1));
        let at = if left < len as u64 { self.head + left } else { self.head };
        (at + len as u64 - self.tail <= self.capacity).then_some(at)
    }

    pub(crate) fn fits(&self, items: &[Item<'_>]) -> bool {
        self.room(FRAME_HEADER + bundle::encoded_len(items)).is_some()
    }

    /// Copies a transaction in. False, and nothing done, when there is no room.
    pub(crate) fn append(&mut self, items: &[Item<'_>]) -> bool {
        let len = bundle::encoded_len(items);
        let Some(at) = self.room(FRAME_HEADER + len) else { return false };
        let start = self.offset(at);
        let body = start + FRAME_HEADER..start + FRAME_HEADER + len;
        let sum = bundle::encode(items, &mut self.map[body]);
        let meta = Meta { kind: kind::TRANSACTION, flags: 0, sequence: self.next_sequence, time_ns: 0 };
        let header = self.seal.header(start as u64, meta, len, sum);
        // The header last: a process that dies in between leaves no frame at all. A signal is taken between
        // two instructions, so it is enough that the compiler keeps the order.
        compiler_fence(Ordering::SeqCst);
        self.map[start..start + FRAME_HEADER].copy_from_slice(&header);
        compiler_fence(Ordering::SeqCst);
        if at != self.head {
            self.gap_at = Some(self.head);
        }
        self.next_sequence += 1;
        self.head = at + (FRAME_HEADER + len) as u64;
        true
    }

    /// The bundle of the oldest frame that the drain has not copied yet, and the position after it.
    fn peek(&self) -> Option<(&[u8], u64)> {
        let mut at = self.taken;
        if self.gap_at == Some(at) {
            at += self.capacity - (at & (self.capacity - 1));
        }
        if at >= self.head {
            return None;
        }
        let start = self.offset(at);
        let len = u32_at(&self.map, start + 4) as usize;
        let body = self.map.get(start + FRAME_HEADER..start + FRAME_HEADER + len)?;
        Some((body, at + (FRAME_HEADER + len) as u64))
    }

    /// Copies bundles to `out`, each behind its length (u32), until there are `limit` bytes or no more;
    /// returns the position to release once they are written.
    pub(crate) fn take(&mut self, out: &mut Vec<u8>, limit: usize) -> u64 {
        while out.len() < limit {
            let Some((body, next)) = self.peek() else { break };
            out.extend_from_slice(&(body.len() as u32).to_le_bytes());
            out.extend_from_slice(body);
            self.step_to(next);
        }
        self.taken
    }

    /// Frees space up to `position`, which `take` returned.
    pub(crate) fn release(&mut self, position: u64) {
        self.tail = self.tail.max(position.min(self.taken));
    }

    /// Makes room for `items` although the drain is stuck. What the drain has copied already gives its
    /// space without loss; then the oldest frames go, and `dropped` sees their items.
    pub(crate) fn make_room(&mut self, items: &[Item<'_>], mut dropped: impl FnMut(&Item<'_>)) {
        self.tail = self.taken;
        // An eighth at a time, or each append would have to do it again.
        let target = self.capacity - self.capacity / 8;
        while !self.fits(items) || self.used() > target {
            let Some((body, next)) = self.peek() else { break };
            bundle::decode(body).for_each(|item| dropped(&item));
            self.step_to(next);
            self.tail = next;
        }
    }

    fn step_to(&mut self, next: u64) {
        if self.gap_at.is_some_and(|gap| gap < next) {
            self.gap_at = None;
        }
        self.taken = next;
    }
}

/// The one line of the crate that the compiler can't check.
///
/// A mapping is unsound when somebody else changes or shortens the file meanwhile. Here it is a file that
/// this process has just created (`O_EXCL`, mode 0600) in a directory that only its user may enter, whose
/// lane it holds locked; every other process of factline reads a ring only after it got that lock, or
/// read-only through a descriptor, never through a mapping. The map is only ever used as a byte slice
/// behind a mutex. What remains is a user who truncates the file of a running process by hand.
#[allow(unsafe_code)]
fn map(file: &File) -> io::Result<MmapMut> {
    // SAFETY: see above.
    unsafe { MmapOptions::new().populate().map_mut(file) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::bundle::Items;
    use crate::outbox::record::{Queue, Record, Transaction};
    use crate::outbox::scan::{Found, Scan};

    fn append(ring: &mut Ring, payload: &[u8]) -> bool {
        let records = [Record { queue: Queue(0), time_ns: 0, content: false, payload }];
        ring.append(&Items::of(&Transaction { records: &records, ..Default::default() }, 1).unwrap())
    }

    fn payloads(bites: &[u8]) -> Vec<Vec<u8>> {
        let (mut rest, mut all) = (bites, Vec::new());
        while let Some((len, after)) = rest.split_first_chunk::<4>() {
            let (bundle, after) = after.split_at(u32::from_le_bytes(*len) as usize);
            assert!(bundle::verify(bundle).is_some());
            all.extend(bundle::decode(bundle).map(|item| item.payload[0].to_vec()));
            rest = after;
        }
        all
    }

    #[test]
    fn what_wraps_around_comes_out_in_order_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ring");
        let mut ring = Ring::create(&path, DATA).unwrap();
        let (mut given, mut taken) = (0u32, 0u32);
        for round in 0..500usize {
            // Of many sizes, so that the end of the file is met in every way.
            while append(&mut ring, &vec![given as u8; (given as usize * 37 + round) % 700]) {
                given += 1;
            }
            assert!(ring.used() > ring.capacity() as u64 / 2);
            let mut out = Vec::new();
            let position = ring.take(&mut out, 1 + round * 7 % 3000);
            for payload in payloads(&out) {
                assert!(payload.iter().all(|&b| b == taken as u8));
                taken += 1;
            }
            ring.release(position);
        }
        assert!(given > 2000 && taken < given);
        // What a recovery sees: all that was not taken, and perhaps some that was.
        let mut scan = Scan::open(&path).unwrap();
        scan.at = DATA as u64;
        let mut seen = Vec::new();
        loop {
            match scan.next().unwrap() {
                Found::End => break,
                Found::Frame { meta, .. } => seen.push(meta.sequence),
                Found::Damage { .. } => {}
            }
        }
        assert!((taken + 1..=given).all(|n| seen.contains(&u64::from(n))));
    }

    #[test]
    fn a_full_ring_takes_no_more_until_room_is_made_and_says_what_went() {
        let dir = tempfile::tempdir().unwrap();
        let mut ring = Ring::create(&dir.path().join("ring"), DATA).unwrap();
        let mut given = 0;
        while append(&mut ring, &[given; 200]) {
            given += 1;
        }
        let mut dropped = Vec::new();
        let records = [Record { queue: Queue(0), time_ns: 0, content: false, payload: &[0; 200] }];
        let one = Transaction { records: &records, ..Default::default() };
        ring.make_room(&Items::of(&one, 1).unwrap(), |item| dropped.push(item.payload[0][0]));
        assert!(!dropped.is_empty() && append(&mut ring, &[given; 200]));
        let mut out = Vec::new();
        ring.take(&mut out, usize::MAX);
        let left = payloads(&out).into_iter().map(|p| p[0]);
        assert!(dropped.into_iter().chain(left).eq(0..=given));
    }
}
