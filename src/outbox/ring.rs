//! The accept ring: a file of fixed size, mapped, into which emitters copy transactions.
//!
//! The kernel keeps a mapped file's pages when the process dies, so what was copied in is safe without a
//! system call. The file is a header and then frames of kind `transaction`, none of which crosses the end of
//! the file. There are no positions in the file: a recovery takes every frame whose sums hold, and the
//! sequences say which records the segments already have. A frame that was only half copied fails its sum;
//! one that was drained long ago has sequences that the segments know.

mod mapped;

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{Ordering, compiler_fence};

use super::bundle::{self, Item};
use super::frame::{FILE_HEADER, FRAME_HEADER, FileHeader, Meta, Purpose, Seal, kind, u32_at};
use super::place;
use mapped::Mapped;

/// Frames begin here; a page of their own keeps the file header from being written again and again.
pub(crate) const DATA: usize = 4096;

pub(crate) struct Ring {
    map: Arc<Mapped>,
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
    /// A window is out: nothing before its end may be freed.
    held: bool,
}

/// Frames that a drain reads without its ring's lock. Their space is not free before it came back.
pub(crate) struct Window {
    map: Arc<Mapped>,
    mask: u64,
    at: u64,
    end: u64,
}

impl Window {
    /// The next bundle.
    pub(crate) fn next(&mut self) -> Option<&[u8]> {
        let (body, next) = frame_at(&self.map, self.mask, self.at, self.end)?;
        self.at = next;
        Some(body)
    }

    /// Bytes that are not read yet.
    pub(crate) fn left(&self) -> u64 {
        self.end - self.at
    }
}

