//! Reading what is stored, record by record, without disturbing whoever works in it.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crc32c::crc32c;

use super::bundle;
use super::cursor::CursorFile;
use super::frame::{FLAG_CONTENT, kind, u32_at};
use super::lane::names_of;
use super::place;
use super::queue::{Segment, believable};
use super::ring::DATA;
use super::scan::{Found, Scan};

/// A record that waits for delivery.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a> {
    /// The lane that it lies in.
    pub lane: &'a str,
    /// Its queue.
    pub queue: &'a str,
    /// Its number in the queue, from 1.
    pub sequence: u64,
    /// Time of the fact, unix nanoseconds.
    pub time_ns: u64,
    /// It carries content.
    pub content: bool,
    /// What it belongs to (resource and scope).
    pub header: &'a [u8],
    /// Opaque bytes.
    pub payload: &'a [u8],
}

/// A record that its destination refused.
#[derive(Debug, Clone, Copy)]
pub struct DeadLetter<'a> {
    /// The lane that it came from.
    pub lane: &'a str,
    /// Its queue.
    pub queue: &'a str,
    /// When it was put aside, unix nanoseconds.
    pub time_ns: u64,
    /// What the destination said.
    pub reason: &'a str,
    /// What it belongs to (resource and scope).
    pub header: &'a [u8],
    /// Opaque bytes.
    pub payload: &'a [u8],
}

