//! What happens when space, time or permission runs out.
#![cfg(feature = "outbox")]
// The lint knows test functions, not what they call.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use factline::outbox::*;

fn settings(dir: &Path) -> Settings {
    let mut s = Settings::new(dir);
    s.queues = vec!["a".into(), "b".into()];
    s.ring_bytes = 32 << 10;
    s
}

fn put(outbox: &Outbox, queue: Queue, content: bool, n: u32, size: usize) -> Result<(), Refused> {
    let mut payload = vec![0; size];
    payload[..4].copy_from_slice(&n.to_le_bytes());
    let records = [Record { queue, time_ns: 1, content, payload: &payload }];
    outbox.append(Transaction { records: &records, ..Default::default() })
}

fn deliver(lane: &Lane, queue: &str) -> Vec<u32> {
    let mut reader = lane.reader(queue).unwrap();
    let mut got = Vec::new();
    while let Some(batch) = reader.next(1 << 20, 1000).unwrap() {
        got.extend(batch.payloads().map(|p| u32::from_le_bytes(p[..4].try_into().unwrap())));
        reader.settle(&batch, Settled::delivered(&batch)).unwrap();
    }
    got
}

fn usage(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().map(|e| e.unwrap());
    entries.map(|e| if e.path().is_dir() { usage(&e.path()) } else { e.metadata().unwrap().len() }).sum()
}

#[test]
fn the_oldest_goes_when_the_directory_is_full_and_is_counted_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let mut s = settings(dir.path());
    s.max_bytes = 400 << 10;
    let outbox = Outbox::open(s).unwrap();
    let a = outbox.queue("a").unwrap();
    for i in 0..3000 {
        put(&outbox, a, false, i, 500).unwrap();
        if i % 20 == 0 {
            outbox.drain().unwrap();
        }
    }
    outbox.drain().unwrap();
    assert!(usage(dir.path()) <= 400 << 10, "{}", usage(dir.path()));
    let lost = outbox.counters().lost.by(Loss::Full);
    let got = deliver(&outbox.own(), "a");
    assert_eq!(got, (lost as u32..3000).collect::<Vec<_>>());
    assert!(lost > 2000 && got.len() > 300, "{lost} lost");
    let q = status(dir.path()).unwrap()[0].queues[0].clone();
    assert_eq!((q.delivered, q.lost.by(Loss::Full), q.waiting.records), (got.len() as u64, lost, 0));
    outbox.close().unwrap();
    assert_eq!(totals(dir.path()).unwrap()["a"].lost.by(Loss::Full), lost, "also when the lane is gone");
}

#[test]
fn segments_with_content_go_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut s = settings(dir.path());
    s.max_bytes = 600 << 10;
    let outbox = Outbox::open(s).unwrap();
    let (a, b) = (outbox.queue("a").unwrap(), outbox.queue("b").unwrap());
    (0..200).for_each(|i| put(&outbox, a, false, i, 500).unwrap());
    for i in 0..2000 {
        put(&outbox, b, true, i, 500).unwrap();
    }
    outbox.drain().unwrap();
    assert_eq!(deliver(&outbox.own(), "a").len(), 200);
    let lost = outbox.counters().lost.by(Loss::Full) as usize;
    assert!(lost > 0);
    assert_eq!(deliver(&outbox.own(), "b").len(), 2000 - lost);
}

#[test]
fn a_batch_that_was_shed_while_in_flight_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut s = settings(dir.path());
    s.max_bytes = 400 << 10;
    let outbox = Outbox::open(s).unwrap();
    let a = outbox.queue("a").unwrap();
    (0..50).for_each(|i| put(&outbox, a, false, i, 500).unwrap());
    outbox.drain().unwrap();
    let mut reader = outbox.own().reader("a").unwrap();
    let batch = reader.next(1 << 20, 10).unwrap().unwrap();
    (50..2000).for_each(|i| put(&outbox, a, false, i, 500).unwrap());
    outbox.drain().unwrap();
    reader.settle(&batch, Settled::delivered(&batch)).unwrap();
    let got = deliver(&outbox.own(), "a").len() as u64;
    let c = outbox.counters();
    assert_eq!((c.delivered, c.lost.total()), (got, 2000 - got));
}

#[test]
fn what_is_too_old_goes_and_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut s = settings(dir.path());
    s.max_age = Duration::from_millis(20);
    let outbox = Outbox::open(s).unwrap();
    let a = outbox.queue("a").unwrap();
    (0..5).for_each(|i| put(&outbox, a, false, i, 10).unwrap());
    outbox.drain().unwrap();
    let mut reader = outbox.own().reader("a").unwrap();
    let began = Instant::now();
    while reader.next(100, 100).unwrap().is_some() {
        reader.rewind();
        assert!(began.elapsed() < Duration::from_secs(10));
    }
    assert_eq!(outbox.counters().lost.by(Loss::Age), 5);
    assert_eq!(reader.waiting().records, 0);
}

