//! Files that somebody removes from under a living process: what can be saved is, the rest is counted, and
//! it goes on.
#![cfg(feature = "outbox")]
// The lint knows test functions, not what they call.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use factline::outbox::*;

const SIZE: usize = 100;

fn open(dir: &Path) -> Outbox {
    let mut s = Settings::new(dir);
    s.queues = vec!["a".into()];
    s.ring_bytes = 64 << 10;
    s.segment_bytes = 16 << 10;
    let outbox = Outbox::open(s).unwrap();
    outbox.set_header(outbox.queue("a").unwrap(), b"res");
    outbox
}

fn lane_of(outbox: &Outbox) -> PathBuf {
    outbox.dir().join("lanes").join(outbox.own().name())
}

fn append(outbox: &Outbox, numbers: std::ops::Range<u32>) {
    for i in numbers {
        let payload: Vec<u8> = i.to_le_bytes().into_iter().cycle().take(SIZE).collect();
        let queue = outbox.queue("a").unwrap();
        let records = [Record { queue, time_ns: 1, content: false, payload: &payload }];
        outbox.append(Transaction { records: &records, ..Default::default() }).unwrap();
    }
}

/// What a reader gets until there is no more, each record whole and none twice.
fn deliver(lane: &Lane) -> Vec<u32> {
    let mut reader = lane.reader("a").unwrap();
    let mut got = Vec::new();
    while let Some(batch) = reader.next(4000, 100).unwrap() {
        assert_eq!(&*batch.header, b"res");
        for p in batch.payloads() {
            got.push(u32::from_le_bytes(p[..4].try_into().unwrap()));
            assert!(p.len() == SIZE && p.chunks(4).all(|c| c == &p[..4]));
        }
        reader.settle(&batch, Settled::delivered(&batch)).unwrap();
    }
    assert_eq!(reader.waiting().records, 0);
    assert!(got.is_sorted_by(|a, b| a < b));
    got
}

fn segments(lane: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(lane.join("a")).unwrap().map(|e| e.unwrap().path());
    let mut all: Vec<_> = entries.filter(|p| p.extension().is_some_and(|e| e == "seg")).collect();
    all.sort();
    all
}

/// The account of the only lane, by what is on disk: given, delivered, lost.
fn account(outbox: &Outbox) -> (u64, u64, u64) {
    let lane = status(outbox.dir()).unwrap().into_iter().find(|l| l.name == outbox.own().name()).unwrap();
    assert!(lane.owner_alive && lane.unreadable.is_none());
    let q = &lane.queues[0];
    (q.delivered + q.lost.total() + q.waiting.records, q.delivered, q.lost.total())
}

/// What somebody finds who comes after the process was killed now.
fn after_a_kill(dir: &Path) -> Vec<u32> {
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
    let to = tempfile::tempdir().unwrap();
    copy(dir, to.path());
    deliver(&open(to.path()).adopt()[0])
}

#[test]
fn the_segment_that_is_being_written_is_written_again_and_nothing_is_lost() {
    for sync_first in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let outbox = open(dir.path());
        append(&outbox, 0..50);
        outbox.sync().unwrap();
        for path in segments(&lane_of(&outbox)) {
            fs::remove_file(path).unwrap();
        }
        append(&outbox, 50..80);
        match sync_first {
            true => outbox.sync().unwrap(),
            false => outbox.drain().unwrap(),
        }
        assert_eq!(deliver(&outbox.own()), (0..80).collect::<Vec<_>>());
        assert_eq!((account(&outbox), outbox.counters().written), ((80, 80, 0), 80));
        assert_eq!(outbox.warnings().len(), 1);
    }
}

#[test]
fn closed_segments_are_lost_and_counted_and_it_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open(dir.path());
    append(&outbox, 0..1000);
    outbox.sync().unwrap();
    let all = segments(&lane_of(&outbox));
    assert!(all.len() > 5);
    for path in &all[1..3] {
        fs::remove_file(path).unwrap();
    }
    append(&outbox, 1000..1100);
    outbox.sync().unwrap();
    let got = deliver(&outbox.own());
    let lost = 1100 - got.len() as u64;
    assert!((100..400).contains(&lost) && got[0] == 0, "{lost}");
    assert_eq!(outbox.counters().lost.by(Loss::Disk), lost);
    assert_eq!(account(&outbox), (1100, got.len() as u64, lost));
}

#[test]
fn directories_are_made_again_with_all_that_is_still_known() {
    type Which = fn(&Outbox) -> PathBuf;
    let whole: Which = |o| o.dir().to_owned();
    let lanes: Which = |o| o.dir().join("lanes");
    let queue: Which = |o| lane_of(o).join("a");
    for which in [whole, lanes, lane_of, queue] {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("outbox");
        let outbox = open(&dir);
        let begin = Some((Key([7; 24]), 5, &b"open"[..]));
        outbox.append(Transaction { begin, ..Default::default() }).unwrap();
        append(&outbox, 0..500);
        outbox.sync().unwrap();
        let mut reader = outbox.own().reader("a").unwrap();
        let batch = reader.next(usize::MAX, 20).unwrap().unwrap();
        reader.settle(&batch, Settled::delivered(&batch)).unwrap();
        fs::remove_dir_all(which(&outbox)).unwrap();
        append(&outbox, 500..600);
        outbox.sync().unwrap();
        append(&outbox, 600..620);
        let later = after_a_kill(&dir);
        assert_eq!(later.last(), Some(&619), "the ring is there again as well");
        outbox.sync().unwrap();
        assert_eq!((account(&outbox).0, account(&outbox).1), (620, 20), "the cursor too");
        // The reader still has the first segment open; the others, but the last one, are gone.
        let got = deliver(&outbox.own());
        assert_eq!(got.last(), Some(&619));
        let (given, delivered, lost) = account(&outbox);
        assert_eq!((given, delivered), (620, 20 + got.len() as u64));
        assert_eq!(outbox.counters().lost.by(Loss::Disk), lost);
        assert!((1..500).contains(&lost), "{lost}");
        assert_eq!(outbox.own().unfinished().len(), 1);
        // Nobody can have taken it meanwhile, and whoever comes later finds what never ended.
        assert!(open(&dir).adopt().is_empty());
        drop((reader, outbox));
        assert_eq!(open(&dir).adopt()[0].unfinished().len(), 1);
    }
}

#[test]
fn a_lane_that_was_adopted_may_go_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let dead = open(dir.path());
    append(&dead, 0..500);
    dead.sync().unwrap();
    drop(dead);
    let outbox = open(dir.path());
    let lane = outbox.adopt().remove(0);
    let mut reader = lane.reader("a").unwrap();
    let batch = reader.next(usize::MAX, 20).unwrap().unwrap();
    reader.settle(&batch, Settled::delivered(&batch)).unwrap();
    fs::remove_dir_all(dir.path().join("lanes").join(lane.name())).unwrap();
    let got = deliver(&lane).len() as u64;
    assert_eq!(outbox.counters().lost.by(Loss::Disk), 480 - got);
    drop(reader);
    assert!(lane.remove_if_empty().unwrap());
    let total = totals(dir.path()).unwrap()["a"];
    assert_eq!((total.delivered, total.lost.total()), (20 + got, 480 - got));
}
