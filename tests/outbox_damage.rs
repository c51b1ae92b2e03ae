//! Damage costs what it hit and nothing else; wrong data never comes out.
#![cfg(feature = "outbox")]
// The lint knows test functions, not what they call.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use factline::outbox::*;

const HEAD: &[u8] = b"resource and scope";
const FRAME: usize = 36;

/// A dead lane with `n` records of `size` bytes in one segment; returns the segment's path.
fn dead_lane(dir: &Path, n: u32, size: usize) -> PathBuf {
    let mut s = Settings::new(dir);
    s.queues = vec!["a".into()];
    s.ring_bytes = 64 << 10;
    let outbox = Outbox::open(s).unwrap();
    let a = outbox.queue("a").unwrap();
    outbox.set_header(a, HEAD);
    for i in 0..n {
        let payload = payload(i, size);
        let records = [Record { queue: a, time_ns: 1, content: false, payload: &payload }];
        outbox.append(Transaction { records: &records, ..Default::default() }).unwrap();
    }
    outbox.sync().unwrap();
    let lane = dir.join("lanes").join(outbox.own().name());
    drop(outbox);
    // What is drained stays in the ring until it is overwritten, and would heal the damage.
    fs::remove_file(lane.join("ring")).unwrap();
    lane.join("a").join("00000000000000000001.seg")
}

fn payload(i: u32, size: usize) -> Vec<u8> {
    i.to_le_bytes().into_iter().cycle().take(size.max(4)).collect()
}

fn open(dir: &Path) -> Outbox {
    let mut s = Settings::new(dir);
    s.ring_bytes = 16 << 10;
    Outbox::open(s).unwrap()
}

/// Which records come out, each checked to be whole; and how many were counted as damaged.
fn deliver(dir: &Path, size: usize) -> (Vec<u32>, u64) {
    let outbox = open(dir);
    let lane = outbox.adopt().remove(0);
    let mut reader = lane.reader("a").unwrap();
    let mut got = Vec::new();
    while let Some(batch) = reader.next(200, 100).unwrap() {
        assert_eq!(&*batch.header, HEAD);
        for p in batch.payloads() {
            let i = u32::from_le_bytes(p[..4].try_into().unwrap());
            assert_eq!(p, payload(i, size));
            got.push(i);
        }
        reader.settle(&batch, Settled::delivered(&batch)).unwrap();
    }
    (got, outbox.counters().lost.by(Loss::Damaged))
}

/// The same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % n
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

#[test]
fn a_tail_torn_at_any_byte_costs_only_the_frames_it_cut() {
    let dir = tempfile::tempdir().unwrap();
    let segment = dead_lane(dir.path(), 10, 20);
    let whole = fs::read(&segment).unwrap();
    let frame = FRAME + 20;
    for cut in 1..=3 * frame {
        fs::write(&segment, &whole[..whole.len() - cut]).unwrap();
        let to = tempfile::tempdir().unwrap();
        copy(dir.path(), to.path());
        let (got, _) = deliver(to.path(), 20);
        assert_eq!(got, (0..10 - cut.div_ceil(frame) as u32).collect::<Vec<_>>(), "cut {cut}");
    }
}

#[test]
fn one_flipped_bit_costs_only_the_frame_it_hit_and_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let segment = dead_lane(dir.path(), 40, 30);
    let whole = fs::read(&segment).unwrap();
    let records_at = whole.len() - 40 * (FRAME + 30);
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for seed in 0..500 {
        let bit = random.below(whole.len() * 8);
        let mut hurt = whole.clone();
        hurt[bit / 8] ^= 1 << (bit % 8);
        fs::write(&segment, hurt).unwrap();
        let to = tempfile::tempdir().unwrap();
        copy(dir.path(), to.path());
        let (got, damaged) = deliver(to.path(), 30);
        let hit = (bit / 8).checked_sub(records_at).map(|at| (at / (FRAME + 30)) as u32);
        let expected: Vec<u32> = (0..40).filter(|&i| Some(i) != hit).collect();
        assert_eq!(got, expected, "seed {seed} bit {bit}");
        // The last one is noticed when something follows it; nothing does here.
        assert_eq!(damaged, u64::from(hit.is_some_and(|i| i < 39)), "seed {seed}");
        let found = check(to.path()).unwrap();
        assert_eq!(found.len(), usize::from(bit / 8 >= 128), "a copy of the file header heals itself");
    }
}

