//! Any order of operations against a model of a few lines: nothing lost, nothing invented, all counted.
#![cfg(feature = "outbox")]
// The lint knows test functions, not what they call.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use factline::outbox::*;
use proptest::prelude::*;
use tempfile::TempDir;

#[derive(Debug, Clone)]
enum Op {
    Append(usize),
    Header(u8),
    Drain,
    Sync,
    Read(usize),
    SettleFirst,
    SettleLast,
    Rewind,
    Reopen,
    /// The process dies as it is; another one finds what it left.
    Crash,
    Corrupt(usize),
    /// More than the directory may hold.
    Fill,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (4usize..3000).prop_map(Op::Append),
        1 => (0u8..3).prop_map(Op::Header),
        3 => Just(Op::Drain),
        1 => Just(Op::Sync),
        4 => (1usize..6).prop_map(Op::Read),
        3 => Just(Op::SettleFirst),
        1 => Just(Op::SettleLast),
        1 => Just(Op::Rewind),
        1 => Just(Op::Reopen),
        2 => Just(Op::Crash),
        1 => Just(Op::Fill),
        1 => any::<usize>().prop_map(Op::Corrupt),
    ]
}

fn open(dir: &Path) -> Outbox {
    let mut s = Settings::new(dir);
    s.queues = vec!["a".into()];
    s.ring_bytes = 16 << 10;
    s.segment_bytes = 8 << 10;
    s.max_bytes = 240 << 10;
    Outbox::open(s).unwrap()
}

/// What a process leaves that is killed now: the ring is copied last, because it keeps what the writer's threads
/// take from it meanwhile.
fn copy_of(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    let mut rings = Vec::new();
    let mut left = vec![from.to_owned()];
    while let Some(dir) = left.pop() {
        let place = to.path().join(dir.strip_prefix(from).unwrap());
        std::fs::create_dir_all(&place).unwrap();
        for entry in std::fs::read_dir(&dir).unwrap().map(Result::unwrap) {
            let target = place.join(entry.file_name());
            if entry.path().is_dir() {
                left.push(entry.path());
            } else if entry.file_name() == "ring" {
                rings.push((entry.path(), target));
            } else {
                std::fs::copy(entry.path(), target).unwrap();
            }
        }
    }
    for (ring, target) in rings {
        std::fs::copy(ring, target).unwrap();
    }
    to
}

fn there_is_little_room(outbox: &Outbox) -> bool {
    let waiting = status(outbox.dir()).unwrap().into_iter().flat_map(|lane| lane.queues);
    waiting.map(|queue| queue.waiting.bytes).sum::<u64>() > 100 << 10
}

/// Flips one bit behind the headers of the newest segment of a lane that nobody has open.
fn corrupt(lane: &Path, at: usize) {
    let entries = std::fs::read_dir(lane.join("a")).unwrap().map(|e| e.unwrap().path());
    let mut segments: Vec<_> = entries.filter(|p| p.extension().is_some_and(|e| e == "seg")).collect();
    segments.sort();
    let Some(path) = segments.last() else { return };
    let mut bytes = std::fs::read(path).unwrap();
    let from = 128 + 2 * 37;
    if bytes.len() > from {
        let at = from + at % (bytes.len() - from);
        bytes[at] ^= 0x10;
        std::fs::write(path, bytes).unwrap();
    }
}

