//! Content that may not be kept any more: taken out of what lies on disk, while the facts it was part of stay.
//!
//! What is content in a record, only its writer knows. A file that has some is written anew beside the old one and
//! then takes its place, so that a crash leaves the one or the other. Sequences stay, so the accounts do; the cursor
//! looks at its segment from the start again, where what is settled is passed over.

use std::collections::BTreeMap;
use std::fs::{self, FileTimes};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use super::cursor::CursorFile;
use super::frame::{FLAG_CONTENT, FileHeader, Meta, Purpose, kind};
use super::lane::{Lane, LaneInner};
use super::look::{dead_files, prefixed};
use super::place;
use super::queue::{Tally, lock};
use super::record::Loss;
use super::scan::{Found, Scan};
use super::settings::Settings;
use super::store::{self, Store};

/// What the writer of records knows about content in them.
#[derive(Debug, Clone, Copy)]
pub struct Without {
    /// A record without its content; none if it can't be read.
    pub record: fn(&[u8]) -> Option<Vec<u8>>,
    /// What `begin` was given, without its content; none if it has none.
    pub begin: fn(&[u8]) -> Option<Vec<u8>>,
}

/// From how much of a lane content was taken out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Withdrawn {
    /// Records that wait, by queue.
    pub changed: BTreeMap<String, u64>,
    /// Records that wait and could not be read, by queue: they are lost, counted as [`Loss::Purged`].
    pub lost: BTreeMap<String, u64>,
    /// What has begun and not ended.
    pub open: u64,
    /// Records that destinations refused.
    pub dead_letters: u64,
}

impl Withdrawn {
    /// Whether there was nothing to take out.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A lane that a process works in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its name.
    pub lane: String,
    /// The process, as far as the system tells it.
    pub process: Option<u32>,
}

/// What [`withdraw`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Withdrawal {
    /// Lanes that had content, by name.
    pub lanes: BTreeMap<String, Withdrawn>,
    /// Lanes left alone.
    pub held: Vec<Held>,
    /// Why lanes could not be read (a newer version wrote them); they are as they were.
    pub unreadable: Vec<String>,
}

/// Takes content out of everything that nobody holds in `dir`: what waits, what is open, what was refused.
///
/// # Errors
/// The disk's; what was done before stays done.
pub fn withdraw(dir: &Path, without: &Without) -> io::Result<Withdrawal> {
    let mut all = Withdrawal::default();
    let settings = Settings::new(dir);
    let tally = Arc::<Tally>::default();
    for name in place::directories(&dir.join("lanes"))? {
        let path = dir.join("lanes").join(&name);
        match LaneInner::adopt(&settings, &name, &tally) {
            Ok(Some(lane)) => {
                let withdrawn = lane.withdraw(without)?;
                if !withdrawn.is_empty() {
                    all.lanes.insert(name, withdrawn);
                }
            }
            Ok(None) if path.exists() => {
                let process = holder(&path.join("lock"), &name);
                all.held.push(Held { lane: name, process });
            }
            Ok(None) => {}
            Err(e) if e.kind() == io::ErrorKind::Unsupported => all.unreadable.push(e.to_string()),
            Err(e) => return Err(e),
        }
    }
    // Those of lanes that are gone.
    for (lane, _, path) in
        dead_files(dir)?.into_iter().filter(|(.., path)| path.starts_with(dir.join("dead")))
    {
        let letters = clean_letters(&path, without)?;
        if letters > 0 {
            all.lanes.entry(lane).or_default().dead_letters += letters;
        }
    }
    Ok(all)
}

/// Who has the lock: the system's word where it gives one, else whose lane it is.
fn holder(lock: &Path, lane: &str) -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    let inode = fs::metadata(lock).map(|m| format!(":{}", m.ino())).ok();
    // `1: FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE 0 EOF`
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let told = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).find_map(|line| {
        let same = line.get(5)?.ends_with(inode.as_deref()?) && *line.get(1)? == "FLOCK";
        line.get(4).filter(|_| same)?.parse().ok()
    });
    told.or_else(|| lane.split('-').nth(1)?.parse().ok())
}

impl Lane {
    /// Takes the content out of everything in this adopted lane: what waits, what is open, what was refused. To be
    /// called before there are readers.
    ///
    /// # Errors
    /// `InvalidInput` for our own lane; else the disk's: no file is left half changed, and another call goes on.
    pub fn withdraw_content(&self, without: &Without) -> io::Result<Withdrawn> {
        self.must_be_adopted()?;
        self.0.withdraw(without)
    }
}

impl LaneInner {
    fn withdraw(&self, without: &Without) -> io::Result<Withdrawn> {
        let mut done = Withdrawn::default();
        lock(&self.store).flush()?;
        // From here on the queues have what the starts remember of transactions.
        store::sync(&self.store)?;
        let mut store = lock(&self.store);
        done.open = store.starts.replace(without.begin);
        store.starts.checkpoint()?;
        for queue in &self.names {
            let dir = self.dir.join(queue);
            let [changed, lost] = clean_queue(&dir, without)?;
            for (sums, count) in [(&mut done.changed, changed), (&mut done.lost, lost)] {
                if count > 0 {
                    sums.insert(queue.clone(), count);
                }
            }
            for file in ["dead.old", "dead.seg"] {
                done.dead_letters += clean_letters(&dir.join(file), without)?;
            }
        }
        let (limit, tally) = store.starts.tail.bounds();
        *store = Store::open(&self.dir, &self.names, limit, &tally)?;
        Ok(done)
    }
}

