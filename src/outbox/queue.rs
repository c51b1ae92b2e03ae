//! What writer and readers of one queue share: which segments there are, and how far they are settled.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::cursor::{Cursor, CursorFile};
use super::frame::{FILE_HEADER, kind};
use super::place;
use super::reader::Opened;
use super::record::{Loss, Lost, Settled};
use super::scan::{Found, Scan};

/// A panic elsewhere leaves our state whole (it is only changed by code that can't panic half way).
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counted for the process, over all lanes it holds.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) delivered: AtomicU64,
    pub(crate) written: AtomicU64,
    lost: [AtomicU64; Loss::ALL.len()],
    /// Dropped from the ring. A reader will meet the note of it later, which must not count it again.
    in_ring: AtomicU64,
}

impl Tally {
    pub(crate) fn lose(&self, lost: &Lost) {
        for (sum, n) in self.lost.iter().zip(lost.0) {
            sum.fetch_add(n, Ordering::Relaxed);
        }
    }

    pub(crate) fn dropped_in_ring(&self, records: u64) {
        self.in_ring.fetch_add(records, Ordering::Relaxed);
    }

    /// Written, delivered, lost.
    pub(crate) fn read(&self) -> (u64, u64, Lost) {
        let mut lost = Lost(std::array::from_fn(|i| self.lost[i].load(Ordering::Relaxed)));
        lost.add(Loss::Disk, self.in_ring.load(Ordering::Relaxed));
        (self.written.load(Ordering::Relaxed), self.delivered.load(Ordering::Relaxed), lost)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    /// Bytes that may be read.
    pub(crate) len: u64,
    pub(crate) first_sequence: u64,
    pub(crate) content: bool,
    /// Age of the newest record: what it was when we first knew, and since when. A clock that jumps while
    /// we run does not age anything.
    pub(crate) known: (Instant, Duration),
}

impl Segment {
    pub(crate) fn age(&self) -> Duration {
        self.known.1 + self.known.0.elapsed()
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) sequence: u64,
}

/// What lies between records.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Gaps {
    pub(crate) lost: Lost,
    /// Those among `lost` that the ring dropped, and its writer said so.
    pub(crate) from_ring: u64,
}

struct InFlight {
    ticket: u64,
    to: Place,
    records: u64,
    gaps: Gaps,
    outcome: Option<Settled>,
}

pub(crate) struct QueueState {
    dir: PathBuf,
    pub(crate) segments: VecDeque<Segment>,
    pub(crate) cursor: Cursor,
    file: Option<CursorFile>,
    in_flight: VecDeque<InFlight>,
    /// What was handed out up to here.
    pub(crate) handed: Place,
    pub(crate) last_sequence: u64,
    next_ticket: u64,
    tally: Arc<Tally>,
    /// Our own lane: what the ring dropped was counted when it was dropped.
    pub(crate) live: bool,
}

pub(crate) struct QueueShared {
    pub(crate) state: Mutex<QueueState>,
    /// Held while a batch is read, so that `state` isn't: a slow disk must not stop the writer.
    pub(crate) side: Mutex<Option<Opened>>,
}

/// What the writing end has to know of what is there already.
#[derive(Default)]
pub(crate) struct Existing {
    pub(crate) header: Option<Arc<[u8]>>,
    pub(crate) last_time_ns: u64,
    pub(crate) next_number: u64,
}

impl QueueShared {
    /// Looks at a queue's directory. `with_cursor` is false for `starts`, which nobody reads by cursor.
    pub(crate) fn load(dir: &Path, with_cursor: bool, tally: Arc<Tally>) -> io::Result<(Self, Existing)> {
        let mut found = Existing { next_number: 1, ..Existing::default() };
        let mut segments = VecDeque::new();
        let mut last_sequence = 0;
        // From the newest back: only the newest readable one is scanned, the others end where the next
        // begins.
        for number in place::segments(dir)?.into_iter().rev() {
            found.next_number = found.next_number.max(number + 1);
            let path = dir.join(place::segment_name(number));
            let after = segments.front().map(|s: &Segment| s.first_sequence);
            let newest = fs::metadata(&path).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            let known = (Instant::now(), SystemTime::now().duration_since(newest).unwrap_or_default());
            let mut segment = Segment { number, len: 0, first_sequence: 0, content: true, known };
            match Scan::open(&path) {
                Ok(mut scan) => {
                    segment.first_sequence = scan.header.first_sequence;
                    segment.len = scan.end;
                    if last_sequence == 0 {
                        let (last, len) = survey(&mut scan, &mut found)?;
                        last_sequence = last;
                        segment.len = len;
                    }
                }
                // Damaged through and through: nothing in it counts, and its file goes in its turn.
                Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                    segment.first_sequence = after.unwrap_or(u64::MAX);
                }
                Err(e) => return Err(e),
            }
            segments.push_front(segment);
        }
        for s in segments.iter_mut().filter(|s| s.first_sequence == u64::MAX) {
            s.first_sequence = last_sequence + 1;
        }
        let (mut file, mut cursor) = (None, None);
        if with_cursor {
            let (opened, read) = CursorFile::open(&dir.join("cursor"))?;
            (file, cursor) = (Some(opened), read);
        }
        let cursor = believable(cursor, &segments, last_sequence);
        last_sequence = last_sequence.max(cursor.sequence);
        let handed = Place { segment: cursor.segment, offset: cursor.offset, sequence: cursor.sequence };
        let dir = dir.to_owned();
        let in_flight = VecDeque::new();
        let state = QueueState {
            dir,
            segments,
            cursor,
            file,
            in_flight,
            handed,
            last_sequence,
            next_ticket: 1,
            tally,
            live: false,
        };
        Ok((Self { state: Mutex::new(state), side: Mutex::new(None) }, found))
    }
}