/// The bundle of the frame at position `at`, and the position after it.
fn frame_at(map: &Mapped, mask: u64, at: u64, end: u64) -> Option<(&[u8], u64)> {
    if at >= end {
        return None;
    }
    let start = DATA + (at & mask) as usize;
    let len = u32_at(map.bytes(start..start + FRAME_HEADER), 4) as usize;
    Some((map.bytes(start + FRAME_HEADER..start + FRAME_HEADER + len), at + (FRAME_HEADER + len) as u64))
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
        let map = Mapped::new(&file)?;
        // The first store to each page of a mapping costs a microsecond; paid here, not by emitters.
        for page in map.free(DATA..map.len()).chunks_mut(DATA) {
            if let Some(byte) = page.last_mut() {
                *std::hint::black_box(byte) = 0;
            }
        }
        Ok(Self {
            map: Arc::new(map),
            file,
            seal: header.seal(),
            capacity: capacity as u64,
            head: 0,
            taken: 0,
            tail: 0,
            gap_at: None,
            next_sequence: 1,
            held: false,
        })
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Whether somebody removed the file: then what is in it does not survive the process.
    pub(crate) fn is_gone(&self, path: &Path) -> bool {
        !place::is_same(&self.file, path)
    }

    pub(crate) fn used(&self) -> u64 {
        self.head - self.tail
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.taken == self.head
    }

    /// Whether a drain reads right now, so that no room can be made.
    pub(crate) fn is_held(&self) -> bool {
        self.held
    }

    /// Where the frame of a bundle of `len` bytes would begin, if there is room.
    pub(crate) fn room(&self, len: usize) -> Option<u64> {
        let whole = (FRAME_HEADER + len) as u64;
        let left = self.capacity - (self.head & (self.capacity - 1));
        let at = if left < whole { self.head + left } else { self.head };
        (at + whole - self.tail <= self.capacity).then_some(at)
    }

    /// Copies a transaction to where `room` said for its `len` encoded bytes.
    pub(crate) fn put(&mut self, at: u64, items: &[Item<'_>], len: usize) {
        let start = DATA + (at & (self.capacity - 1)) as usize;
        let body = start + FRAME_HEADER;
        let sum = bundle::encode(items, self.map.free(body..body + len));
        let meta = Meta { kind: kind::TRANSACTION, flags: 0, sequence: self.next_sequence, time_ns: 0 };
        let header = self.seal.header(start as u64, meta, len, sum);
        // The header last: a process that dies in between leaves no frame at all. A signal is taken between
        // two instructions, so it is enough that the compiler keeps the order.
        compiler_fence(Ordering::SeqCst);
        self.map.free(start..body).copy_from_slice(&header);
        compiler_fence(Ordering::SeqCst);
        if at != self.head {
            self.gap_at = Some(self.head);
        }
        self.next_sequence += 1;
        self.head = at + (FRAME_HEADER + len) as u64;
    }

    /// Where the frames begin that the drain has not copied yet.
    fn untaken(&self) -> u64 {
        if self.gap_at == Some(self.taken) {
            return self.taken + self.capacity - (self.taken & (self.capacity - 1));
        }
        self.taken
    }

    /// What the drain has not copied yet, up to the end of the file; `give_back` ends it.
    pub(crate) fn take(&mut self) -> Option<Window> {
        let at = self.untaken();
        let end = self.gap_at.filter(|&gap| gap > at).unwrap_or(self.head);
        self.held = at < end;
        self.held.then(|| Window { map: self.map.clone(), mask: self.capacity - 1, at, end })
    }

    /// What the window has shown is copied.
    pub(crate) fn give_back(&mut self, window: &Window) {
        self.held = false;
        self.step_to(window.at);
    }

    /// Frees what is copied, because it is written.
    pub(crate) fn release(&mut self) {
        self.tail = self.taken;
    }

    /// Makes room for a bundle of `len` bytes although the drain is stuck. What the drain has copied already
    /// gives its space without loss; then the oldest frames go, and `dropped` sees their items.
    pub(crate) fn make_room(&mut self, len: usize, mut dropped: impl FnMut(&Item<'_>)) {
        self.tail = self.taken;
        // An eighth at a time, or each append would have to do it again.
        let target = self.capacity - self.capacity / 8;
        while self.room(len).is_none() || self.used() > target {
            let at = self.untaken();
            let Some((body, next)) = frame_at(&self.map, self.capacity - 1, at, self.head) else { break };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::bundle::Items;
    use crate::outbox::record::{Queue, Record, Transaction};
    use crate::outbox::scan::{Found, Scan};

    fn append(ring: &mut Ring, payload: &[u8]) -> bool {
        let records = [Record { queue: Queue(0), time_ns: 0, content: false, payload }];
        let one = Transaction { records: &records, ..Default::default() };
        let items = Items::of(&one, 1).unwrap();
        let len = bundle::encoded_len(&items);
        ring.room(len).map(|at| ring.put(at, &items, len)).is_some()
    }

    /// Payloads of what is not copied yet, some `limit` bytes of it or all.
    fn take(ring: &mut Ring, limit: u64) -> Vec<Vec<u8>> {
        let (mut all, mut seen) = (Vec::new(), 0);
        while let Some(mut window) = ring.take().filter(|_| seen < limit) {
            let whole = window.left();
            while seen + whole - window.left() < limit
                && let Some(bundle) = window.next()
            {
                assert!(bundle::verify(bundle).is_some());
                all.extend(bundle::decode(bundle).map(|item| item.payload[0].to_vec()));
            }
            seen += whole - window.left();
            ring.give_back(&window);
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
            assert!(ring.used() > ring.capacity() / 2);
            for payload in take(&mut ring, 1 + round as u64 * 7 % 3000) {
                assert!(payload.iter().all(|&b| b == taken as u8));
                taken += 1;
            }
            ring.release();
        }
        assert!(given > 1500 && taken < given);
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
    fn a_window_sees_what_was_there_while_emitters_go_on_and_its_space_is_not_given_away() {
        let dir = tempfile::tempdir().unwrap();
        let mut ring = Ring::create(&dir.path().join("ring"), DATA).unwrap();
        assert!(ring.take().is_none() && !ring.is_held());
        (0..4).for_each(|n| assert!(append(&mut ring, &[n; 200])));
        let mut window = ring.take().unwrap();
        assert!(ring.is_held());
        let mut given = 4;
        while append(&mut ring, &[given; 200]) {
            given += 1;
        }
        assert!(given > 8, "until it is full, and no further");
        for n in 0..3 {
            let bundle = window.next().unwrap();
            assert!(bundle::decode(bundle).all(|item| item.payload[0] == [n; 200]));
        }
        // The drain stops half way: what it has not shown comes again.
        ring.give_back(&window);
        assert!(!append(&mut ring, &[given; 200]), "copied is not written");
        ring.release();
        assert!(append(&mut ring, &[given; 200]));
        assert!(take(&mut ring, u64::MAX).into_iter().map(|p| p[0]).eq(3..=given));
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
        let len = bundle::encoded_len(&Items::of(&one, 1).unwrap());
        ring.make_room(len, |item| dropped.push(item.payload[0][0]));
        assert!(!dropped.is_empty() && append(&mut ring, &[given; 200]));
        let left = take(&mut ring, u64::MAX).into_iter().map(|p| p[0]);
        assert!(dropped.into_iter().chain(left).eq(0..=given));
    }
}