/// Records that wait in a queue's segments: changed, and lost.
fn clean_queue(dir: &Path, without: &Without) -> io::Result<[u64; 2]> {
    let (mut changed, mut lost) = (0, 0);
    let mut settled = None;
    for number in place::segments(dir)? {
        let path = dir.join(place::segment_name(number));
        if is_clean(&path)? {
            continue;
        }
        let mut counted = (Vec::new(), Vec::new());
        let bytes = cleaned(&path, without, &mut counted)?;
        let settled = match settled {
            Some(settled) => settled,
            None => *settled.insert(look_from_the_start(dir)?),
        };
        replace(&path, &bytes)?;
        let waiting = |all: &[u64]| all.iter().filter(|sequence| **sequence > settled).count() as u64;
        changed += waiting(&counted.0);
        lost += waiting(&counted.1);
    }
    if settled.is_some() {
        place::sync_dir(dir)?;
    }
    Ok([changed, lost])
}

/// Offsets will not be what they were. Returns how far the queue is settled.
fn look_from_the_start(dir: &Path) -> io::Result<u64> {
    let (mut file, cursor) = CursorFile::open(&dir.join("cursor"))?;
    let Some(cursor) = cursor else { return Ok(0) };
    file.publish(&super::cursor::Cursor { offset: 0, ..cursor })?;
    file.sync()?;
    Ok(cursor.sequence)
}

/// Whether there is content in a segment, or damage that may have been some.
fn is_clean(path: &Path) -> io::Result<bool> {
    let mut scan = match Scan::open(path) {
        Err(e) if e.kind() == io::ErrorKind::InvalidData => return Ok(false),
        scan => scan?,
    };
    loop {
        match scan.next()? {
            Found::End => return Ok(true),
            Found::Frame { meta, .. } if meta.flags & FLAG_CONTENT == 0 => {}
            Found::Frame { .. } | Found::Damage { .. } => return Ok(false),
        }
    }
}

/// What a segment is without content, and which of its records were changed and which can't be kept.
fn cleaned(path: &Path, without: &Without, counted: &mut (Vec<u64>, Vec<u64>)) -> io::Result<Vec<u8>> {
    let mut scan = match Scan::open(path) {
        Err(e) if e.kind() == io::ErrorKind::InvalidData => return Ok(Vec::new()),
        scan => scan?,
    };
    let header = FileHeader { salt: place::random(), ..scan.header };
    let (seal, mut out) = (header.seal(), header.encode(Purpose::Segment).to_vec());
    loop {
        let (at, meta, len) = match scan.next()? {
            Found::End => return Ok(out),
            Found::Frame { at, meta, len } => (at, meta, len),
            Found::Damage { .. } => continue,
        };
        let payload = scan.payload(at, len)?;
        let plain = Meta { flags: meta.flags & !FLAG_CONTENT, ..meta };
        if plain == meta {
            seal.push(&mut out, 0, meta, payload);
        } else if let Some(kept) = (without.record)(payload) {
            seal.push(&mut out, 0, plain, &kept);
            counted.0.push(meta.sequence);
        } else {
            let said = [&[Loss::Purged as u8][..], &1_u64.to_le_bytes()].concat();
            seal.push(&mut out, 0, Meta { kind: kind::LOST, ..plain }, &said);
            counted.1.push(meta.sequence);
        }
    }
}

/// Cleans what a destination refused; returns how many there were with content. They carry no mark.
fn clean_letters(path: &Path, without: &Without) -> io::Result<u64> {
    let mut scan = match Scan::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        // Nobody can read it any more, nor see whether there is some.
        Err(e) if e.kind() == io::ErrorKind::InvalidData => return fs::remove_file(path).map(|()| 0),
        scan => scan?,
    };
    let header = FileHeader { salt: place::random(), ..scan.header };
    let (seal, mut out) = (header.seal(), header.encode(Purpose::Dead).to_vec());
    let mut changed = 0;
    loop {
        let (at, meta, len) = match scan.next()? {
            Found::End => break,
            Found::Frame { at, meta, len } => (at, meta, len),
            Found::Damage { .. } => continue,
        };
        let letter = scan.payload(at, len)?;
        let record =
            prefixed(letter).and_then(|(_, rest)| prefixed(rest)).map_or(&[][..], |(_, record)| record);
        match (without.record)(record).filter(|kept| kept != record) {
            Some(kept) => {
                changed += 1;
                let about = letter.get(..letter.len() - record.len()).unwrap_or_default();
                seal.push(&mut out, 0, meta, &[about, &kept].concat());
            }
            None => seal.push(&mut out, 0, meta, letter),
        }
    }
    if changed > 0 {
        replace(path, &out)?;
    }
    Ok(changed)
}

/// Puts `bytes` in the place of a file, which ages as before.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = place::create_anew(&new)?;
    file.write_all(bytes)?;
    file.set_times(FileTimes::new().set_modified(fs::metadata(path)?.modified()?))?;
    file.sync_all()?;
    fs::rename(&new, path)
}
