//! The reading end of a queue: batches out, outcomes in.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frame::{FRAME_HEADER, FileHeader, Meta, Purpose, Seal, kind, u64_at};
use super::lane::LaneInner;
use super::place;
use super::queue::{Gaps, Place, QueueShared, Segment, lock};
use super::record::{Batch, Loss, Settled, Waiting};
use super::scan::{Found, Scan};

/// Refused records are kept for a look by a human, not for ever.
const DEAD_LETTER_BYTES: u64 = 4 << 20;

/// A segment that is being read.
pub(crate) struct Opened {
    number: u64,
    scan: Scan,
    header: Option<Arc<[u8]>>,
}

impl Opened {
    /// `None`: damaged as a whole; the sequences tell how much was lost.
    fn open(dir: &Path, number: u64) -> io::Result<Option<Self>> {
        let mut scan = match Scan::open(&dir.join(place::segment_name(number))) {
            Err(e) if e.kind() == io::ErrorKind::InvalidData => return Ok(None),
            scan => scan?,
        };
        let mut header = None;
        // One damaged copy is passed over; only what stands before the first record can be a header.
        for _ in 0..4 {
            match scan.next()? {
                Found::Frame { at, meta, len } if meta.kind == kind::HEADER => {
                    header = Some(scan.payload(at, len)?.into());
                    break;
                }
                Found::Damage { .. } => {}
                _ => break,
            }
        }
        Ok(Some(Self { number, scan, header }))
    }
}

/// Reads one queue of one lane. Readers of the same queue share their position.
pub struct Reader {
    pub(crate) lane: Arc<LaneInner>,
    pub(crate) queue: Arc<QueueShared>,
}

#[derive(Default)]
struct Gathered {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    oldest_ns: u64,
    gaps: Gaps,
}

impl Reader {
    /// The next records after what was handed out, all under one header: at most `max_records`, and at most
    /// `max_bytes` of payload unless the first one alone is larger. `None`: nothing there now.
    ///
    /// Errors: the system's, when a segment can't be read; trying again later is safe.
    pub fn next(&mut self, max_bytes: usize, max_records: usize) -> io::Result<Option<Batch>> {
        let mut side = lock(&self.queue.side);
        lock(&self.queue.state).expire(self.lane.max_age)?;
        let mut restored = false;
        loop {
            let Some((from, segment, limit)) = self.position() else { return Ok(None) };
            let mut removed = false;
            if side.as_ref().is_none_or(|o| o.number != segment.number) {
                let dir = lock(&self.queue.state).dir().to_owned();
                *side = match Opened::open(&dir, segment.number) {
                    // Shed since a moment, or removed by somebody: then what can be saved is, first.
                    Err(e) if e.kind() == io::ErrorKind::NotFound && !restored => {
                        restored = true;
                        self.lane.restore(&mut lock(&self.lane.store))?;
                        continue;
                    }
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {
                        removed = true;
                        None
                    }
                    opened => opened?,
                };
            }
            let mut to = Place { segment: segment.number, ..from };
            let mut got = Gathered::default();
            let header = side.as_ref().and_then(|o| o.header.clone());
            match &mut *side {
                Some(open) => {
                    open.scan.end = segment.len;
                    gather(open, from.offset, &mut to, limit, &mut got, (max_bytes, max_records))?;
                }
                None => to.offset = segment.len,
            }
            // Of a process that is gone nothing more will come: what is not in its files now is lost.
            let complete = got.ends.is_empty() && self.lane.is_complete();
            let mut state = lock(&self.queue.state);
            if state.handed.sequence != from.sequence || state.handed.segment != from.segment {
                // Shed or rewound meanwhile; what was read is not where the queue is any more.
                continue;
            }
            let more = state.segments.back().is_some_and(|s| s.number > segment.number);
            if got.ends.is_empty() {
                if more && to.offset >= segment.len {
                    // Past the end of this one: the rest up to the next one's first sequence is gone.
                    let next = state.segments.iter().find(|s| s.number > segment.number).cloned();
                    if let Some(next) = next {
                        to.segment = next.number;
                        to.offset = 0;
                        to.sequence = to.sequence.max(next.first_sequence.saturating_sub(1));
                        if removed {
                            got.gaps.lost.add(Loss::Disk, to.sequence - from.sequence);
                        }
                    }
                    state.hand_out(to, 0, got.gaps);
                    state.advance()?;
                    continue;
                }
                if removed {
                    // What could be written again is behind it; nothing is.
                    to.sequence = state.last_sequence.max(to.sequence);
                    got.gaps.lost.add(Loss::Disk, to.sequence - from.sequence);
                }
                let last =
                    state.segments.back().is_some_and(|s| (s.number, s.len) == (segment.number, to.offset));
                if complete && last {
                    to.sequence = state.last_sequence.max(to.sequence);
                }
                if to.offset != from.offset || to.sequence != from.sequence {
                    state.hand_out(to, 0, got.gaps);
                    state.advance()?;
                }
                return Ok(None);
            }
            let ticket = state.hand_out(to, got.ends.len() as u64, got.gaps);
            let Gathered { bytes, ends, oldest_ns, .. } = got;
            let header = header.unwrap_or_else(|| Arc::from([]));
            return Ok(Some(Batch { header, bytes, ends, oldest_ns, ticket }));
        }
    }