/// Shows every record that waits in `queue`, or in all of them, of every lane, also those that lie only in a
/// ring. Damaged ones are left out. What living processes deliver meanwhile may be shown or not. Returns why
/// lanes could not be read (a newer version wrote them).
///
/// Errors: the directory can't be read, or `each` failed.
pub fn show(
    dir: &Path,
    queue: Option<&str>,
    mut each: impl FnMut(&Stored<'_>) -> io::Result<()>,
) -> io::Result<Vec<String>> {
    let lanes = dir.join("lanes");
    let mut unreadable = Vec::new();
    for lane in place::directories(&lanes)? {
        let path = lanes.join(&lane);
        let names = match names_of(&path) {
            Ok(names) => names,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => {
                unreadable.push(e.to_string());
                continue;
            }
        };
        // Before the segments: what is drained in between is then met twice rather than not at all, and its
        // sequence says so.
        let mut ring = InRing::read(&path.join("ring"), names.len());
        for (name, waits) in names.iter().zip(&mut ring.waiting) {
            if queue.is_some_and(|wanted| wanted != name) {
                continue;
            }
            match in_segments(&path.join(name), (&lane, name), &mut each)? {
                Ok((last, header)) => {
                    waits.sort_by_key(|w| w.sequence);
                    for w in waits.iter().filter(|w| w.sequence > last) {
                        let known = (crc32c(&header) == w.tag).then_some(&header);
                        let Some(header) = ring.headers.get(&w.tag).or(known) else { continue };
                        each(&w.as_stored((&lane, name), header))?;
                    }
                }
                Err(newer) => unreadable.push(newer.to_string()),
            }
        }
    }
    Ok(unreadable)
}

/// Shows what waits in a queue's segments; returns the last sequence and header met, or why a file is not for
/// this version.
fn in_segments(
    dir: &Path,
    (lane, queue): (&str, &str),
    each: &mut impl FnMut(&Stored<'_>) -> io::Result<()>,
) -> io::Result<Result<(u64, Vec<u8>), io::Error>> {
    let mut segments = VecDeque::new();
    let mut last = 0;
    let numbers = match place::segments(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        numbers => numbers?,
    };
    for number in numbers.into_iter().rev() {
        let mut scan = match open(dir, number) {
            Ok(scan) => scan,
            Err(e) if passed_over(&e) => continue,
            Err(e) if e.kind() == io::ErrorKind::Unsupported => return Ok(Err(e)),
            Err(e) => return Err(e),
        };
        let (first_sequence, len) = (scan.header.first_sequence, scan.end);
        if segments.is_empty() {
            last = first_sequence.saturating_sub(1);
            loop {
                match scan.next()? {
                    Found::End => break,
                    Found::Frame { meta, .. } => last = last.max(meta.sequence),
                    Found::Damage { .. } => {}
                }
            }
        }
        let known = (Instant::now(), Duration::ZERO);
        segments.push_front(Segment { number, len, first_sequence, content: false, known });
    }
    let cursor = believable(CursorFile::peek(&dir.join("cursor"))?, &segments, last);
    let (mut at, mut newest) = (cursor.sequence, Vec::new());
    for (i, segment) in segments.iter().enumerate().filter(|(_, s)| s.number >= cursor.segment) {
        let limit = segments.get(i + 1).map_or(u64::MAX, |next| next.first_sequence);
        let mut scan = match open(dir, segment.number) {
            Err(e) if passed_over(&e) => continue,
            scan => scan?,
        };
        let mut header: Option<Vec<u8>> = None;
        loop {
            match scan.next()? {
                Found::End => break,
                Found::Damage { .. } => {}
                Found::Frame { at: place, meta, len } => match meta.kind {
                    kind::HEADER if header.is_none() => header = Some(scan.payload(place, len)?.to_vec()),
                    kind::RECORD if meta.sequence > at && meta.sequence < limit => {
                        let Some(header) = &header else { continue };
                        at = meta.sequence;
                        each(&Stored {
                            lane,
                            queue,
                            sequence: at,
                            time_ns: meta.time_ns,
                            content: meta.flags & FLAG_CONTENT != 0,
                            header,
                            payload: scan.payload(place, len)?,
                        })?;
                    }
                    _ => {}
                },
            }
        }
        newest = header.unwrap_or(newest);
    }
    Ok(Ok((at.max(last), newest)))
}

fn open(dir: &Path, number: u64) -> io::Result<Scan> {
    Scan::open(&dir.join(place::segment_name(number)))
}

/// Damaged as a whole, or delivered and deleted since the directory was read.
fn passed_over(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData)
}

struct Waits {
    sequence: u64,
    time_ns: u64,
    content: bool,
    tag: u32,
    payload: Vec<u8>,
}

impl Waits {
    fn as_stored<'a>(&'a self, (lane, queue): (&'a str, &'a str), header: &'a [u8]) -> Stored<'a> {
        let Self { sequence, time_ns, content, payload, .. } = self;
        let (sequence, time_ns, content) = (*sequence, *time_ns, *content);
        Stored { lane, queue, sequence, time_ns, content, header, payload }
    }
}

/// A copy of what is in a ring, drained or not.
struct InRing {
    waiting: Vec<Vec<Waits>>,
    headers: HashMap<u32, Vec<u8>>,
}

impl InRing {
    fn read(path: &Path, queues: usize) -> Self {
        let waiting = std::iter::repeat_with(Vec::new).take(queues).collect();
        let mut ring = Self { waiting, headers: HashMap::new() };
        let Ok(mut scan) = Scan::open(path) else { return ring };
        scan.at = DATA as u64;
        loop {
            let (at, len) = match scan.next() {
                Err(_) | Ok(Found::End) => return ring,
                Ok(Found::Frame { at, meta, len }) if meta.kind == kind::TRANSACTION => (at, len),
                Ok(_) => continue,
            };
            let Ok(bundle) = scan.payload(at, len) else { continue };
            for item in bundle::decode(bundle) {
                match item.kind {
                    kind::HEADER => drop(ring.headers.insert(item.tag, item.payload.concat())),
                    kind::RECORD => {
                        let Some(queue) = ring.waiting.get_mut(usize::from(item.queue)) else { continue };
                        queue.push(Waits {
                            sequence: item.sequence,
                            time_ns: item.time_ns,
                            content: item.flags & FLAG_CONTENT != 0,
                            tag: item.tag,
                            payload: item.payload.concat(),
                        });
                    }
                    _ => {}
                }
            }
        }
    }
}

/// Shows every record that a destination of `queue`, or of any, refused: of lanes that are there, and the newest
/// of those that are gone.
///
/// Errors: the directory can't be read, or `each` failed.
pub fn dead_letters(
    dir: &Path,
    queue: Option<&str>,
    mut each: impl FnMut(&DeadLetter<'_>) -> io::Result<()>,
) -> io::Result<()> {
    for (lane, name, path) in dead_files(dir)? {
        if queue.is_some_and(|wanted| wanted != name) {
            continue;
        }
        letters_in(&path, |time_ns, header, reason, payload| {
            each(&DeadLetter { lane: &lane, queue: &name, time_ns, reason, header, payload })
        })?;
    }
    Ok(())
}

/// Shows the dead letters of a file: time, header, reason, payload.
pub(crate) fn letters_in(
    path: &Path,
    mut each: impl FnMut(u64, &[u8], &str, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut scan = match Scan::open(path) {
        Err(e) if passed_over(&e) || e.kind() == io::ErrorKind::Unsupported => return Ok(()),
        scan => scan?,
    };
    loop {
        let (at, meta, len) = match scan.next()? {
            Found::End => return Ok(()),
            Found::Frame { at, meta, len } if meta.kind == kind::DEAD => (at, meta, len),
            Found::Frame { .. } | Found::Damage { .. } => continue,
        };
        let bytes = scan.payload(at, len)?;
        let Some((header, rest)) = prefixed(bytes) else { continue };
        let Some((reason, payload)) = prefixed(rest) else { continue };
        each(meta.time_ns, header, &String::from_utf8_lossy(reason), payload)?;
    }
}

pub(crate) fn prefixed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    bytes.get(4..)?.split_at_checked(u32_at(bytes, 0) as usize)
}

/// The files of dead letters: lane, queue, path.
pub(crate) fn dead_files(dir: &Path) -> io::Result<Vec<(String, String, std::path::PathBuf)>> {
    let mut all = Vec::new();
    let dead = dir.join("dead");
    match std::fs::read_dir(&dead) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        entries => {
            for entry in entries? {
                let Ok(file) = entry?.file_name().into_string() else { continue };
                if let Some((lane, queue)) = file.strip_suffix(".seg").and_then(|name| name.split_once('.')) {
                    all.push((lane.to_owned(), queue.to_owned(), dead.join(&file)));
                }
            }
        }
    }
    let lanes = dir.join("lanes");
    for lane in place::directories(&lanes)? {
        for queue in place::directories(&lanes.join(&lane)).unwrap_or_default() {
            for file in ["dead.old", "dead.seg"] {
                let path = lanes.join(&lane).join(&queue).join(file);
                if path.exists() {
                    all.push((lane.clone(), queue.clone(), path));
                }
            }
        }
    }
    all.sort();
    Ok(all)
}