/// Walks the newest segment: its last sequence, and where its last good frame ends.
fn survey(scan: &mut Scan, found: &mut Existing) -> io::Result<(u64, u64)> {
    let (mut last, mut len) = (scan.header.first_sequence.saturating_sub(1), FILE_HEADER as u64);
    found.last_time_ns = found.last_time_ns.max(scan.header.last_time_ns);
    loop {
        match scan.next()? {
            Found::End => return Ok((last, len)),
            Found::Damage { .. } => {}
            Found::Frame { at, meta, len: n } => {
                if meta.kind == kind::HEADER {
                    found.header.get_or_insert(scan.payload(at, n)?.into());
                } else {
                    last = last.max(meta.sequence);
                }
                found.last_time_ns = found.last_time_ns.max(meta.time_ns);
                len = scan.at;
            }
        }
    }
}

/// A cursor that fits what is on disk; else the beginning of what there is: duplicates, never a loss.
pub(crate) fn believable(cursor: Option<Cursor>, segments: &VecDeque<Segment>, last: u64) -> Cursor {
    let Some(first) = segments.front() else { return cursor.unwrap_or_default() };
    if let Some(c) = cursor.filter(|c| c.sequence <= last && c.lost.total() <= c.sequence) {
        return c;
    }
    let sequence = first.first_sequence.saturating_sub(1);
    let lost = cursor.map(|c| c.lost).filter(|l| l.total() <= sequence).unwrap_or_default();
    let delivered = sequence - lost.total();
    Cursor { segment: first.number, offset: 0, sequence, delivered, lost }
}

impl QueueState {
    /// The writer has written up to `len` of segment `number`.
    pub(crate) fn wrote(&mut self, number: u64, len: u64, first: u64, last: u64, content: bool) {
        let known = (Instant::now(), Duration::ZERO);
        match self.segments.back_mut().filter(|s| s.number == number) {
            Some(s) => {
                s.len = len;
                s.content |= content;
                s.known = known;
            }
            None => self.segments.push_back(Segment { number, len, first_sequence: first, content, known }),
        }
        self.last_sequence = self.last_sequence.max(last);
    }

    /// Takes back what `wrote` said of a segment, after its `fdatasync` failed.
    pub(crate) fn retract(&mut self, number: u64, len: u64) {
        for s in self.segments.iter_mut().filter(|s| s.number == number) {
            s.len = len;
        }
    }