    /// Where to read on, in which segment, and from which sequence on that segment does not count.
    fn position(&self) -> Option<(Place, Segment, u64)> {
        let mut state = lock(&self.queue.state);
        let handed = state.handed;
        let at = state.segments.iter().position(|s| s.number >= handed.segment)?;
        let segment = state.segments[at].clone();
        let limit = state.segments.get(at + 1).map_or(u64::MAX, |s| s.first_sequence);
        if segment.number != handed.segment {
            state.handed = Place { segment: segment.number, offset: 0, ..handed };
        }
        Some((state.handed, segment, limit))
    }

    /// Says what became of a batch; batches may be settled in any order. Once nothing before it is unsettled
    /// the cursor moves, is published, and only then are segments deleted.
    ///
    /// Errors: `InvalidInput` when the numbers don't add up to the batch; else the disk's, and then the
    /// batch counts as settled in this process but may come again in the next.
    pub fn settle(&mut self, batch: &Batch, outcome: Settled) -> io::Result<()> {
        let settled = lock(&self.queue.state).settle(batch.ticket, outcome);
        self.lane.space_freed();
        settled
    }

    /// Hands out again everything that is not settled.
    pub fn rewind(&mut self) {
        lock(&self.queue.state).rewind();
    }

    /// Keeps a record that the destination refused in the queue's `dead.seg` (at most 4 MiB; when it is
    /// full, the file before it is replaced).
    ///
    /// Errors: the disk's; nothing was stored then.
    pub fn dead_letter(&mut self, header: &[u8], payload: &[u8], reason: &str) -> io::Result<()> {
        let _one_at_a_time = lock(&self.queue.side);
        let dir = lock(&self.queue.state).dir().to_owned();
        let path = dir.join("dead.seg");
        let mut text = Vec::with_capacity(header.len() + payload.len() + reason.len() + 8);
        for part in [header, reason.as_bytes()] {
            text.extend_from_slice(&(part.len() as u32).to_le_bytes());
            text.extend_from_slice(part);
        }
        text.extend_from_slice(payload);
        if fs::metadata(&path).is_ok_and(|m| m.len() + (text.len() as u64) > DEAD_LETTER_BYTES) {
            fs::rename(&path, dir.join("dead.old"))?;
        }
        let seal = match Scan::open(&path) {
            Ok(scan) => scan.seal(),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
                new_dead_letters(&path)?
            }
            Err(e) => return Err(e),
        };
        let meta = Meta { kind: kind::DEAD, flags: 0, sequence: 0, time_ns: place::now_ns() };
        let mut file = fs::OpenOptions::new().append(true).open(&path)?;
        let mut frame = Vec::with_capacity(FRAME_HEADER + text.len());
        seal.push(&mut frame, file.metadata()?.len(), meta, &text);
        file.write_all(&frame)?;
        file.sync_data()
    }

    /// What is still to be settled, as far as it is drained from the ring.
    pub fn waiting(&self) -> Waiting {
        let (dir, cursor, (records, bytes)) = {
            let state = lock(&self.queue.state);
            (state.dir().to_owned(), state.cursor, state.waiting())
        };
        let oldest_ns = if records == 0 { 0 } else { oldest_time(&dir, cursor.segment, cursor.sequence) };
        Waiting { records, bytes, oldest_ns }
    }
}

fn new_dead_letters(path: &PathBuf) -> io::Result<Seal> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let header = FileHeader::new(0, 0);
    place::create(path)?.write_all(&header.encode(Purpose::Dead))?;
    Ok(header.seal())
}

/// Reads frames into `got` and moves `to` behind the last one that belongs to the batch.
fn gather(
    open: &mut Opened,
    from: u64,
    to: &mut Place,
    limit: u64,
    got: &mut Gathered,
    (max_bytes, max_records): (usize, usize),
) -> io::Result<()> {
    open.scan.at = from.max(super::frame::FILE_HEADER as u64);
    loop {
        let found = open.scan.next()?;
        match found {
            Found::End => break,
            Found::Frame { at, meta, len } if meta.sequence > to.sequence && meta.sequence < limit => {
                match meta.kind {
                    kind::RECORD if open.header.is_some() => {
                        let full = got.bytes.len() + len > max_bytes || got.ends.len() >= max_records;
                        if full && !got.ends.is_empty() {
                            to.offset = at;
                            return Ok(());
                        }
                        got.bytes.extend_from_slice(open.scan.payload(at, len)?);
                        got.ends.push(got.bytes.len());
                        let oldest = if got.oldest_ns == 0 { u64::MAX } else { got.oldest_ns };
                        got.oldest_ns = meta.time_ns.min(oldest);
                        to.sequence = meta.sequence;
                    }
                    kind::LOST => {
                        let body = open.scan.payload(at, len)?;
                        let count = u64_at(body, 1).min(meta.sequence - to.sequence);
                        let reason = Loss::from_code(body.first().copied().unwrap_or(u8::MAX));
                        got.gaps.lost.add(reason, count);
                        got.gaps.from_ring += if reason == Loss::Disk { count } else { 0 };
                        to.sequence = meta.sequence;
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        to.offset = open.scan.at;
    }
    Ok(())
}

/// Time of the first record after `sequence`, from segment `number` on; 0 when none can be read.
pub(crate) fn oldest_time(dir: &Path, number: u64, sequence: u64) -> u64 {
    for number in place::segments(dir).unwrap_or_default().into_iter().filter(|&n| n >= number) {
        let Ok(mut scan) = Scan::open(&dir.join(place::segment_name(number))) else { continue };
        loop {
            match scan.next() {
                Ok(Found::Frame { meta, .. }) if meta.kind == kind::RECORD && meta.sequence > sequence => {
                    return meta.time_ns;
                }
                Ok(Found::End) | Err(_) => break,
                Ok(_) => {}
            }
        }
    }
    0
}