fn run(ops: Vec<Op>) {
    let mut dir = tempfile::tempdir().unwrap();
    let (mut outbox, mut lanes): (Outbox, Vec<Lane>) = (open(dir.path()), Vec::new());
    let (mut accepted, mut header, mut hurt) = (Vec::new(), 0u8, 0usize);
    outbox.set_header(outbox.queue("a").unwrap(), &[0]);
    let mut seen: Vec<u32> = Vec::new();
    let check = |batch: &Batch, accepted: &[(u8, usize)], seen: &mut Vec<u32>| {
        for p in batch.payloads() {
            let i = u32::from_le_bytes(p[..4].try_into().unwrap());
            let (header, size) = accepted[i as usize];
            assert_eq!((p.len(), &*batch.header), (size, &[header][..]), "record {i}");
            assert!(p[4..].iter().all(|&b| b == i as u8));
            seen.push(i);
        }
    };
    let mut reader = outbox.own().reader("a").unwrap();
    let mut out: Vec<Batch> = Vec::new();
    for op in ops {
        match op {
            Op::Append(_) | Op::Fill => {
                let (sizes, content) = match op {
                    Op::Append(size) => (vec![size], false),
                    _ => (vec![6_000; 45], true),
                };
                for size in sizes {
                    let i = accepted.len() as u32;
                    let mut payload = vec![i as u8; size];
                    payload[..4].copy_from_slice(&i.to_le_bytes());
                    let a = outbox.queue("a").unwrap();
                    let records = [Record { queue: a, time_ns: 1, content, payload: &payload }];
                    outbox.append(Transaction { records: &records, ..Default::default() }).unwrap();
                    accepted.push((header, size));
                }
            }
            Op::Header(h) => {
                header = h;
                outbox.set_header(outbox.queue("a").unwrap(), &[h]);
            }
            Op::Drain => outbox.drain().unwrap(),
            Op::Sync => outbox.sync().unwrap(),
            Op::Read(n) => {
                if let Some(batch) = reader.next(4000, n).unwrap() {
                    check(&batch, &accepted, &mut seen);
                    out.push(batch);
                }
            }
            Op::SettleFirst if !out.is_empty() => {
                let batch = out.remove(0);
                reader.settle(&batch, Settled::delivered(&batch)).unwrap();
            }
            Op::SettleLast => {
                if let Some(batch) = out.pop() {
                    reader.settle(&batch, Settled::delivered(&batch)).unwrap();
                }
            }
            Op::Rewind => {
                reader.rewind();
                out.clear();
            }
            Op::Reopen | Op::Corrupt(_) => {
                out.clear();
                let lane = dir.path().join("lanes").join(outbox.own().name());
                drop(reader);
                drop(outbox);
                if let (Op::Corrupt(at), true) = (&op, lane.exists()) {
                    let _ = std::fs::remove_file(lane.join("ring"));
                    corrupt(&lane, *at);
                    hurt += 1;
                }
                outbox = open(dir.path());
                outbox.set_header(outbox.queue("a").unwrap(), &[header]);
                lanes.extend(outbox.adopt());
                reader = outbox.own().reader("a").unwrap();
            }
            Op::Crash => {
                out.clear();
                // While segments are shed, a copy is not what one moment was.
                if there_is_little_room(&outbox) {
                    outbox.drain().unwrap();
                }
                let left = copy_of(dir.path());
                drop((reader, lanes));
                drop(std::mem::replace(&mut outbox, open(left.path())));
                dir = left;
                outbox.set_header(outbox.queue("a").unwrap(), &[header]);
                lanes = outbox.adopt();
                reader = outbox.own().reader("a").unwrap();
            }
            Op::SettleFirst => {}
        }
    }
    outbox.drain().unwrap();
    lanes.push(outbox.own());
    for lane in &lanes {
        let mut reader = lane.reader("a").unwrap();
        reader.rewind();
        while let Some(batch) = reader.next(1 << 20, 100).unwrap() {
            check(&batch, &accepted, &mut seen);
            reader.settle(&batch, Settled::delivered(&batch)).unwrap();
        }
        assert_eq!(reader.waiting().records, 0);
    }
    // The books: what is delivered, lost or waiting, in lanes that are there and lanes that went.
    let there = status(dir.path()).unwrap();
    let queues = there.iter().flat_map(|l| &l.queues);
    let shed = queues.clone().map(|q| q.lost.by(Loss::Full)).sum::<u64>();
    let gone = totals(dir.path()).unwrap().get("a").copied().unwrap_or_default();
    let booked = queues.map(|q| q.delivered + q.lost.total() + q.waiting.records).sum::<u64>();
    let booked = (booked + gone.delivered + gone.lost.total()) as usize;
    // A hurt last frame is only missed when something follows it.
    assert!((accepted.len() - hurt.min(accepted.len())..=accepted.len()).contains(&booked), "{booked}");
    let shed = (shed + gone.lost.by(Loss::Full)) as usize;
    let by_reason = |lost: &Lost| Loss::ALL.map(|reason| (reason.name(), lost.by(reason)));
    let reasons: Vec<_> =
        there.iter().flat_map(|lane| &lane.queues).map(|queue| by_reason(&queue.lost)).collect();
    seen.sort_unstable();
    seen.dedup();
    assert!(
        accepted.len() - seen.len() <= hurt + shed,
        "{} of {} lost by {hurt} flips, {shed} shed; {reasons:?}, in lanes that went {:?}",
        accepted.len() - seen.len(),
        accepted.len(),
        by_reason(&gone.lost)
    );
}

/// `PROPTEST_CASES`, else few enough for everyday.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_only_damage_and_a_full_directory_lose_and_every_loss_is_counted(ops in prop::collection::vec(op(), 1..60)) {
        run(ops);
    }
}

#[test]
fn a_segment_deleted_behind_its_readers_is_not_taken_for_removed_and_headers_stay_apart() {
    use Op::*;
    for _ in 0..50 {
        let found =
            [Header(1), Drain, Append(4), Drain, Read(1), Header(2), Drain, Sync, Append(4), Append(4)];
        run(found.to_vec());
    }
}