#[test]
fn a_last_segment_that_lost_both_copies_of_its_header_is_counted_and_waits_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let segment = dead_lane(dir.path(), 10, 20);
    let mut bytes = fs::read(&segment).unwrap();
    bytes[128..128 + 2 * (FRAME + HEAD.len())].fill(0);
    fs::write(&segment, bytes).unwrap();
    let (got, damaged) = deliver(dir.path(), 20);
    assert_eq!((got, damaged), (vec![], 10));
    let lanes = status(dir.path()).unwrap();
    assert!(lanes.iter().all(|lane| lane.queues.iter().all(|queue| queue.waiting.records == 0)), "{lanes:?}");
}

#[test]
fn zeros_garbage_and_repeated_blocks_never_become_records() {
    const SIZE: usize = 50;
    let dir = tempfile::tempdir().unwrap();
    let segment = dead_lane(dir.path(), 400, SIZE);
    let whole = fs::read(&segment).unwrap();
    let (records_at, last_at) = (whole.len() - 400 * (FRAME + SIZE), whole.len() - (FRAME + SIZE));
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for seed in 0..120 {
        // Blocks of a disk, of a page cache, and such as are neither; from and to anywhere.
        let block = [512, 4096, 1 + random.below(3000)][random.below(3)];
        let step = [1, FRAME + SIZE, 512][random.below(3)];
        let at = records_at + random.below((last_at - block - records_at) / step) * step;
        let from = random.below((whole.len() - block) / step) * step;
        // From a whole number of frames further on: nothing but the place tells that they are copies.
        let later = at + random.below((whole.len() - at - block) / (FRAME + SIZE)) * (FRAME + SIZE);
        let fill = match seed % 4 {
            0 => vec![0; block],
            1 => (0..block).map(|_| random.below(256) as u8).collect(),
            2 => whole[from..from + block].to_vec(),
            _ => whole[later..later + block].to_vec(),
        };
        let mut hurt = whole.clone();
        hurt[at..at + block].copy_from_slice(&fill);
        fs::write(&segment, hurt).unwrap();
        let to = tempfile::tempdir().unwrap();
        copy(dir.path(), to.path());
        let (got, damaged) = deliver(to.path(), SIZE);
        assert!(got.is_sorted_by(|a, b| a < b), "seed {seed}: nothing twice, nothing out of order");
        assert_eq!(got.len() as u64 + damaged, 400, "seed {seed}");
        assert!(damaged as usize <= block / (FRAME + SIZE) + 2, "seed {seed}: {damaged} by {block} bytes");
    }
}

#[test]
fn a_frame_forged_inside_a_payload_is_not_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let victim = dead_lane(dir.path(), 3, 20);
    // A real frame of another file, with the right sequence: only the salt is another.
    let other = tempfile::tempdir().unwrap();
    let donor = fs::read(dead_lane(other.path(), 9, 20)).unwrap();
    let forged = donor[donor.len() - (FRAME + 20)..].to_vec();
    let lane = tempfile::tempdir().unwrap();
    let mut s = Settings::new(lane.path());
    s.queues = vec!["a".into()];
    let outbox = Outbox::open(s).unwrap();
    let a = outbox.queue("a").unwrap();
    outbox.set_header(a, HEAD);
    for p in [&payload(0, 20), &forged, &payload(1, 20)] {
        let records = [Record { queue: a, time_ns: 1, content: false, payload: p }];
        outbox.append(Transaction { records: &records, ..Default::default() }).unwrap();
    }
    outbox.sync().unwrap();
    let dir = lane.path().join("lanes").join(outbox.own().name());
    drop(outbox);
    fs::remove_file(dir.join("ring")).unwrap();
    let path = dir.join("a").join(victim.file_name().unwrap());
    let mut bytes = fs::read(&path).unwrap();
    let outer = bytes.len() - (FRAME + 20) - (FRAME + forged.len());
    bytes[outer] ^= 1;
    fs::write(&path, bytes).unwrap();
    let (got, damaged) = deliver(lane.path(), 20);
    assert_eq!((got, damaged), (vec![0, 1], 1));
}