    pub(crate) fn hand_out(&mut self, to: Place, records: u64, gaps: Gaps) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        // Nothing but gaps needs nobody's word to be settled.
        let outcome = (records == 0).then(Settled::default);
        self.in_flight.push_back(InFlight { ticket, to, records, gaps, outcome });
        self.handed = to;
        ticket
    }

    pub(crate) fn settle(&mut self, ticket: u64, outcome: Settled) -> io::Result<()> {
        // A batch that is not in flight any more was shed or rewound meanwhile, and is counted so.
        let Some(entry) = self.in_flight.iter_mut().find(|f| f.ticket == ticket) else { return Ok(()) };
        if outcome.delivered + outcome.lost.total() != entry.records {
            let what = format!("a batch of {} records settled as {outcome:?}", entry.records);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        entry.outcome = Some(outcome);
        self.advance()
    }

    /// Moves the cursor over what is settled without a hole, publishes it, then deletes what is behind it.
    pub(crate) fn advance(&mut self) -> io::Result<()> {
        let before = self.cursor;
        while let Some((front, outcome)) = self.in_flight.front().and_then(|f| Some((f, f.outcome?))) {
            let Gaps { mut lost, from_ring } = front.gaps;
            lost.merge(&outcome.lost);
            let passed = front.to.sequence - self.cursor.sequence;
            lost.add(Loss::Damaged, passed.saturating_sub(outcome.delivered + lost.total()));
            self.count(front.to, outcome.delivered, lost, from_ring);
            self.in_flight.pop_front();
        }
        self.publish(before)
    }

    /// Gives up everything up to `to`, for `reason`.
    pub(crate) fn lose_to(&mut self, to: Place, reason: Loss) -> io::Result<()> {
        let before = self.cursor;
        let (mut delivered, mut lost) = (0, Lost::default());
        while self.in_flight.front().is_some_and(|f| f.to.sequence <= to.sequence) {
            if let Some(outcome) = self.in_flight.pop_front().and_then(|f| f.outcome) {
                delivered += outcome.delivered;
                lost.merge(&outcome.lost);
            }
        }
        let passed = to.sequence.saturating_sub(self.cursor.sequence);
        lost.add(reason, passed.saturating_sub(delivered + lost.total()));
        self.count(to, delivered, lost, 0);
        if self.handed.sequence < to.sequence || self.handed.segment < to.segment {
            self.handed = to;
        }
        self.publish(before)
    }

    /// Gives up everything before the last segment, which must have no records yet.
    pub(crate) fn lose_all(&mut self, reason: Loss) -> io::Result<()> {
        let last = self.segments.back().map(start_of);
        last.map_or(Ok(()), |to| self.lose_to(to, reason))
    }

    fn count(&mut self, to: Place, delivered: u64, mut lost: Lost, from_ring: u64) {
        self.cursor.segment = to.segment;
        self.cursor.offset = to.offset;
        self.cursor.sequence = self.cursor.sequence.max(to.sequence);
        self.cursor.delivered += delivered;
        self.cursor.lost.merge(&lost);
        self.tally.delivered.fetch_add(delivered, Ordering::Relaxed);
        if self.live {
            lost.take(Loss::Disk, from_ring);
        }
        self.tally.lose(&lost);
    }

    /// Makes the cursor's file again if somebody removed it; says whether that was so.
    pub(crate) fn restore_cursor(&mut self) -> io::Result<bool> {
        let path = self.dir.join("cursor");
        self.file.as_mut().map_or(Ok(false), |file| file.restore(&path, &self.cursor))
    }

    fn publish(&mut self, before: Cursor) -> io::Result<()> {
        // At the end of a segment that has a successor nothing is left to read in it.
        let at = self.segments.iter().position(|s| s.number == self.cursor.segment);
        if let Some(at) = at.filter(|&at| self.cursor.offset >= self.segments[at].len)
            && let Some(next) = self.segments.get(at + 1)
        {
            self.cursor.segment = next.number;
            self.cursor.offset = 0;
        }
        if self.cursor == before {
            return Ok(());
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        file.publish(&self.cursor)?;
        if self.segments.front().is_some_and(|s| s.number < self.cursor.segment) {
            file.sync()?;
        }
        while let Some(s) = self.segments.front().filter(|s| s.number < self.cursor.segment) {
            match fs::remove_file(self.dir.join(place::segment_name(s.number))) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => self.segments.pop_front(),
            };
        }
        Ok(())
    }

    /// Hands out again what is not settled; batches that were settled behind one that is not come again too.
    pub(crate) fn rewind(&mut self) {
        self.in_flight.clear();
        self.handed = Place {
            segment: self.cursor.segment,
            offset: self.cursor.offset,
            sequence: self.cursor.sequence,
        };
    }

    /// Drops what is older than `max_age`.
    pub(crate) fn expire(&mut self, max_age: Duration) -> io::Result<()> {
        while let Some(first) = self.segments.front().filter(|s| s.age() > max_age) {
            let whole = Place { segment: first.number, offset: first.len, sequence: self.last_sequence };
            let to = self.segments.get(1).map_or(whole, start_of);
            let nothing_left = to.sequence <= self.cursor.sequence;
            let only = self.segments.len() == 1;
            self.lose_to(to, Loss::Age)?;
            if only || nothing_left {
                break;
            }
        }
        Ok(())
    }

    /// Drops the oldest segment, if another one follows it; returns its size in bytes.
    pub(crate) fn shed(&mut self) -> io::Result<u64> {
        let (Some(first), Some(second)) = (self.segments.front(), self.segments.get(1)) else { return Ok(0) };
        let (bytes, to) = (first.len, start_of(second));
        self.lose_to(to, Loss::Full)?;
        Ok(bytes)
    }

    pub(crate) fn waiting(&self) -> (u64, u64) {
        let records = self.last_sequence - self.cursor.sequence;
        let kept =
            self.segments.iter().filter(|s| s.number >= self.cursor.segment).map(|s| s.len).sum::<u64>();
        let done = if records == 0 { kept } else { self.cursor.offset };
        (records, kept.saturating_sub(done))
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn drop_before(&mut self, number: u64) -> io::Result<()> {
        while let Some(s) = self.segments.front().filter(|s| s.number < number) {
            fs::remove_file(self.dir.join(place::segment_name(s.number)))?;
            self.segments.pop_front();
        }
        Ok(())
    }
}

fn start_of(segment: &Segment) -> Place {
    Place { segment: segment.number, offset: 0, sequence: segment.first_sequence.saturating_sub(1) }
}
