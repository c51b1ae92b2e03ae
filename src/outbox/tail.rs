//! The writing end of a queue: frames gather in memory, go to disk in one write, are synced later.
//!
//! A segment is planned (number, salt, header) when its first frame comes and made when it is written, so
//! that adding a frame can't fail. What could not be written stays in memory and is tried again.

mod rescue;

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crc32c::{crc32c, crc32c_append};

use super::frame::{FILE_HEADER, FLAG_CONTENT, FRAME_HEADER, FileHeader, Meta, Purpose, Seal, kind, sum_of};
use super::place;
use super::queue::{QueueShared, Tally, lock};
use super::record::Loss;

/// The largest buffer that is kept.
const SPARE: usize = 1 << 20;

struct Plan {
    number: u64,
    seal: Seal,
    first_sequence: u64,
    len: u64,
    /// What its records belong to.
    header: Arc<[u8]>,
}

struct Chunk {
    number: u64,
    seal: Seal,
    first_sequence: u64,
    offset: u64,
    bytes: Vec<u8>,
    last_sequence: u64,
    records: u64,
    content: bool,
    header: Arc<[u8]>,
}

struct Written {
    number: u64,
    file: Arc<File>,
    len: u64,
    synced: u64,
}

/// A file that `sync` has to do with, and the length that is safe afterwards.
pub(crate) struct Unsynced {
    pub(crate) number: u64,
    pub(crate) file: Arc<File>,
    len: u64,
}

pub(crate) struct Tail {
    dir: PathBuf,
    pub(crate) shared: Arc<QueueShared>,
    tally: Arc<Tally>,
    limit: u64,
    header: Arc<[u8]>,
    plan: Option<Plan>,
    next_number: u64,
    chunks: VecDeque<Chunk>,
    files: VecDeque<Written>,
    pub(crate) last_sequence: u64,
    pub(crate) last_time_ns: u64,
    dir_changed: bool,
    /// The last buffer that was written, to be filled again: new memory costs more than what goes into it.
    spare: Vec<u8>,
}

impl Tail {
    /// Opens the queue in `dir`, which exists. Frames always go to a new segment: the last one may be torn.
    pub(crate) fn open(dir: &Path, limit: u64, with_cursor: bool, tally: Arc<Tally>) -> io::Result<Self> {
        let (shared, existing) = QueueShared::load(dir, with_cursor, tally.clone())?;
        let last_sequence = lock(&shared.state).last_sequence;
        Ok(Self {
            dir: dir.into(),
            shared: Arc::new(shared),
            tally,
            limit,
            header: existing.header.unwrap_or_else(|| Arc::from([])),
            plan: None,
            next_number: existing.next_number,
            chunks: VecDeque::new(),
            files: VecDeque::new(),
            last_sequence,
            last_time_ns: existing.last_time_ns,
            dir_changed: true,
            spare: Vec::new(),
        })
    }

    pub(crate) fn header(&self) -> &Arc<[u8]> {
        &self.header
    }

    /// What following records belong to. A new header begins a new segment at once, so that the header is
    /// on disk before it leaves the ring.
    pub(crate) fn set_header(&mut self, bytes: &[u8]) {
        if *self.header != *bytes || (self.plan.is_none() && !bytes.is_empty()) {
            self.header = bytes.into();
            self.begin_segment(self.last_sequence + 1);
        }
    }

    pub(crate) fn begin_segment(&mut self, first_sequence: u64) {
        let number = self.next_number;
        self.next_number += 1;
        let file_header = FileHeader::new(first_sequence, self.last_time_ns);
        let seal = file_header.seal();
        let mut bytes = file_header.encode(Purpose::Segment).to_vec();
        for _ in 0..2 {
            let meta = Meta { kind: kind::HEADER, flags: 0, sequence: 0, time_ns: 0 };
            seal.push(&mut bytes, 0, meta, &self.header);
        }
        let header = self.header.clone();
        self.plan = Some(Plan { number, seal, first_sequence, len: bytes.len() as u64, header });
        self.chunks.push_back(Chunk {
            number,
            seal,
            first_sequence,
            offset: 0,
            bytes,
            last_sequence: first_sequence.saturating_sub(1),
            records: 0,
            content: false,
            header: self.header.clone(),
        });
    }