#[test]
fn a_bad_cursor_costs_duplicates_only() {
    let dir = tempfile::tempdir().unwrap();
    let segment = dead_lane(dir.path(), 20, 20);
    let cursor = segment.with_file_name("cursor");
    let old = fs::read(&cursor).unwrap();
    {
        let outbox = open(dir.path());
        let lane = outbox.adopt().remove(0);
        let mut reader = lane.reader("a").unwrap();
        let batch = reader.next(1000, 12).unwrap().unwrap();
        reader.settle(&batch, Settled::delivered(&batch)).unwrap();
    }
    let good = fs::read(&cursor).unwrap();
    let foreign = tempfile::tempdir().unwrap();
    let future = {
        let segment = dead_lane(foreign.path(), 100, 20);
        assert_eq!(deliver(foreign.path(), 20).0.len(), 100);
        fs::read(segment.with_file_name("cursor")).unwrap()
    };
    let cases: BTreeMap<&str, (Option<Vec<u8>>, u32)> = BTreeMap::from([
        ("good", (Some(good.clone()), 12)),
        ("missing", (None, 0)),
        ("empty", (Some(Vec::new()), 0)),
        ("garbage", (Some(vec![0xA5; 512]), 0)),
        ("old", (Some(old), 0)),
        ("future", (Some(future), 0)),
        ("short", (Some(good[..300].to_vec()), 0)),
    ]);
    for (case, (bytes, from)) in cases {
        let to = tempfile::tempdir().unwrap();
        copy(dir.path(), to.path());
        let path = to.path().join(cursor.strip_prefix(dir.path()).unwrap());
        match bytes {
            Some(bytes) => fs::write(path, bytes).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
        let (got, damaged) = deliver(to.path(), 20);
        assert_eq!((got.first(), got.last()), (Some(&from), Some(&19)), "{case}");
        assert_eq!(damaged, 0, "{case}");
    }
}

#[test]
fn a_newer_version_is_left_untouched_and_the_rest_still_works() {
    let dir = tempfile::tempdir().unwrap();
    let segment = dead_lane(dir.path(), 5, 20);
    let mut bytes = fs::read(&segment).unwrap();
    for copy in [0, 64] {
        bytes[copy + 8] = 9;
        let sum = crc32c::crc32c(&bytes[copy..copy + 60]).to_le_bytes();
        bytes[copy + 60..copy + 64].copy_from_slice(&sum);
    }
    fs::write(&segment, &bytes).unwrap();
    let outbox = open(dir.path());
    assert!(outbox.adopt().is_empty());
    assert!(outbox.warnings()[0].contains("format 9 is newer"), "{:?}", outbox.warnings());
    assert_eq!(fs::read(&segment).unwrap(), bytes);
    let all = status(dir.path()).unwrap();
    assert!(all.iter().any(|l| l.unreadable.as_ref().is_some_and(|u| u.contains("newer"))));
}

#[test]
fn a_hurt_ring_costs_what_was_hit() {
    let dir = tempfile::tempdir().unwrap();
    let mut s = Settings::new(dir.path());
    s.queues = vec!["a".into()];
    s.ring_bytes = 64 << 10;
    let outbox = Outbox::open(s).unwrap();
    let a = outbox.queue("a").unwrap();
    outbox.set_header(a, HEAD);
    for i in 0..100 {
        let payload = payload(i, 20);
        let records = [Record { queue: a, time_ns: 1, content: false, payload: &payload }];
        outbox.append(Transaction { records: &records, ..Default::default() }).unwrap();
    }
    outbox.sync().unwrap();
    let lane = dir.path().join("lanes").join(outbox.own().name());
    drop(outbox);
    // As if nothing had been drained: only the ring knows, the header too.
    for name in ["a/00000000000000000001.seg", "a/cursor"] {
        fs::remove_file(lane.join(name)).unwrap();
    }
    let ring = fs::read(lane.join("ring")).unwrap();
    let one = FRAME + 20 + 32 + 8;
    let records_at = 4096 + FRAME + HEAD.len() + 32 + 8;
    for bit in (0..one * 8).step_by(7) {
        let mut hurt = ring.clone();
        hurt[records_at + 42 * one + bit / 8] ^= 1 << (bit % 8);
        fs::write(lane.join("ring"), hurt).unwrap();
        let to = tempfile::tempdir().unwrap();
        copy(dir.path(), to.path());
        let (got, damaged) = deliver(to.path(), 20);
        assert_eq!(got, (0..100).filter(|&i| i != 42).collect::<Vec<_>>(), "bit {bit}");
        assert_eq!(damaged, 1);
    }
    for cut in [records_at + 50 * one, records_at + 50 * one + 17] {
        fs::write(lane.join("ring"), &ring[..cut]).unwrap();
        let to = tempfile::tempdir().unwrap();
        copy(dir.path(), to.path());
        assert_eq!(deliver(to.path(), 20).0, (0..50).collect::<Vec<_>>());
    }
}

#[test]
fn a_segment_that_was_made_and_never_written_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let path = dead_lane(dir.path(), 20, 50);
    fs::write(path.with_file_name("00000000000000000002.seg"), b"").unwrap();
    assert_eq!(check(dir.path()).unwrap(), []);
    assert_eq!(status(dir.path()).unwrap()[0].queues[0].damaged, 0);
    assert_eq!(deliver(dir.path(), 50), ((0..20).collect(), 0));
}