#[test]
fn who_chose_to_block_waits_until_there_is_space_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut s = settings(dir.path());
    s.max_bytes = 256 << 10;
    s.when_full = WhenFull::Block;
    let outbox = Outbox::open(s).unwrap();
    let a = outbox.queue("a").unwrap();
    let got = std::thread::scope(|scope| {
        let emitter = outbox.clone();
        scope.spawn(move || (0..3000).for_each(|i| put(&emitter, a, false, i, 500).unwrap()));
        let (own, mut got, mut seen) = (outbox.own(), Vec::new(), 0);
        while got.len() < 3000 {
            got.extend(deliver(&own, "a"));
            seen = outbox.wait(seen, Duration::from_millis(20));
        }
        got
    });
    assert_eq!(got, (0..3000).collect::<Vec<_>>());
    assert_eq!(outbox.counters().lost.total(), 0);
}

#[test]
fn a_disk_that_refuses_costs_the_oldest_only_once_the_ring_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(settings(dir.path())).unwrap();
    let a = outbox.queue("a").unwrap();
    let queue = dir.path().join("lanes").join(outbox.own().name()).join("a");
    // A file where the queue's directory should be: making a segment fails.
    let aside = dir.path().join("aside");
    fs::rename(&queue, &aside).unwrap();
    fs::write(&queue, b"").unwrap();
    let began = Instant::now();
    outbox.set_header(a, b"res");
    for i in 0..2000 {
        put(&outbox, a, false, i, 100).unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(5), "an emitter never waits for long");
    assert!(outbox.drain().is_err());
    fs::remove_file(&queue).unwrap();
    fs::rename(&aside, &queue).unwrap();
    outbox.drain().unwrap();
    let lost = outbox.counters().lost.by(Loss::Disk);
    let got = deliver(&outbox.own(), "a");
    assert!(lost > 0 && got.len() > 50, "{lost} lost, {} left", got.len());
    assert_eq!(got.len() as u64 + lost, 2000);
    assert_eq!(got.last(), Some(&1999));
    let q = status(dir.path()).unwrap()[0].queues[0].clone();
    assert_eq!((q.lost.by(Loss::Disk), q.lost.total()), (lost, lost), "with its reason, and once");
}

#[test]
fn a_directory_too_open_is_tightened_and_a_symlink_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open = dir.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let outbox = Outbox::open(settings(&open)).unwrap();
    put(&outbox, outbox.queue("a").unwrap(), false, 1, 10).unwrap();
    outbox.drain().unwrap();
    fn modes(path: &Path) {
        let m = fs::metadata(path).unwrap();
        let wanted = if m.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(m.permissions().mode() & 0o777, wanted, "{}", path.display());
        if m.is_dir() {
            fs::read_dir(path).unwrap().for_each(|e| modes(&e.unwrap().path()));
        }
    }
    modes(&open);
    let link = dir.path().join("link");
    symlink(&open, &link).unwrap();
    let error = Outbox::open(settings(&link)).err().unwrap();
    assert!(error.to_string().contains("symbolic link"), "{error}");
    assert_eq!(error.path(), link);
    let foreign = Outbox::open(settings(Path::new("/proc/1/fd"))).err();
    assert!(foreign.is_some());
    for bad in ["", "A", "a/b", "..", "starts"] {
        let mut s = settings(dir.path());
        s.queues = vec![bad.into()];
        assert!(Outbox::open(s).is_err(), "{bad:?}");
    }
}

#[test]
fn purge_takes_what_nobody_owns_and_counts_it() {
    let dir = tempfile::tempdir().unwrap();
    let dead = Outbox::open(settings(dir.path())).unwrap();
    let a = dead.queue("a").unwrap();
    for i in 0..9 {
        put(&dead, a, false, i, 10).unwrap();
    }
    dead.drain().unwrap();
    let mut reader = dead.own().reader("a").unwrap();
    let batch = reader.next(1000, 4).unwrap().unwrap();
    reader.settle(&batch, Settled::partly(&batch, 1, Loss::Rejected)).unwrap();
    let name = dead.own().name().to_owned();
    drop((reader, dead));
    let live = Outbox::open(settings(dir.path())).unwrap();
    let done = purge(dir.path(), &Purge::default()).unwrap();
    assert_eq!((done.lanes, done.held), (vec![name], vec![live.own().name().to_owned()]));
    assert_eq!(done.records, [("a".to_owned(), 5)].into());
    assert_eq!(status(dir.path()).unwrap().len(), 1);
    let total = totals(dir.path()).unwrap()["a"];
    let lost = [Loss::Rejected, Loss::Purged].map(|reason| total.lost.by(reason));
    assert_eq!((total.delivered, lost, total.lost.total()), (3, [1, 5], 6));
    drop(live);
}