    /// Adds a frame, unless the queue has its sequence already (a ring that is recovered).
    /// `sum` is the payload's part of the frame's sum, as whoever made the payload computed it.
    pub(crate) fn push(&mut self, meta: Meta, payload: [&[u8]; 2], sum: u32) {
        if meta.sequence > self.last_sequence {
            self.push_again(meta, payload, sum);
        }
    }

    /// Says in the queue that `count` records, the last of them `sequence`, never came.
    pub(crate) fn push_lost(&mut self, sequence: u64, count: u64, reason: Loss) {
        let meta = Meta { kind: kind::LOST, flags: 0, sequence, time_ns: self.last_time_ns };
        let (reason, count) = ([reason as u8], count.to_le_bytes());
        self.push(meta, [&reason, &count], crc32c_append(crc32c(&reason), &count));
    }

    pub(crate) fn push_again(&mut self, meta: Meta, payload: [&[u8]; 2], sum: u32) {
        let len = payload[0].len() + payload[1].len();
        let whole = (FRAME_HEADER + len) as u64;
        let full = |p: &Plan| p.len + whole > self.limit && p.len > FILE_HEADER as u64 + 1024;
        // What was written again may have left a segment of another header open.
        let other = |p: &Plan| !Arc::ptr_eq(&p.header, &self.header) && *p.header != *self.header;
        if self.plan.as_ref().is_none_or(|plan| full(plan) || other(plan)) {
            self.begin_segment(meta.sequence);
        }
        let Some(plan) = &mut self.plan else { return };
        if self.chunks.back().is_none_or(|c| c.number != plan.number) {
            self.chunks.push_back(Chunk {
                number: plan.number,
                seal: plan.seal,
                first_sequence: plan.first_sequence,
                offset: plan.len,
                bytes: std::mem::take(&mut self.spare),
                last_sequence: 0,
                records: 0,
                content: false,
                header: self.header.clone(),
            });
        }
        let Some(chunk) = self.chunks.back_mut() else { return };
        chunk.bytes.extend_from_slice(&plan.seal.header(plan.len, meta, len, sum));
        chunk.bytes.extend_from_slice(payload[0]);
        chunk.bytes.extend_from_slice(payload[1]);
        chunk.last_sequence = chunk.last_sequence.max(meta.sequence);
        chunk.records += u64::from(meta.kind == kind::RECORD);
        chunk.content |= meta.flags & FLAG_CONTENT != 0;
        plan.len += whole;
        self.last_sequence = self.last_sequence.max(meta.sequence);
        self.last_time_ns = self.last_time_ns.max(meta.time_ns);
    }

    /// With what it was opened: bytes of a segment, and who counts.
    pub(crate) fn bounds(&self) -> (u64, Arc<Tally>) {
        (self.limit, self.tally.clone())
    }

    /// Number of the first segment that is not written yet.
    pub(crate) fn first_pending(&self) -> Option<u64> {
        self.chunks.front().map(|c| c.number)
    }

    /// Number of the oldest segment that readers still have.
    pub(crate) fn first_segment(&self) -> u64 {
        lock(&self.shared.state).segments.front().map_or(0, |s| s.number)
    }

    pub(crate) fn pending_bytes(&self) -> u64 {
        self.chunks.iter().map(|c| c.bytes.len() as u64).sum()
    }

