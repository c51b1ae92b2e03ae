//! Looking at a directory without disturbing whoever works in it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::bundle;
use super::cursor::{self, CursorFile};
use super::frame::kind;
use super::lane::names_of;
use super::look::dead_files;
use super::place;
use super::queue::{Segment, believable};
use super::reader::oldest_time;
use super::record::{Lost, Waiting};
use super::ring::DATA;
use super::scan::{Found, Scan};

/// How often, and after how long, the torn end of a file is looked at again that somebody may be writing.
const LOOKS: u32 = 5;
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// One lane as it is on disk.
#[derive(Debug, Clone)]
pub struct LaneStatus {
    /// The name of its directory.
    pub name: String,
    /// Somebody holds its lock.
    pub owner_alive: bool,
    /// Why it could not be read, if it could not (a newer version wrote it).
    pub unreadable: Option<String>,
    /// Its queues.
    pub queues: Vec<QueueStatus>,
}

/// One queue of a lane.
#[derive(Debug, Clone)]
pub struct QueueStatus {
    /// Its name.
    pub name: String,
    /// Records accepted: delivered, lost and waiting together.
    pub accepted: u64,
    /// Of them, those that no longer depend on the ring: the others are in it alone.
    pub written: u64,
    /// What is to be delivered, the ring included.
    pub waiting: Waiting,
    /// Records delivered.
    pub delivered: u64,
    /// Records lost, by reason.
    pub lost: Lost,
    /// Damaged places in its segments right now.
    pub damaged: u64,
}

/// Bytes of a segment that are no frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Where.
    pub file: PathBuf,
    /// First byte of it.
    pub offset: u64,
    /// How many bytes.
    pub len: u64,
}

/// What is in a directory; nothing is changed, and nobody who works in it is disturbed.
///
/// Errors: the directory can't be read. One that is not there has no lanes.
pub fn status(dir: &Path) -> io::Result<Vec<LaneStatus>> {
    let lanes = dir.join("lanes");
    let mut all = Vec::new();
    for name in place::directories(&lanes)? {
        let lane = lanes.join(&name);
        let owner_alive = is_held(&lane);
        let (queues, unreadable) = match queues_of(&lane) {
            Ok(queues) => (queues, None),
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => (Vec::new(), Some(e.to_string())),
        };
        all.push(LaneStatus { name, owner_alive, unreadable, queues });
    }
    Ok(all)
}

