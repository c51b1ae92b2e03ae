//! A lane as a killed process leaves it, and edits of its files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use factline::outbox::{Outbox, Record, Settings, Settled, Transaction};

const RECORDS: u32 = 40;
const HEADER: &[u8] = b"what they belong to";

/// The record of this number.
fn payload(number: u32) -> Vec<u8> {
    number.to_le_bytes().into_iter().cycle().take(4 + number as usize * 7 % 90).collect()
}

/// A directory in memory where there is one: files on a disk would be most of the time.
fn dir() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a directory")
}

/// Every file of a lane, by its path in the outbox; drained as far as half of it.
fn lane() -> &'static [(PathBuf, Vec<u8>)] {
    static LANE: OnceLock<Vec<(PathBuf, Vec<u8>)>> = OnceLock::new();
    LANE.get_or_init(|| {
        let dir = dir();
        let mut settings = Settings::new(dir.path());
        settings.queues = vec!["logs".into()];
        settings.ring_bytes = 16 << 10;
        let outbox = Outbox::open(settings).expect("an outbox");
        let queue = outbox.queue("logs").expect("a queue");
        outbox.set_header(queue, HEADER);
        for number in 0..RECORDS {
            let payload = payload(number);
            let records = [Record { queue, time_ns: 1, content: number % 3 == 0, payload: &payload }];
            outbox.append(Transaction { records: &records, ..Default::default() }).expect("accepted");
        }
        outbox.sync().expect("synced");
        let mut files = Vec::new();
        read(dir.path(), dir.path(), &mut files);
        files
    })
}

fn read(root: &Path, dir: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(dir).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            read(root, &path, files);
        } else {
            let bytes = fs::read(&path).expect("a file");
            files.push((path.strip_prefix(root).expect("below").into(), bytes));
        }
    }
}

/// What the input does to a file: the first byte says whether it is all of it, or edits, eight bytes each.
fn edited(bytes: &[u8], input: &[u8]) -> Vec<u8> {
    let Some((first, rest)) = input.split_first() else { return bytes.to_vec() };
    if first % 4 == 0 {
        return rest.to_vec();
    }
    let mut bytes = bytes.to_vec();
    for edit in rest.chunks_exact(8) {
        let at = usize::from(u16::from_le_bytes([edit[1], edit[2]])) % bytes.len().max(1);
        let other = usize::from(u16::from_le_bytes([edit[3], edit[4]])) % bytes.len().max(1);
        let length = usize::from(edit[5]).min(bytes.len() - at).min(bytes.len() - other);
        match edit[0] % 6 {
            0 if at < bytes.len() => bytes[at] ^= edit[6] | 1,
            1 => bytes[at..at + length].fill(edit[6]),
            2 => bytes.copy_within(other..other + length, at),
            3 => bytes.truncate(at),
            4 if at + 4 <= bytes.len() => bytes[at..at + 4].copy_from_slice(&edit[4..8]),
            5 => drop(bytes.splice(at..at, edit[4..8].iter().copied())),
            _ => {}
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

/// Opens the lane with the files that `which` says changed by the input: only what was appended may come out, each
/// once, in order, and everything else is counted.
pub fn hold(input: &[u8], which: impl Fn(&str) -> bool, without: impl Fn(&str) -> bool) {
    let dir = dir();
    for (path, bytes) in lane() {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if without(name) {
            continue;
        }
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        let bytes = if which(name) { edited(bytes, input) } else { bytes.clone() };
        fs::write(path, bytes).expect("written");
    }
    factline::outbox::check(dir.path()).expect("looked at");
    let mut shown = Vec::new();
    factline::outbox::show(dir.path(), None, |record| {
        shown.push(record.payload.to_vec());
        Ok(())
    })
    .expect("shown");
    let mut settings = Settings::new(dir.path());
    settings.ring_bytes = 16 << 10;
    let outbox = Outbox::open(settings).expect("opened");
    let mut next = 0;
    for lane in outbox.adopt() {
        let Ok(mut reader) = lane.reader("logs") else { continue };
        while let Some(batch) = reader.next(1 << 20, 7).expect("read") {
            assert_eq!(&*batch.header, HEADER);
            for bytes in batch.payloads() {
                let number = bytes.first_chunk().map(|four| u32::from_le_bytes(*four)).expect("a number");
                assert!(number >= next && number < RECORDS && bytes == payload(number), "made up: {bytes:?}");
                next = number + 1;
            }
            reader.settle(&batch, Settled::delivered(&batch)).expect("settled");
        }
        assert_eq!(reader.waiting().records, 0);
    }
    for bytes in shown {
        let number = bytes.first_chunk().map(|four| u32::from_le_bytes(*four)).expect("a number");
        assert!(number < RECORDS && bytes == payload(number), "made up: {bytes:?}");
    }
}