    /// Writes what has gathered. After an error nothing is forgotten; the next call tries again, after
    /// `NotFound` (somebody removed the directory) behind a `restore`.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.make_files()?;
        while let Some(chunk) = self.chunks.front() {
            if let Err(e) = self.write(chunk.number, chunk.offset, &chunk.bytes) {
                match e.kind() {
                    // The same bytes at the same place, once there is space.
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {}
                    // The file itself may be the trouble (gone, a bad block, a size limit): go on in another.
                    _ => self.replant(),
                }
                return Err(e);
            }
            let Some(mut chunk) = self.chunks.pop_front() else { break };
            let len = chunk.offset + chunk.bytes.len() as u64;
            if chunk.bytes.capacity() <= SPARE {
                chunk.bytes.clear();
                self.spare = chunk.bytes;
            }
            if let Some(file) = self.files.iter_mut().rfind(|f| f.number == chunk.number) {
                file.len = len;
            }
            self.tally.written.fetch_add(chunk.records, Ordering::Relaxed);
            let mut state = lock(&self.shared.state);
            state.wrote(chunk.number, len, chunk.first_sequence, chunk.last_sequence, chunk.content);
        }
        Ok(())
    }

    fn write(&self, number: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.files.iter().rfind(|f| f.number == number).map_or_else(
            || Err(io::Error::from(io::ErrorKind::NotFound)),
            |f| f.file.write_all_at(bytes, offset),
        )
    }

    /// Puts everything that is not written yet into new segments.
    fn replant(&mut self) {
        let current = self.header.clone();
        for chunk in std::mem::take(&mut self.chunks) {
            self.header = chunk.header.clone();
            self.begin_segment(chunk.first_sequence.max(first_in(&chunk)));
            let skip = if chunk.offset == 0 { FILE_HEADER } else { 0 };
            let mut rest = chunk.bytes.get(skip..).unwrap_or_default();
            let mut at = chunk.offset + skip as u64;
            while let Some((meta, len)) = chunk.seal.open(at, rest) {
                let Some(payload) = rest.get(FRAME_HEADER..FRAME_HEADER + len) else { break };
                if let Some(sum) = sum_of(meta.kind, payload).filter(|_| meta.kind != kind::HEADER) {
                    self.push_again(meta, [payload, &[]], sum);
                }
                rest = &rest[FRAME_HEADER + len..];
                at += (FRAME_HEADER + len) as u64;
            }
        }
        self.header = current;
    }

    pub(crate) fn unsynced(&self) -> Vec<Unsynced> {
        let dirty = self.files.iter().filter(|f| f.synced < f.len);
        dirty.map(|f| Unsynced { number: f.number, file: f.file.clone(), len: f.len }).collect()
    }

    /// The directory, if names in it changed since the last call.
    pub(crate) fn changed_dir(&mut self) -> Option<PathBuf> {
        std::mem::take(&mut self.dir_changed).then(|| self.dir.clone())
    }

    pub(crate) fn was_synced(&mut self, done: &Unsynced) {
        for f in self.files.iter_mut().filter(|f| f.number == done.number) {
            f.synced = f.synced.max(done.len);
        }
        let active = self.plan.as_ref().map_or(0, |p| p.number);
        self.files.retain(|f| f.synced < f.len || f.number == active);
    }

    /// Makes the files for what `flush` will write.
    fn make_files(&mut self) -> io::Result<()> {
        for chunk in &self.chunks {
            if chunk.offset > 0 || self.files.iter().any(|f| f.number == chunk.number) {
                continue;
            }
            let file = Arc::new(place::open_or_create(&self.dir.join(place::segment_name(chunk.number)))?);
            self.files.push_back(Written { number: chunk.number, file, len: 0, synced: 0 });
            self.dir_changed = true;
        }
        Ok(())
    }
}

fn first_in(chunk: &Chunk) -> u64 {
    let skip = if chunk.offset == 0 { usize::MAX } else { 0 };
    chunk
        .bytes
        .get(skip..)
        .and_then(|b| chunk.seal.open(chunk.offset, b))
        .map_or(0, |(meta, _)| meta.sequence)
}