pub(crate) fn queues_of(lane: &Path) -> io::Result<Vec<QueueStatus>> {
    let names = names_of(lane)?;
    // The ring before the segments: what is drained in between is then seen twice rather than not at all,
    // and its sequence says that it is the same.
    let ring = in_ring(&lane.join("ring"), names.len());
    let mut all = Vec::new();
    for (name, (ring_last, ring_oldest)) in names.iter().zip(ring) {
        let queue = lane.join(name);
        let mut segments = std::collections::VecDeque::new();
        let (mut last, mut bytes, mut damaged) = (0, 0, 0);
        let cursor = CursorFile::peek(&queue.join("cursor"))?;
        for number in place::segments(&queue)? {
            let path = queue.join(place::segment_name(number));
            let mut scan = match Scan::open(&path) {
                Err(e) if matches!(e.kind(), io::ErrorKind::InvalidData) => {
                    damaged += u64::from(!is_empty(&path));
                    continue;
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                scan => scan?,
            };
            let first = scan.header.first_sequence;
            last = last.max(first.saturating_sub(1));
            let known = (std::time::Instant::now(), Duration::ZERO);
            segments.push_back(Segment {
                number,
                len: scan.end,
                first_sequence: first,
                content: false,
                known,
            });
            bytes += scan.end;
            loop {
                match scan.next()? {
                    Found::End => break,
                    Found::Damage { at, len } => damaged += u64::from(at + len < scan.end),
                    Found::Frame { meta, .. } => last = last.max(meta.sequence),
                }
            }
        }
        let cursor = believable(cursor, &segments, last);
        let written = last.max(cursor.sequence);
        let accepted = written.max(ring_last);
        let records = accepted - cursor.sequence;
        let in_segments = match records {
            0 => 0,
            _ => oldest_time(&queue, cursor.segment, cursor.sequence),
        };
        let oldest_ns = match (records, in_segments) {
            (0, _) => 0,
            (_, 0) => ring_oldest,
            (_, t) => t,
        };
        let waiting = Waiting { records, bytes: if records == 0 { 0 } else { bytes }, oldest_ns };
        let (delivered, lost) = (cursor.delivered, cursor.lost);
        all.push(QueueStatus { name: name.clone(), accepted, written, waiting, delivered, lost, damaged });
    }
    Ok(all)
}

/// Per queue: the last sequence in a ring, and the earliest time. A frame that is being written meanwhile
/// fails its sum and is left out.
fn in_ring(path: &Path, queues: usize) -> Vec<(u64, u64)> {
    let mut all = vec![(0, 0); queues];
    let Ok(mut scan) = Scan::open(path) else { return all };
    scan.at = DATA as u64;
    loop {
        match scan.next() {
            Err(_) | Ok(Found::End) => return all,
            Ok(Found::Frame { at, meta, len }) if meta.kind == kind::TRANSACTION => {
                let Ok(bundle) = scan.payload(at, len) else { continue };
                for item in bundle::decode(bundle).filter(|i| i.kind == kind::RECORD) {
                    if let Some((last, oldest)) = all.get_mut(usize::from(item.queue)) {
                        *last = item.sequence.max(*last);
                        *oldest = if *oldest == 0 { item.time_ns } else { item.time_ns.min(*oldest) };
                    }
                }
            }
            Ok(_) => {}
        }
    }
}

/// Whether somebody holds the lane. The lock is only tried and given back at once; an adopter that comes at
/// that very moment finds it at its next look.
fn is_held(lane: &Path) -> bool {
    match place::open_read(&lane.join("lock")) {
        Ok(file) => !place::try_lock(&file).unwrap_or(false),
        Err(_) => false,
    }
}

/// Every damaged place in all files of the outbox but the rings, of which whatever does not hold is no loss. A
/// torn end of a file is one of them, unless a living process is just writing there.
///
/// Errors: the disk's. Files of a newer version are left out.
pub fn check(dir: &Path) -> io::Result<Vec<Damage>> {
    let mut all = Vec::new();
    let lanes = dir.join("lanes");
    for lane in place::directories(&lanes)? {
        let lane = lanes.join(lane);
        let owner_alive = is_held(&lane);
        let queues = match place::directories(&lane) {
            // Delivered, and removed since a moment.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            queues => queues?,
        };
        check_file(&lane.join("names"), owner_alive, &mut all)?;
        for queue in queues {
            let queue = lane.join(queue);
            let segments = place::segments(&queue).unwrap_or_default();
            for number in segments {
                check_file(&queue.join(place::segment_name(number)), owner_alive, &mut all)?;
            }
            let cursor = queue.join("cursor");
            for offset in CursorFile::damaged_slots(&cursor)? {
                all.push(Damage { file: cursor.clone(), offset, len: cursor::SLOT as u64 });
            }
        }
    }
    for (lane, _, path) in dead_files(dir)? {
        check_file(&path, is_held(&lanes.join(lane)), &mut all)?;
    }
    Ok(all)
}

/// Its process died between making and writing it; what was to come into it is in the ring.
fn is_empty(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|m| m.len() == 0)
}

fn check_file(file: &Path, owner_alive: bool, all: &mut Vec<Damage>) -> io::Result<()> {
    let mut scan = match Scan::open(file) {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::Unsupported) => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::InvalidData && is_empty(file) => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => {
            let len = fs::metadata(file).map_or(0, |m| m.len());
            all.push(Damage { file: file.into(), offset: 0, len });
            return Ok(());
        }
        scan => scan?,
    };
    let mut looks = 0;
    loop {
        match scan.next()? {
            Found::End => return Ok(()),
            // A frame of which the rest is on its way.
            Found::Damage { at, len } if owner_alive && at + len >= scan.end && looks < LOOKS => {
                looks += 1;
                std::thread::sleep(LOOK_AGAIN);
                scan = Scan::open(file)?;
                scan.at = at;
            }
            Found::Damage { at, len } => all.push(Damage { file: file.into(), offset: at, len }),
            Found::Frame { .. } => {}
        }
    }
}
