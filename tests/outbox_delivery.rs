//! What emitters and readers of a healthy outbox can rely on.
#![cfg(feature = "outbox")]
// The lint knows test functions, not what they call.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use factline::outbox::*;

fn open(dir: &std::path::Path, queues: &[&str]) -> Outbox {
    let mut s = Settings::new(dir);
    s.queues = queues.iter().map(|q| q.to_string()).collect();
    s.ring_bytes = 256 << 10;
    Outbox::open(s).unwrap()
}

fn put(outbox: &Outbox, queue: Queue, payload: &[u8]) {
    let records = [Record { queue, time_ns: 7, content: false, payload }];
    outbox.append(Transaction { records: &records, ..Default::default() }).unwrap();
}

fn all(reader: &mut Reader) -> Vec<Vec<u8>> {
    let mut got = Vec::new();
    while let Some(batch) = reader.next(1 << 20, 1000).unwrap() {
        got.extend(batch.payloads().map(<[u8]>::to_vec));
        reader.settle(&batch, Settled::delivered(&batch)).unwrap();
    }
    got
}

#[test]
fn what_was_appended_is_read_in_order_under_its_header() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open(dir.path(), &["a", "b"]);
    let (a, b) = (outbox.queue("a").unwrap(), outbox.queue("b").unwrap());
    assert!(outbox.queue("c").is_none());
    outbox.set_header(a, b"resource");
    for i in 0..1000u32 {
        put(&outbox, if i % 10 == 0 { b } else { a }, &i.to_le_bytes());
    }
    outbox.drain().unwrap();
    let mut reader = outbox.own().reader("a").unwrap();
    assert_eq!(reader.waiting().records, 900);
    assert_eq!(reader.waiting().oldest_ns, 7);
    let first = reader.next(40, 1000).unwrap().unwrap();
    assert_eq!((&*first.header, first.len(), first.oldest_ns), (&b"resource"[..], 10, 7));
    reader.rewind();
    let got = all(&mut reader);
    assert_eq!(
        got,
        (0..1000u32).filter(|i| i % 10 != 0).map(|i| i.to_le_bytes().to_vec()).collect::<Vec<_>>()
    );
    assert_eq!(reader.waiting(), Waiting::default());
    assert_eq!(all(&mut outbox.own().reader("b").unwrap()).len(), 100);
    let c = outbox.counters();
    assert_eq!((c.accepted, c.written, c.delivered, c.lost.total()), (1000, 1000, 1000, 0));
    let lanes = dir.path().join("lanes");
    assert_eq!(std::fs::read_dir(&lanes).unwrap().count(), 1);
    outbox.close().unwrap();
    assert_eq!(std::fs::read_dir(&lanes).unwrap().count(), 0, "an empty lane goes");
    assert_eq!(totals(dir.path()).unwrap()["a"].delivered, 900);
    let refused = outbox.append(Transaction { end: Some(Key([0; 24])), ..Default::default() });
    assert_eq!(refused, Err(Refused::Closed));
}

#[test]
fn many_threads_lose_and_mix_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open(dir.path(), &["a"]);
    let a = outbox.queue("a").unwrap();
    std::thread::scope(|s| {
        for t in 0..4u32 {
            let outbox = &outbox;
            s.spawn(move || {
                for i in 0..5000u32 {
                    let mut payload = [t as u8; 100];
                    payload[..4].copy_from_slice(&i.to_le_bytes());
                    put(outbox, a, &payload);
                }
            });
        }
    });
    outbox.drain().unwrap();
    let mut next = [0u32; 4];
    for payload in all(&mut outbox.own().reader("a").unwrap()) {
        let t = payload[4];
        assert!(payload[4..].iter().all(|&b| b == t));
        let i = u32::from_le_bytes(payload[..4].try_into().unwrap());
        assert_eq!(i, next[usize::from(t)]);
        next[usize::from(t)] += 1;
    }
    assert_eq!(next, [5000; 4]);
}

#[test]
fn a_batch_never_mixes_two_headers() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open(dir.path(), &["a"]);
    let a = outbox.queue("a").unwrap();
    for header in 0..5u8 {
        outbox.set_header(a, &[header; 10]);
        (0..7).for_each(|_| put(&outbox, a, &[header]));
    }
    outbox.drain().unwrap();
    let mut reader = outbox.own().reader("a").unwrap();
    let mut seen = 0;
    while let Some(batch) = reader.next(1 << 20, 100).unwrap() {
        assert!(batch.payloads().all(|p| *batch.header == [p[0]; 10]));
        seen += batch.len();
    }
    assert_eq!(seen, 35);
}

#[test]
fn batches_settle_in_any_order_and_the_cursor_waits_for_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open(dir.path(), &["a"]);
    let a = outbox.queue("a").unwrap();
    (0..30u8).for_each(|i| put(&outbox, a, &[i]));
    outbox.drain().unwrap();
    let mut reader = outbox.own().reader("a").unwrap();
    let batches: Vec<_> = (0..3).map(|_| reader.next(1000, 10).unwrap().unwrap()).collect();
    assert!(reader.next(1000, 10).unwrap().is_none());
    reader.settle(&batches[2], Settled::partly(&batches[2], 3, Loss::Rejected)).unwrap();
    reader.settle(&batches[1], Settled::delivered(&batches[1])).unwrap();
    assert_eq!(reader.waiting().records, 30);
    let wrong = Settled { delivered: 9, lost: Lost::default() };
    assert!(reader.settle(&batches[0], wrong).is_err());
    reader.settle(&batches[0], Settled::delivered(&batches[0])).unwrap();
    assert_eq!(reader.waiting().records, 0);
    let status = &status(dir.path()).unwrap()[0];
    assert!(status.owner_alive);
    let q = &status.queues[0];
    assert_eq!((q.delivered, q.lost.by(Loss::Rejected), q.waiting.records), (27, 3, 0));
}

#[test]
fn large_records_keep_their_place_and_too_large_ones_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open(dir.path(), &["a"]);
    let a = outbox.queue("a").unwrap();
    put(&outbox, a, b"before");
    put(&outbox, a, &vec![9; 3 << 20]);
    put(&outbox, a, b"after");
    let huge = vec![0; MAX_RECORD + 1];
    let records = [Record { queue: a, time_ns: 1, content: false, payload: &huge }];
    let refused = outbox.append(Transaction { records: &records, ..Default::default() });
    assert_eq!(refused, Err(Refused::TooLarge(MAX_RECORD + 1)));
    outbox.drain().unwrap();
    let got = all(&mut outbox.own().reader("a").unwrap());
    assert_eq!(got.iter().map(Vec::len).collect::<Vec<_>>(), [6, 3 << 20, 5]);
    assert_eq!(outbox.counters().refused, 1);
}

#[test]
fn every_accept_policy_delivers_and_sync_is_on_disk_at_once() {
    for accept in [Accept::Ring, Accept::Write, Accept::Sync] {
        let dir = tempfile::tempdir().unwrap();
        let mut s = Settings::new(dir.path());
        s.queues = vec!["a".into()];
        s.accept = accept;
        let outbox = Outbox::open(s).unwrap();
        let a = outbox.queue("a").unwrap();
        (0..20).for_each(|i| put(&outbox, a, &[i]));
        if accept != Accept::Ring {
            assert_eq!(outbox.counters().written, 20);
        }
        outbox.sync().unwrap();
        assert_eq!(all(&mut outbox.own().reader("a").unwrap()).len(), 20);
    }
}

#[test]
fn the_writer_wakes_whoever_waits() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open(dir.path(), &["a"]);
    let seen = outbox.wait(u64::MAX, Duration::ZERO);
    put(&outbox, outbox.queue("a").unwrap(), b"x");
    let now = outbox.wait(seen, Duration::from_secs(20));
    assert_ne!(now, seen);
    assert_eq!(all(&mut outbox.own().reader("a").unwrap()).len(), 1);
}

#[test]
fn refused_records_are_kept_within_a_bound_and_outlive_the_lane() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open(dir.path(), &["a"]);
    put(&outbox, outbox.queue("a").unwrap(), b"poison");
    outbox.drain().unwrap();
    let mut reader = outbox.own().reader("a").unwrap();
    let batch = reader.next(100, 1).unwrap().unwrap();
    for _ in 0..30 {
        reader.dead_letter(&batch.header, &vec![1; 400 << 10], "400").unwrap();
    }
    reader.settle(&batch, Settled::partly(&batch, 1, Loss::Rejected)).unwrap();
    assert!(check(dir.path()).unwrap().is_empty());
    outbox.close().unwrap();
    assert_eq!(std::fs::read_dir(dir.path().join("dead")).unwrap().count(), 1);
    assert_eq!(totals(dir.path()).unwrap()["a"].lost.by(Loss::Rejected), 1);
}

#[test]
fn closing_a_full_ring_is_quick_and_leaves_everything_in_segments() {
    let dir = tempfile::tempdir().unwrap();
    let mut s = Settings::new(dir.path());
    s.queues = vec!["a".into()];
    let outbox = Outbox::open(s).unwrap();
    let a = outbox.queue("a").unwrap();
    (0..10_000).for_each(|_| put(&outbox, a, &[5; 700]));
    drop(outbox);
    let next = open(dir.path(), &["a"]);
    let lanes = next.adopt();
    assert_eq!(lanes.len(), 1);
    assert_eq!(all(&mut lanes[0].reader("a").unwrap()).len(), 10_000);
    assert!(lanes.into_iter().next().unwrap().remove_if_empty().unwrap());
}
